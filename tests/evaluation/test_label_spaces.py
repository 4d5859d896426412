"""Classes that are mapped to those of another corpus: merged, left out, refused."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.errors import Refusal
from mer_lightning.evaluation.label_spaces import label_map
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

SIX = SingleLabel(("happy", "sad", "neutral", "angry", "excited", "frustrated"))
SEVEN = SingleLabel(("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise"))
READ = {"excited": "joy", "happy": "joy", "sad": "sadness", "angry": "anger", "neutral": "neutral"}


def test_probabilities_are_summed_and_scaled() -> None:
    mapped = label_map(SIX, SEVEN, READ)
    assert mapped.task.classes == ("anger", "joy", "sadness", "neutral")
    assert str(mapped) == "angry as anger, happy+excited as joy, sad as sadness, neutral as neutral"
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 6)  # under three conditions
    happy, sad, neutral, angry, excited, frustrated = logits.softmax(2).unbind(2)
    expected = torch.stack([angry, happy + excited, sad, neutral], dim=2) / (1 - frustrated).unsqueeze(2)
    torch.testing.assert_close(mapped.logits(logits).softmax(2), expected)


def test_two_classes_are_enough() -> None:
    assert label_map(SIX, SEVEN, {"happy": "joy", "sad": "sadness"}).task.classes == ("joy", "sadness")


def test_samples_of_labels_without_a_mapped_class_are_left_out() -> None:
    mapped = label_map(SIX, SEVEN, READ)
    target = torch.tensor([0, 4, 1, 6, 3, 2])  # anger disgust joy surprise neutral sadness
    given = Predictions(torch.randn(6, 2, 6), target, torch.arange(10, 16), {"confidence": torch.rand(6, 2)})
    kept = mapped.predictions(given)
    assert kept.index.tolist() == [10, 12, 14, 15]
    assert kept.target is not None
    assert [mapped.task.classes[c] for c in kept.target.tolist()] == ["anger", "joy", "neutral", "sadness"]
    torch.testing.assert_close(kept.logits, mapped.logits(given.logits[[0, 2, 4, 5]]))
    torch.testing.assert_close(kept.extras["confidence"], given.extras["confidence"][[0, 2, 4, 5]])


@pytest.mark.parametrize(
    ("read", "fragment"),
    [
        ({"hapy": "joy", "sad": "sadness"}, "did you mean 'happy'?"),
        ({"happy": "joyful", "sad": "sadness"}, "did you mean 'joy'?"),
        ({"happy": "joy", "excited": "joy"}, "at least two classes"),
    ],
)
def test_names_are_checked_on_both_sides(read: dict[str, str], fragment: str) -> None:
    with pytest.raises(Refusal) as refused:
        label_map(SIX, SEVEN, read)
    assert fragment in str(refused.value)


def test_numbers_and_label_sets_are_refused() -> None:
    for model, corpus in ((Regression(), SEVEN), (SIX, Regression(1.0)), (MultiLabel(("a", "b")), SEVEN)):
        with pytest.raises(Refusal, match="one of several classes"):
            label_map(model, corpus, {"a": "b"})
