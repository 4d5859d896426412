"""MAG: a gate worked out by hand, plain BERT where nothing shifts, and what is absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mer_lightning.backbones.mag import MAG
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from tests.tiny_encoders import LAYERS, WIDTH, tiny_encoder, with_tokens

transformers = pytest.importorskip("transformers")
TOKEN_DIMS = DIMS | {"text": 1}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tiny_encoder(tmp_path / "bert"))


def states(mag: MAG, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return mag.eval().fuse(mag.encode(batch), batch.present)


def plain_bert(folder: str, batch: Batch) -> torch.Tensor:
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids, mask = batch.features["text"][:, :, 0].long(), batch.key_mask("text").long()
        return peer(input_ids=ids, attention_mask=mask).pooler_output


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("gate_after", [0, 1, LAYERS])
@pytest.mark.parametrize("how", ["beta", "gates", "absent"])
def test_without_a_shift_it_is_plain_bert(tmp_path: Path, family: str, gate_after: int, how: str) -> None:
    """Random BERTs end a layer in a norm without a scale, which the gate's own norm repeats without a difference."""
    folder = str(tiny_encoder(tmp_path, family))
    mag = MAG(TOKEN_DIMS, folder, gate_after=gate_after, beta=0.0 if how == "beta" else 1.0)
    batch = with_tokens(make_batch("aligned"))
    if how == "gates":
        for gate in mag.gates.values():
            torch.nn.init.zeros_(gate.weight)
            torch.nn.init.zeros_(gate.bias)
    if how == "absent":
        batch = batch.limited_to(torch.tensor([True, False, False]))
    # RoBERTa's padding id is 1, and its positions skip it: the peer must be given it, too.
    padding = mag.bert.config.pad_token_id
    given = batch.features["text"].where(batch.key_mask("text").unsqueeze(2), padding)
    expected = plain_bert(folder, replace(batch, features=batch.features | {"text": given}))
    torch.testing.assert_close(states(mag, batch), expected, rtol=1e-4, atol=1e-4)


def test_a_shift_changes_plain_bert(folder: str) -> None:
    batch = with_tokens(make_batch("aligned"))
    assert (states(MAG(TOKEN_DIMS, folder), batch) - plain_bert(folder, batch)).abs().max() > 1e-2


def by_hand(folder: str, beta: float) -> tuple[MAG, torch.Tensor]:
    """A gate of two dimensions, with one audio number 2, one vision number -1 and the word (3, 4)."""
    mag = MAG({"text": 1, "audio": 1, "vision": 1}, folder, beta=beta).eval()
    layers = {"gates": {}, "shifts": {}}
    for m in ("audio", "vision"):
        layers["gates"][m], layers["shifts"][m] = torch.nn.Linear(3, 2), torch.nn.Linear(1, 2)
    mag.gates, mag.shifts = (torch.nn.ModuleDict(layers[part]) for part in layers)
    mag.norm = torch.nn.Identity()
    with torch.no_grad():
        mag.gates["audio"].weight.copy_(torch.tensor([[1.0, 1, 0], [0, -1, 0]]))  # (2 + 3, -3) + bias
        mag.gates["audio"].bias.copy_(torch.tensor([1.0, 2]))  # ReLU -> (6, 0)
        mag.shifts["audio"].weight.copy_(torch.tensor([[1.0], [5]]))
        mag.shifts["audio"].bias.copy_(torch.tensor([0.5, 0]))  # (2.5, 10) -> 6 * 2.5 = 15, 0
        mag.gates["vision"].weight.copy_(torch.tensor([[0.0, 0, 1], [1, 0, 1]]))  # (4, 3)
        mag.gates["vision"].bias.zero_()
        mag.shifts["vision"].weight.copy_(torch.tensor([[-1.0], [2]]))
        mag.shifts["vision"].bias.copy_(torch.tensor([0.0, 22.0 / 3]))  # (1, 16/3) -> (4, 16)
    return mag, torch.tensor([[[3.0, 4.0]]])


