"""Whether a model and a corpus fit each other, checked before the first step, not by a tensor error an hour later."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mer_lightning.backbones.base import Backbone
from mer_lightning.data.corpus import CorpusCard
from mer_lightning.encoders.base import TOKENS
from mer_lightning.errors import Refusal
from mer_lightning.modalities import COMPLETE, MODALITIES
from mer_lightning.tasks import Ratings, Task


def refuse_other_loss(task: Task, loss: str) -> None:
    if loss != "mae" and not isinstance(task, Ratings):
        remedy = "leave it out, or import numbers with --task ratings"
        raise Refusal("--model.loss", f"mae where labels are no ratings but {task.kind}", loss, remedy)


def refuse_selection(select_under: str, modalities: Collection[str]) -> None:
    """`tav` and `fixed-7` name what three modalities have."""
    ways = {COMPLETE: "complete", "fixed-7": "combinations"}
    if select_under in ways and len(modalities) < len(MODALITIES):
        expected = f"what a corpus with {' and '.join(modalities)} can meet"
        raise Refusal("--model.select_under", expected, select_under, f"write {ways[select_under]}")


def refuse_other_widths(card: CorpusCard, widths: Mapping[str, int], trained: Mapping[str, int]) -> None:
    for modality, width in widths.items():
        if width != trained.get(modality, width):
            expected = f"{modality} features {trained[modality]} wide, as in training"
            raise Refusal(card.label, expected, str(width), "import the corpus with the feature set of the run")


def refuse_other_task(card: CorpusCard, task: Task) -> None:
    if card.task != task.card():
        remedy = "choose another corpus"
        if task.kind == card.task["kind"] == "single_label":
            remedy = "say which class is which: test --labels '{mine: theirs, ...}'"
        raise Refusal(card.label, f"the task that was trained, {task.card()}", str(card.task), remedy)


def refuse_ids_without_encoder(card: CorpusCard) -> None:
    if card.feature_set.get("text", "").startswith(TOKENS):
        remedy = "give --model.text_encoder hugging_face with the path of the encoder of these tokens"
        raise Refusal(card.label, "a text encoder for token ids", "none", remedy)


def refuse_unaligned(card: CorpusCard, backbone: Backbone) -> None:
    if backbone.aligned_only and card.alignment == "unaligned":
        expected = f"the same steps in all modalities, as {type(backbone).__name__} needs them"
        raise Refusal(card.label, expected, "unaligned", "choose --data.alignment aligned, or another backbone")
