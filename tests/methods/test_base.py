"""What all methods share: inputs, one evaluation for all conditions, selection, the optimiser."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer

from mer_lightning.backbones.early import Early
from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.store import write_corpus
from mer_lightning.encoders.base import TOKENS
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.masks.training import UniformCombinations
from mer_lightning.methods.optimizing import rate_factor, with_fused_kernels
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression


@pytest.fixture
def method() -> Supervised:
    torch.manual_seed(0)
    return Supervised(DIMS, Regression().card(), lambda dims: LateTransformer(dims, width=8, depth=1)).eval()


def test_features_are_standardised_and_outliers_cut(method: Supervised) -> None:
    batch = make_batch()
    method.inputs.get_buffer("mean_audio").fill_(1.0)
    method.inputs.get_buffer("scale_audio").copy_(torch.tensor([0.0, 1.0, 2.0, 1.0, 1.0]))
    extreme = replace(batch, features=batch.features | {"audio": torch.full_like(batch.features["audio"], 4.0)})
    seen = method.inputs(extreme).features["audio"]
    assert seen[0, 0].tolist() == [0.0, 3.0, 6.0, 3.0, 3.0]
    far = replace(batch, features=batch.features | {"audio": torch.full_like(batch.features["audio"], 1e6)})
    assert method.inputs(far).features["audio"].max() == 10


def test_a_modality_that_is_not_there_is_absent(method: Supervised) -> None:
    batch = make_batch()
    without = replace(
        batch,
        features={m: f for m, f in batch.features.items() if m != "audio"},
        lengths={m: n for m, n in batch.lengths.items() if m != "audio"},
        present=batch.present & torch.tensor([True, False, True]),
    )
    encoded, masked = (method.inputs(each) for each in (without, batch.limited_to(torch.tensor([True, False, True]))))
    states = [method.backbone.fuse(method.backbone.encode(each), each.present) for each in (encoded, masked)]
    assert torch.equal(*states)


def test_conditions_are_evaluated_from_one_encoding(method: Supervised, tiny_corpus, monkeypatch) -> None:
    split = open_corpus(tiny_corpus()).split("official", "test")
    frozen = freeze(Protocol(["fixed-7", "rate-imder", "rmfm_same-0.3"]), split)
    batch = split.batch(torch.arange(len(split)))
    calls = []
    encode = method.backbone.encode
    monkeypatch.setattr(method.backbone, "encode", lambda batch: calls.append(1) or encode(batch))
    with torch.no_grad():
        together, _ = method.condition_outputs(batch, frozen)
        assert len(calls) == 2  # one for all 14 conditions that mask whole modalities, one for the frames
        for k, condition in enumerate(frozen.conditions):
            alone = method.inputs(condition.apply(batch, frozen.seed).limited_to(frozen.present[k]))
            state = method.backbone.fuse(encode(alone), alone.present)
            torch.testing.assert_close(together[:, k], method.head(state), rtol=1e-5, atol=1e-5)


def test_norms_and_biases_do_not_decay(method: Supervised) -> None:
    method.trainer = Trainer(max_steps=10, logger=False, enable_checkpointing=False, accelerator="cpu")
    decayed, plain = method.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.01
    assert plain["weight_decay"] == 0
    assert all(parameter.dim() > 1 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in plain["params"])
    assert sum(len(group["params"]) for group in (decayed, plain)) == len(list(method.parameters()))


def test_learning_rate_warms_up_and_falls(method: Supervised) -> None:
    method.trainer = Trainer(max_steps=100, logger=False, enable_checkpointing=False, accelerator="cpu")
    found = method.configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 1e-5


def test_training_on_combinations_that_are_to_be_unseen_is_refused(tiny_corpus) -> None:
    data = MERData(corpus=str(tiny_corpus()), masks=UniformCombinations())
    method = Supervised(DIMS, Regression().card(), lambda dims: LateTransformer(dims, width=8, depth=1))
    method.protocol = Protocol(["unseen-ta-av"])
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="without av"):
        trainer.fit(method, datamodule=data)


def test_fit_cannot_reach_the_test_split(tiny_corpus) -> None:
    class Cheater(Supervised):
        def on_validation_epoch_start(self) -> None:
            self.trainer.datamodule.corpus.split("official", "test")

    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    cheater = Cheater(DIMS, Regression().card(), lambda dims: LateTransformer(dims, width=8, depth=1))
    with pytest.raises(RuntimeError, match="cannot be reached during fit"):
        trainer.fit(cheater, datamodule=MERData(corpus=str(tiny_corpus())))


def test_aligned_only_backbones_say_so_before_training(tiny_corpus) -> None:
    class Aligned(LateTransformer):
        aligned_only = True

    method = Supervised(DIMS, Regression().card(), lambda dims: Aligned(dims, width=8, depth=1))
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="as Aligned needs them; found unaligned"):
        trainer.fit(method, datamodule=MERData(corpus=str(tiny_corpus())))


def test_torch_optimisers_step_in_one_pass_and_others_are_left_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    assert with_fused_kernels(torch.optim.AdamW([weight])).param_groups[0]["fused"] is True
    assert with_fused_kernels(torch.optim.AdamW([weight], foreach=True)).param_groups[0]["fused"] is None
    assert with_fused_kernels(torch.optim.AdamW([weight], fused=False)).param_groups[0]["fused"] is False
    assert "fused" not in with_fused_kernels(torch.optim.Rprop([weight])).param_groups[0]
    # Gradients under 16-bit scaling can still be clipped, which Lightning refuses for a fused constructor.
    assert not getattr(with_fused_kernels(torch.optim.AdamW([weight])), "_step_supports_amp_scaling", False)
    ends = []
    for prepare in (with_fused_kernels, lambda optimizer: optimizer):
        weight.data.fill_(1.0)
        optimizer = prepare(torch.optim.AdamW([weight], lr=0.1))
        for step in range(3):
            weight.grad = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
            optimizer.step()
        ends.append(weight.detach().clone())
    torch.testing.assert_close(*ends)


def test_checkpoints_of_older_versions_load() -> None:
    """Version 0.1.0 kept statistics and text encoder in the method itself, not in its inputs."""
    method = Supervised(DIMS, Regression().card(), LateTransformer)
    method.inputs.get_buffer("mean_audio").fill_(0.5)
    older = {name.removeprefix("inputs."): value.clone() for name, value in method.state_dict().items()}
    assert "mean_audio" in older
    again = Supervised(DIMS, Regression().card(), LateTransformer)
    again.load_state_dict(older)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in method.state_dict().items())


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    factor = rate_factor("constant", 40)
    assert [factor(step) for step in (0, 1, 3, 4, 20, 39)] == [0.25, 0.5, 1, 1, 1, 1]


def test_a_fit_standardises_by_its_training_split(tiny_corpus) -> None:
    method, data = Supervised(DIMS, Regression().card(), Early), MERData(str(tiny_corpus()))
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.fit(method, datamodule=data)
    mean, deviation = data.feature_statistics()["text"]
    torch.testing.assert_close(method.inputs.get_buffer("mean_text"), mean)
    torch.testing.assert_close(method.inputs.get_buffer("scale_text"), 1 / deviation)
    assert method.inputs.get_buffer("mean_text").abs().max() > 0


def test_text_for_a_backbone_with_a_vocabulary_is_ids() -> None:
    class ReadsIds(Early):
        vocabulary = 100

    read = [Supervised(DIMS, Regression().card(), backbone).inputs.text_is_ids for backbone in (ReadsIds, Early)]
    assert read == [True, False]


def test_a_choice_that_the_corpus_cannot_meet_is_refused_before_the_fit(tiny_raw, tmp_path) -> None:
    raw = tiny_raw()
    del raw.features["audio"], raw.feature_set["audio"]
    write_corpus(raw, tmp_path / "two", "two")
    dims = {name: width for name, width in DIMS.items() if name != "audio"}
    method = Supervised(dims, Regression().card(), Early, select_under="fixed-7")
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="what a corpus with text and vision can meet; found fixed-7"):
        trainer.fit(method, datamodule=MERData(str(tmp_path / "two")))


def test_token_ids_need_an_encoder(tiny_raw, tmp_path) -> None:
    raw = tiny_raw()
    raw.feature_set["text"] = f"{TOKENS} of some encoder"
    write_corpus(raw, tmp_path / "ids", "ids")
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="a text encoder for token ids"):
        trainer.fit(Supervised(DIMS, Regression().card(), Early), datamodule=MERData(str(tmp_path / "ids")))
