"""Conditions and protocols: frozen masks are functions of the protocol, its seed and the split alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mer_lightning.data.corpus import Split, open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.evaluation import protocols
from mer_lightning.evaluation.protocols import PROTOCOLS, FrozenProtocol, Protocol, averages, freeze
from mer_lightning.masks.conditions import FrameCondition, condition_named, in_our_order, our_combination
from mer_lightning.masks.drawing import imder_mask
from mer_lightning.masks.frames import mask_frames
from mer_lightning.masks.rates import FRAME_KINDS
from mer_lightning.masks.training import UniformCombinations, WeightedCombinations
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present
from mer_lightning.randomness import name_key

# These must never change, because published results have them.
GOLDEN_WHOLE = "e05ffe22487be9cb"
GOLDEN_FRAMES = "f50f297e6d87e898"
GOLDEN_LNLN = "90b86a698d72d264"


def frozen(names: list[str], samples: int = 100, seed: int = 0, steps: int = 0) -> FrozenProtocol:
    """A protocol on a split of which only the lengths exist: sample i has 1 + i % steps frames."""
    protocol = Protocol(names, seed)
    present = torch.stack([condition.present(samples, seed) for condition in protocol.conditions])
    lengths = {m: 1 + torch.arange(samples) % steps for m in MODALITIES} if steps else {}
    return FrozenProtocol(Protocol(protocol.names, seed), present, lengths)


@pytest.fixture
def split(tiny_corpus) -> Split:
    return open_corpus(tiny_corpus(alignment="aligned")).split("official", "train")


def names(protocol: Protocol) -> list[str]:
    return [condition.name for condition in protocol.conditions]


def test_protocols_hold_the_conditions_of_the_field() -> None:
    assert names(Protocol(["fixed-7"])) == ["t", "a", "v", "ta", "tv", "av", "tav"]
    assert names(Protocol(["fixed-6"])) == ["t", "a", "v", "ta", "tv", "av"]
    assert names(Protocol(["rate-cpm"])) == [f"rate-cpm-0.{tenth}" for tenth in range(1, 8)]
    assert names(Protocol(["rate-imder"])) == [f"rate-imder-0.{tenth}" for tenth in range(1, 8)]
    for kind in FRAME_KINDS:
        assert names(Protocol([kind])) == [f"{kind}-0.{tenth}" for tenth in range(10)]
    assert names(Protocol(["unseen-ta-v"])) == list(COMBINATIONS)


def test_a_condition_in_two_protocols_occurs_once() -> None:
    both = Protocol(["tav", "fixed-7", "rate-cpm-0.5", "rate-cpm", "fixed-6"])
    assert names(both)[:4] == ["tav", "t", "a", "v"]
    assert len(names(both)) == len(set(names(both))) == 7 + 7
    assert both.seed == 0
    assert str(both) == "tav + fixed-7 + rate-cpm-0.5 + rate-cpm + fixed-6"


def test_every_name_gives_its_condition() -> None:
    every = [name for conditions in PROTOCOLS.values() for name in conditions]
    for name in [*every, "modality-rates-0.3-0.5-0.7", "rate-cpm-0.25", "rmfm-1.0"]:
        condition = condition_named(name)
        assert condition is not None
        assert condition.name == name
    assert condition_named("rate-cpm-0.50") == condition_named("rate-cpm-0.5")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["fixd-7"], ["'fixd-7'", "did you mean fixed-7"]),
        (["rate-cmp-0.5"], ["'rate-cmp-0.5'", "did you mean rate-cpm-0.5"]),
        (["atv"], ["'atv'", "did you mean tav?"]),
        (["azl"], ["did you mean ta?"]),
        (["qqq"], ["'qqq'", "rate-imder", "mer-lightning docs protocols"]),
        (["rate-cpm-0.8"], ["rate-cpm-0.8", "between 0 and 0.7"]),
        (["rate-imder-0.15"], ["rate-imder-0.15", "0.1, 0.2"]),
        (["rmfm-1.5"], ["rmfm-1.5", "between 0 and 1"]),
        (["modality-rates-0.3-1.5-0.7"], ["modality-rates-0.3-1.5-0.7", "1.5"]),
        (["unseen-at"], ["'at'", "did you mean ta?"]),
        (["unseen-t-a-v-ta-tv-av-tav"], ["at least one seen"]),
        (["unseen-t", "unseen-a"], ["unseen-t and unseen-a"]),
        ([], ["at least one"]),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(given: list[str], words: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        Protocol(given)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_masks_of_fixed_and_drawn_conditions(split: Split) -> None:
    fixed = freeze(Protocol(["fixed-7", "rate-imder-0.4", "rmfm_same-0.5"], seed=3), split)
    assert fixed.present.shape == (9, len(split), 3)
    for number, name in enumerate(COMBINATIONS):
        assert (fixed.present[number] == torch.tensor(combination_present(name))).all()
    assert torch.equal(fixed.present[7], imder_mask(0.4, len(split), 3, name_key("rate-imder-0.4")))
    assert fixed.present[8].all()
    assert fixed.present.any(2).all()


def test_a_condition_does_not_depend_on_the_other_conditions() -> None:
    alone, together = frozen(["rate-cpm-0.5"]), frozen(["fixed-7", "rate-cpm", "modality-rates-0.3-0.5-0.7"])
    position = [condition.name for condition in together.conditions].index("rate-cpm-0.5")
    assert torch.equal(alone.present[0], together.present[position])
    assert not torch.equal(together.present[position], together.present[position - 1])


def test_masked_frames_depend_on_name_and_seed(split: Split) -> None:
    batch = split.batch(torch.tensor([4, 0, 2]))
    condition = condition_named("tmfm-0.5")
    assert condition is not None
    assert not condition.masks_whole_modalities
    expected = mask_frames(batch, "tmfm", 0.5, 9, name_key("tmfm-0.5"))
    applied = condition.apply(batch, 9)
    assert all(torch.equal(applied.features[m], expected.features[m]) for m in MODALITIES)
    assert not torch.equal(condition.apply(batch, 8).features["text"], applied.features["text"])
    for name in ("tav", "rate-cpm-0.5", "rmfm-0.0"):
        whole = condition_named(name)
        assert whole is not None
        assert whole.masks_whole_modalities
        assert torch.equal(whole.apply(batch, 9).features["text"], batch.features["text"])


def lost(kind: str, rate: float, seed: int = 0) -> dict[str, torch.Tensor]:
    """The frames that a condition removes from 50 samples of 30 steps."""
    condition = condition_named(f"{kind}-{rate}")
    assert isinstance(condition, FrameCondition)
    return condition.removed(torch.arange(50), {m: torch.ones(50, 30, dtype=torch.bool) for m in MODALITIES}, seed)


def test_rates_of_rmfm_lnln_share_their_draws_and_those_of_other_kinds_do_not() -> None:
    for kind in FRAME_KINDS:
        low, high = lost(kind, 0.3), lost(kind, 0.6)
        nested = [bool((high[m] | ~low[m]).all()) for m in MODALITIES]
        assert nested == [kind == "rmfm_lnln"] * 3, kind
    less, more = lost("rmfm_lnln", 0.3)["text"], lost("rmfm_lnln", 0.6)["text"]
    assert float(less.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(more.double().mean()) == pytest.approx(0.6, abs=0.03)
    assert (less != lost("rmfm_lnln", 0.3, seed=1)["text"]).any()


def test_hashes_are_what_they_always_were() -> None:
    assert frozen(["fixed-7", "rate-cpm"]).mask_hash == GOLDEN_WHOLE
    older = ["rmfm_same", "rmfm", "tmfm", "stmfm", "rate-imder", "modality-rates-0.3-0.5-0.7"]
    assert frozen(older, steps=9).mask_hash == GOLDEN_FRAMES
    assert frozen(["rmfm_lnln"], steps=9).mask_hash == GOLDEN_LNLN


def test_any_change_of_masks_changes_the_hash() -> None:
    asked = ["rate-cpm-0.5", "rmfm_same-0.5"]
    hashes = [
        frozen(asked, steps=9).mask_hash,
        frozen(asked[::-1], steps=9).mask_hash,
        frozen(asked[:1], steps=9).mask_hash,
        frozen(asked, steps=9, seed=1).mask_hash,
        frozen(asked, steps=8).mask_hash,
        frozen(asked, steps=9, samples=101).mask_hash,
    ]
    assert len(set(hashes)) == len(hashes)
    one_cell = frozen(["rate-cpm-0.5"])
    one_cell.present[0, 50, 1] ^= True
    assert one_cell.mask_hash != frozen(["rate-cpm-0.5"]).mask_hash


def test_the_hash_is_of_the_frames_that_are_masked(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a frame condition equals that of the frames that ``apply`` sets to 0, sample by sample."""
    import hashlib

    protocol = freeze(Protocol(["rmfm-0.5"], seed=2), split)
    (condition,) = protocol.conditions
    expected = {}
    for m in MODALITIES:
        digest = hashlib.sha256()
        for row in range(len(split)):
            batch = split.batch(torch.tensor([row]))
            shown = condition.apply(batch, protocol.seed).features[m][0]
            digest.update(bytes(int(not frame.any()) for frame in shown))
        expected[m] = digest.hexdigest()
    assert protocol._frame_digests(condition) == expected  # type: ignore[arg-type]
    monkeypatch.setattr(protocols, "_SAMPLES_AT_ONCE", 7)
    assert protocol._frame_digests(condition) == expected  # type: ignore[arg-type]


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "import torch; from mer_lightning.evaluation.protocols import *;"
        "p = Protocol(['fixed-7', 'rate-cpm']);"
        "print(FrozenProtocol(p, torch.stack([c.present(100, 0) for c in p.conditions]), {}).mask_hash)"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "12", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)
    assert done.stdout.strip() == GOLDEN_WHOLE, done.stderr


