"""A diagnosis of hand-made predictions: every number of every table, and what is said where something is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mer_lightning.evaluation.diagnosis import (
    CEILING,
    ORACLE,
    Views,
    discrimination,
    filtering,
    masking,
    measures,
    over_runs,
    picking,
    tables,
    unimodal,
)
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task

# Five samples; the last has no sign. Text contradicts in the first, vision in the third.
TARGET = [1.0, -2.0, 2.0, -1.0, 0.0]
SAID = {
    "t": [-1.0, -1.0, 2.0, 1.0, 3.0],
    "a": [1.0, -1.0, 2.0, -1.0, 3.0],
    "v": [1.0, 1.0, -2.0, -1.0, 3.0],
    "ta": [0.5, -2.0, 2.0, -0.5, 1.0],
    "tv": [-0.5, 1.0, -1.0, 0.5, 1.0],
    "av": [1.0, -1.0, 1.0, -1.0, 2.0],
    "tav": [-0.5, -1.0, -1.0, -0.5, 1.0],
}
LOGITS = {name: torch.tensor(values).unsqueeze(1) for name, values in SAID.items()}


@pytest.fixture
def views() -> Views:
    """Its own confidence is highest, for the first sample, without text; for the third, without audio."""
    confidence = {name: torch.full((5,), 0.5) for name in SAID}
    confidence["av"] = torch.tensor([0.9, 0.1, 0.1, 0.1, 0.1])
    confidence["tv"] = torch.tensor([0.1, 0.1, 0.9, 0.1, 0.1])
    contradicting = torch.tensor([0, -1, 2, -1, -1])
    return Views(Regression(), torch.tensor(TARGET), LOGITS, "tav", confidence, contradicting, {"best possible": 0.2})


def test_some_of_the_samples(views: Views) -> None:
    some = torch.arange(len(views.target)) > 0
    assert views.contradicting is not None
    assert views.of(some).contradicting.tolist() == views.contradicting[1:].tolist()
    assert replace(views, contradicting=None).of(some).contradicting is None


def test_masking_by_hand(views: Views) -> None:
    """Complete: wrong, right, wrong, right. Without text all right; without audio all wrong; without vision right."""
    rows = masking(views).set_index("masked")
    assert rows["rescued"].to_dict() == {"text": 2, "audio": 0, "vision": 2, "any": 2}
    assert rows["spoiled"].to_dict() == {"text": 0, "audio": 2, "vision": 0, "any": 2}
    assert set(rows["errors"]) == set(rows["hits"]) == {2}
    assert rows["rescue_rate"].to_dict() == {"text": 1, "audio": 0, "vision": 1, "any": 1}
    assert rows["movement"].to_dict()["text"] == pytest.approx((1.5 + 0 + 2 + 0.5 + 1) / 5)
    assert rows["movement"].to_dict()["audio"] == pytest.approx((0 + 2 + 0 + 1 + 0) / 5)
    # MAE: complete (1.5 + 1 + 3 + .5 + 1) / 5 = 1.4, without text (0 + 1 + 1 + 0 + 2) / 5 = .8.
    assert rows["fall"].to_dict()["text"] == pytest.approx(0.8 - 1.4)
    assert rows["fall"].to_dict()["audio"] == pytest.approx((1.5 + 3 + 3 + 1.5 + 1) / 5 - 1.4)


def test_unimodal_by_hand(views: Views) -> None:
    """Signs, first four samples: text - - + +, audio + - + -, vision + + - -; all agree on none."""
    rows = unimodal(views).set_index("predictions")
    assert rows.loc["all agree", "samples"] == 0
    text_audio = rows.loc["text against audio"]
    assert (text_audio["samples"], text_audio["share"]) == (2, 0.5)  # the first and the fourth
    assert (text_audio["first_right"], text_audio["second_right"], text_audio["neither_right"]) == (0, 1, 0)
    assert text_audio["complete_right"] == 0.5
    text_vision = rows.loc["text against vision"]
    assert (text_vision["samples"], text_vision["first_right"], text_vision["second_right"]) == (4, 0.5, 0.5)
    audio_vision = rows.loc["audio against vision"]
    assert (audio_vision["samples"], audio_vision["first_right"], audio_vision["second_right"]) == (2, 1, 0)


def test_agreement_and_who_is_right_then() -> None:
    task = SingleLabel(("x", "y", "z"))
    said = {"t": [0, 1, 2, 0], "v": [0, 1, 2, 1], "tv": [0, 1, 1, 2]}
    logits = {name: 5 * torch.eye(3)[values] for name, values in said.items()}
    rows = unimodal(Views(task, torch.tensor([0, 0, 1, 2]), logits, "tv")).set_index("predictions")
    agreed = rows.loc["all agree"]
    assert (agreed["samples"], agreed["share"]) == (3, 0.75)
    right = ["first_right", "second_right", "neither_right", "complete_right"]
    assert agreed[right].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    against = rows.loc["text against vision"]
    assert against[["samples", "first_right", "second_right", "neither_right", "complete_right"]].tolist() == [
        1, 0, 0, 1, 1,
    ]  # fmt: skip


def test_discrimination_by_hand(views: Views) -> None:
    """Complete: |-.5| wrong, |-1| right, |-1| wrong, |-.5| right: pairs (1 + .5 + .5 + 0) / 4."""
    rows = discrimination(views).set_index("condition")
    assert rows.loc["tav", ["right", "samples"]].tolist() == [2, 4]
    assert rows.loc["tav", "trivial score"] == pytest.approx(0.5)
    assert rows.loc["tav", "confidence"] == 0.5  # constant
    assert rows.loc["t", "trivial score"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)  # right -1 and 2, wrong -1 and 1


def test_picking_by_hand(views: Views) -> None:
    """First sample, without t a v: .9 .1 .5, |1| |-.5| |.5|, exp(0) exp(-1.5) exp(-.5): text. Third: audio, vision."""
    rows = picking(views).set_index("picked by")["share"].to_dict()
    assert rows["confidence"] == 0.5  # text, and then audio in place of vision
    assert rows["trivial score"] == 1  # third: |1| |-1| |2|
    assert rows[ORACLE] == 1
    assert rows["always text"] == 0.5
    assert rows["chance"] == pytest.approx(1 / 3)


def test_filtering_by_hand(views: Views) -> None:
    rows = filtering(views).set_index("predictions")
    assert rows.loc["nothing masked", "all"] == pytest.approx(1.4)
    assert rows.loc["nothing masked", "contradicted"] == pytest.approx((1.5 + 3) / 2)
    assert rows.loc[CEILING, "all"] == pytest.approx((0 + 1 + 0 + 0.5 + 1) / 5)
    assert rows.loc[CEILING, "contradicted"] == 0
    # By confidence: without text, complete, without audio, complete (.5 against .5 and .1), complete.
    assert rows.loc["masked by confidence", "all"] == pytest.approx((0 + 1 + 3 + 0.5 + 1) / 5)
    # By |p|: without text; without vision; without vision; without text; without text.
    assert rows.loc["masked by trivial score", "all"] == pytest.approx((0 + 0 + 0 + 0 + 2) / 5)
    assert rows.loc["best possible", "all"] == 0.2
    assert rows.loc["nothing masked", ["samples", "contradicted_samples"]].tolist() == [5, 2]


def test_scores_of_one_setting_are_gathered_over_seeds(views: Views) -> None:
    other = replace(views, logits={name: -values for name, values in LOGITS.items()}, confidence={})
    one, two = measures(views), measures(other)
    rows = over_runs({"one": [one, one], "both": [one, two]}).set_index(["label", "measure"])
    assert rows.loc[("one", "rescue rate, text"), ["mean", "std", "runs"]].tolist() == [1, 0, 2]
    ceiling = f"MAE, {CEILING}"
    assert rows.loc[("both", ceiling), "mean"] == pytest.approx((0.5 + two[ceiling]) / 2)
    assert rows.loc[("both", "AUROC of confidence"), "runs"] == 1
    assert over_runs({"none": [measures(replace(views, logits={"t": LOGITS["t"]}))]}).empty


@pytest.mark.parametrize("task", [SingleLabel(("x", "y", "z")), MultiLabel(("x", "y"))])
def test_classes_work_too(task: Task) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(40, task.outputs, generator=draw) for name in SAID}
    target = torch.randint(0, 2, (40,) if task.kind == "single_label" else (40, 2), generator=draw)
    contradicting = torch.randint(-1, 3, (40,), generator=draw)
    views = Views(task, target if task.kind == "single_label" else target.float(), logits, contradicting=contradicting)
    assert len(tables(views)) == 5
    rows = masking(views).set_index("masked")
    right = {name: int(task.right(values, views.target).sum()) for name, values in logits.items()}
    for masked, name in (("text", "av"), ("audio", "tv"), ("vision", "ta")):
        # Right without it = right with everything, less what is spoilt, and what is rescued.
        assert right[name] == right["tav"] + rows.loc[masked, "rescued"] - rows.loc[masked, "spoiled"]


# What is missing


def test_two_modalities_are_diagnosed_without_the_third() -> None:
    logits = {name: LOGITS[name] for name in ("t", "v", "tv")}
    views = Views(Regression(), torch.tensor(TARGET), logits, "tv")
    assert (views.unusable, views.untested) == (None, [])
    assert list(masking(views)["masked"]) == ["text", "vision", "any"]
    assert list(unimodal(views)["predictions"]) == ["all agree", "text against vision"]
    whole = replace(views, logits={"tav": LOGITS["tv"], "t": LOGITS["t"], "v": LOGITS["v"]})  # shows what there is
    assert masking(whole)["rescued"].tolist() == masking(views)["rescued"].tolist()


@pytest.mark.parametrize(
    ("tested", "letters", "unusable", "untested", "titles"),
    [
        ([], "tav", "the complete input, tav, was not tested", 7, 0),
        (["t", "a"], "tav", "the complete input, tav, was not tested", 5, 0),
        (["t"], "t", "the corpus has one modality, which cannot be masked", 1, 0),
        (["tav"], "tav", None, 6, 1),
        (["tav", "ta"], "tav", None, 5, 2),
        (["tav", "t", "a"], "tav", None, 4, 2),
    ],
)
def test_what_was_not_tested_is_said(
    tested: list[str], letters: str, unusable: str | None, untested: int, titles: int, views: Views
) -> None:
    fewer = {name: LOGITS[name] for name in tested}
    found = replace(views, logits=fewer, letters=letters, confidence={})
    assert found.unusable == unusable
    assert len(tables(found)) == titles
    assert bool(measures(found)) == bool(titles)
    if len(letters) > 1:
        assert len(found.untested) == untested
    if titles:
        assert any("not tested" in line for line in found.missing)
        assert any("every combination that lacks one modality" in line for line in found.missing)


def test_diverged_predictions_are_not_diagnosed(views: Views) -> None:
    broken = replace(views, logits=LOGITS | {"av": torch.full((5, 1), torch.nan)})
    assert broken.unusable == "predictions are not finite under av"
    assert tables(broken) == {}


def test_a_corpus_without_contradiction_has_nothing_to_filter(views: Views) -> None:
    quiet = replace(views, contradicting=torch.full((5,), -1))
    assert len(tables(quiet)) == 3
    assert any("nothing to pick" in line for line in quiet.missing)
