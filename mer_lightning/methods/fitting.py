"""Whether a method and a corpus fit each other, said before the first step and not in a tensor error an hour later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mer_lightning.encoders.base import TOKENS
from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    from mer_lightning.methods.base import MERMethod


def refuse_what_does_not_fit(method: MERMethod, data: Any, stage: str) -> None:
    card, task = data.corpus.card, method.task
    for modality, width in data.dims.items():
        if width != method.dims.get(modality, width):
            expected = f"{modality} features {method.dims[modality]} wide, as in training"
            raise Refusal(card.label, expected, str(width), "import the corpus with the feature set of the run")
    if stage in ("validate", "test") and card.task != task.card() and method.label_map is None:
        remedy = "choose another corpus"
        if task.kind == card.task["kind"] == "single_label":
            remedy = "say which class is which: test --labels '{mine: theirs, ...}'"
        raise Refusal(card.label, f"the task that was trained, {task.card()}", str(card.task), remedy)
    if method.vocabulary is None and card.feature_set.get("text", "").startswith(TOKENS):
        remedy = "give --model.text_encoder hugging_face with the path of the encoder of these tokens"
        raise Refusal(card.label, "a text encoder for token ids", "none", remedy)
    if method.backbone.aligned_only and card.alignment == "unaligned":
        expected = f"the same steps in all modalities, as {type(method.backbone).__name__} needs them"
        raise Refusal(card.label, expected, "unaligned", "choose --data.alignment aligned, or another backbone")