TWO = ("text", "audio")


@pytest.mark.parametrize("name", ["fixed-7", "tv", "tav", "modality-rates-0.1-0.2-0.3", "rate-cpm-0.6"])
def test_conditions_that_a_corpus_cannot_meet_are_refused_with_a_list_that_it_can(name: str) -> None:
    with pytest.raises(Refusal, match="conditions for text and audio, which the corpus has") as refused:
        Protocol([name], modalities=TWO)
    listed = re.search(r"'\[(.*)\]'", str(refused.value))
    assert listed is not None
    assert names(Protocol(listed[1].split(", "), modalities=TWO)) == listed[1].split(", ")
    with pytest.raises(Refusal, match="which the corpus has"):
        Protocol(["rate-cpm-0.1"], modalities=("vision",))


def test_what_a_corpus_decides() -> None:
    assert names(Protocol(["combinations"], modalities=TWO)) == ["t", "a", "ta"]
    assert names(Protocol(["complete"], modalities=("audio", "vision"))) == ["av"]
    assert names(Protocol(["combinations"], modalities=("vision",))) == ["v"]
    assert names(Protocol(["rate-imder"], modalities=TWO)) == [f"rate-imder-0.{tenth}" for tenth in range(1, 6)]
    seven = Protocol(["combinations", "rate-cpm"])
    assert str(seven) == "fixed-7 + rate-cpm"
    assert names(seven) == names(Protocol(["fixed-7", "rate-cpm"]))
    two = Protocol(["combinations", "rate-cpm"], modalities=TWO)
    assert str(two) == "combinations + rate-cpm"
    values = {"t": 1.0, "a": 2.0, "ta": 6.0} | {f"rate-cpm-0.{tenth}": 1.0 * tenth for tenth in range(1, 6)}
    assert averages(values, two) == {"mean-3": 3.0, "mean-rate-cpm": 3.0}