@pytest.mark.parametrize(
    ("beta", "audio", "vision", "expected"),
    [
        (1.0, True, False, (3 + 5, 4)),  # h = (15, 0), |t| / |h| = 5 / 15
        (0.6, True, False, (3 + 3, 4)),
        (9.0, True, False, (3 + 15, 4)),  # alpha stops at 1
        (9.0, False, True, (3 + 4, 4 + 16)),
        (9.0, True, True, (3 + 19, 4 + 16)),
        (9.0, False, False, (3, 4)),
    ],
)
def test_the_gate_by_hand(folder: str, beta: float, audio: bool, vision: bool, expected: tuple[float, float]) -> None:
    mag, words = by_hand(folder, beta)
    sequences = {"audio": torch.full((1, 1, 1), 2.0), "vision": torch.full((1, 1, 1), -1.0)}
    given = {"audio": torch.tensor([[audio]]), "vision": torch.tensor([[vision]])}
    with torch.no_grad():
        found = mag.gated(words, sequences, given)[0, 0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-4)


def test_vectors_know_one_modality_each(folder: str) -> None:
    mag, batch = MAG(TOKEN_DIMS, folder, gate_after=1).eval(), with_tokens(make_batch("aligned"))
    with torch.no_grad():
        before = mag.encode(batch).vectors
        for changed in TOKEN_DIMS:
            other = batch.features | {changed: batch.features[changed] * 2}
            after = mag.encode(replace(batch, features=other)).vectors
            assert [m for m in after if not torch.equal(after[m], before[m])] == [changed]


def test_without_text_the_order_of_the_frames_still_counts(folder: str) -> None:
    mag = MAG(TOKEN_DIMS, folder).eval()
    batch = with_tokens(make_batch("aligned")).limited_to(torch.tensor([False, True, True]))
    turned = batch.features | {m: batch.features[m][:, [0, 2, 1, 3, 4, 5]] for m in ("audio", "vision")}
    difference = (states(mag, batch) - states(mag, replace(batch, features=turned))).abs().amax(1)
    assert (difference[batch.lengths["text"] > 2] > 1e-4).all()


def test_a_corpus_that_has_no_text_at_all(folder: str) -> None:
    """As MERMethod.prepared makes it: one step of zeros, of length 0."""
    mag, batch = MAG(TOKEN_DIMS, folder), with_tokens(make_batch("aligned"))
    masked = batch.limited_to(torch.tensor([False, True, True]))
    features = batch.features | {"text": torch.zeros(6, 1, 1)}
    bare = replace(masked, features=features, lengths=batch.lengths | {"text": torch.zeros(6, dtype=torch.long)})
    torch.testing.assert_close(states(mag, bare), states(mag, masked), rtol=1e-5, atol=1e-5)


def test_frozen_layers_and_gradients(folder: str) -> None:
    mag, batch = MAG(TOKEN_DIMS, folder, frozen_layers=1).train(), with_tokens(make_batch("aligned"))
    some = batch.present.clone()
    some[::2, 0] = some[1:3, 1] = False
    batch.features["audio"][1:3] = float("nan")  # absent, and none of a gradient's business
    mag.fuse(mag.encode(batch), some).square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in mag.parameters())
    without = {name for name, parameter in mag.named_parameters() if parameter.grad is None}
    assert without == {
        f"bert.{name}"
        for name, _ in mag.bert.named_parameters()
        if name.startswith(("embeddings.", "encoder.layer.0."))
    }
    assert mag.absent.grad.any()
    assert not mag.bert.embeddings.training
    assert mag.bert.encoder.layer[1].training
    assert mag.dropout.training


def test_sizes(folder: str) -> None:
    mag = MAG(TOKEN_DIMS, folder)
    gate = sum((dim + WIDTH + 1) * WIDTH + (dim + 1) * WIDTH for dim in (DIMS["audio"], DIMS["vision"]))
    assert sum(p.numel() for p in mag.parameters()) == mag.bert.num_parameters() + gate + 2 * WIDTH + WIDTH


def test_refusals(tmp_path: Path, folder: str) -> None:
    with pytest.raises(Refusal, match="expected token ids as text; found text features 12 wide"):
        MAG(DIMS, folder)
    with pytest.raises(Refusal, match="expected 0 to 3; found 4"):
        MAG(TOKEN_DIMS, folder, gate_after=4)
    with pytest.raises(Refusal, match="expected one of bert, roberta; found deberta-v2"):
        MAG(TOKEN_DIMS, str(tiny_encoder(tmp_path / "deberta", "deberta-v2")))
