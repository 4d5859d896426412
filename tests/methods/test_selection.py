"""A checkpoint is chosen by its validation score: under the complete input, or the mean over seven combinations."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mer_lightning.backbones.early import Early
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.methods.base import Phase
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression


def fitted(method: Supervised, corpus: str) -> dict[str, Tensor]:
    """The metrics of a fit of two epochs."""
    trainer = Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(method, datamodule=MERData(corpus, batch_size=8, eval_batch_size=4))
    return trainer.callback_metrics


@pytest.mark.parametrize("under", ["tav", "fixed-7"])
def test_the_score_is_the_mean_over_conditions(under: str, tiny_corpus) -> None:
    corpus = str(tiny_corpus())
    torch.manual_seed(0)
    method = Supervised(DIMS, Regression().card(), Early, select_under=under)
    measured = fitted(method, corpus)
    split = open_corpus(corpus).split("official", "valid")
    batch, frozen = split.batch(torch.arange(len(split))), freeze(Protocol([under]), split)
    with torch.no_grad():
        logits, _ = method.eval().condition_outputs(batch, frozen)
    errors = (logits.squeeze(2) - batch.target.unsqueeze(1)).abs().mean(0)  # one for each condition
    assert len(errors) == (1 if under == "tav" else 7)
    assert measured["valid/score"].item() == pytest.approx(-errors.mean().item(), abs=1e-5)
    complete = [condition.name for condition in frozen.conditions].index("tav")
    assert measured["valid/mae"].item() == pytest.approx(errors[complete].item(), abs=1e-5)
    where = "the complete input" if under == "tav" else "the mean over fixed-7"
    assert method.selection_rule == f"min validation mae under {where}"


def test_a_phase_with_validation_losses_is_scored_by_their_mean(tiny_corpus) -> None:
    class Own(Supervised):
        def phases(self) -> tuple[Phase, ...]:
            return (Phase("fit", self.training_losses, validation_losses=self.errors),)

        def errors(self, batch: Batch) -> Tensor:
            assert batch.target is not None
            return batch.target.abs()

    corpus = str(tiny_corpus())
    split = open_corpus(corpus).split("official", "valid")
    target = split.batch(torch.arange(len(split))).target
    measured = fitted(Own(DIMS, Regression().card(), Early), corpus)
    assert measured["valid/score"].item() == pytest.approx(-target.abs().mean().item(), abs=1e-6)


def test_entering_a_phase_sets_training_mode() -> None:
    """Lightning leaves modes as it finds them, and finds evaluation mode after the phase before."""
    method = Supervised(DIMS, Regression().card(), Early).eval()
    method.enter(method.phases()[0])
    assert all(part.training for part in method.modules())