def test_what_no_sample_of_a_split_has_is_left_out(tiny_raw, tmp_path: Path, tiny_corpus) -> None:
    raw = tiny_raw()
    raw.features["vision"].lengths[:] = 0
    write_corpus(raw, tmp_path / "two", "two")
    two = open_corpus(tmp_path / "two").everything()
    frozen = freeze(Protocol(["fixed-7", "rate-cpm-0.2", "rmfm"]), two)
    assert [condition.name for condition in frozen.conditions][:4] == ["t", "a", "ta", "rate-cpm-0.2"]
    assert not frozen.present[..., 2].any()
    assert frozen.present[:2].sum((1, 2)).tolist() == [60, 60]
    assert 1 - float(frozen.present[3, :, :2].double().mean()) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(Refusal, match="which the corpus has; found tv"):
        freeze(Protocol(["tv"]), two)
    unaligned = open_corpus(tiny_corpus()).everything()
    with pytest.raises(Refusal, match=r"tmfm-0\.1.*same steps"):
        freeze(Protocol(["tmfm-0.1"]), unaligned)


def test_means_over_combinations_and_rates() -> None:
    values = {name: float(number) for number, name in enumerate(COMBINATIONS)}
    assert averages(values, Protocol(["fixed-7"])) == {"mean-7": 3.0, "mean-6": 2.5}
    incomplete = {name: value for name, value in values.items() if name != "tav"}
    assert averages(incomplete, Protocol(["fixed-6"])) == {"mean-6": 2.5}
    assert averages({"t": 1.0, "tav": 2.0}, Protocol(["t", "tav"])) == {}
    rates = {f"rate-cpm-0.{tenth}": tenth / 10 for tenth in range(1, 8)}
    assert averages(rates, Protocol(["rate-cpm"])) == {"mean-rate-cpm": pytest.approx(0.4)}
    one_more = averages(rates | {"rate-imder-0.1": 1.0}, Protocol(["rate-cpm", "rate-imder-0.1"]))
    assert one_more.keys() == {"mean-rate-cpm"}


def test_seen_and_unseen_combinations_are_averaged_apart() -> None:
    values = {"t": 1.0, "a": 2.0, "v": 4.0, "ta": 8.0, "tv": 16.0, "av": 32.0, "tav": 64.0}
    actual = averages(values, Protocol(["unseen-v-ta"]))
    assert actual["mean-unseen"] == (4 + 8) / 2
    assert actual["mean-seen"] == (1 + 2 + 16 + 32 + 64) / 5
    assert actual["mean-7"] == 127 / 7


def test_training_with_unseen_combinations_is_refused() -> None:
    protocol = Protocol(["unseen-v-ta"])
    protocol.refuse_if_shown(WeightedCombinations({"t": 1, "a": 1, "tv": 1, "av": 1, "tav": 1}).present(500, 0, 0))
    with pytest.raises(Refusal, match="without v; found some that show it"):
        protocol.refuse_if_shown(UniformCombinations().present(500, 0, 0))


def test_area_under_the_curve_of_frame_rates() -> None:
    straight = {f"rmfm_same-0.{tenth}": 1 - tenth / 10 for tenth in range(10)}
    actual = averages(straight, Protocol(["rmfm_same"]))
    assert actual == {"mean-rmfm_same": pytest.approx(0.55), "auilc-rmfm_same": pytest.approx(0.9 - 0.9**2 / 2)}
    peak = dict.fromkeys(straight, 0.0) | {"rmfm_same-0.0": 1.0}
    assert averages(peak, Protocol(["rmfm_same"]))["auilc-rmfm_same"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *zip(("a", "t", "v", "at", "av", "tv", "atv"), ("a", "t", "v", "ta", "av", "tv", "tav"), strict=True),  # GCNet
        *zip(("azz", "zvz", "zzl", "avz", "azl", "zvl"), ("a", "v", "t", "av", "ta", "tv"), strict=True),  # MMIN
        *zip(("{l}", "{v}", "{a}", "{l,v}", "{l, a}", "{l,v,a}"), ("t", "v", "a", "tv", "ta", "tav"), strict=True),
        ("zzz", None),
        ("fixed", None),
        ("tt", None),
    ],
)
def test_combinations_of_other_repositories(theirs: str, ours: str | None) -> None:
    assert our_combination(theirs) == ours


def test_columns_of_other_repositories() -> None:
    azl = torch.tensor([[True, False, True]])  # MMIN: audio, vision, language
    assert in_our_order(azl, "avl").tolist() == [[True, True, False]]
    gcnet = torch.tensor([[1, 2, 3]])  # audio, text, vision
    assert in_our_order(gcnet, "atv").tolist() == [[2, 1, 3]]
