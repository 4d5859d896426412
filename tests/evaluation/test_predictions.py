"""Predictions of a split: each sample once, in order, and the table of them."""

from __future__ import annotations

import torch

from mer_lightning.evaluation.predictions import PredictionStore, prediction_table, rows_once
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel


def stored(*indices: list[int], outputs: int = 1) -> PredictionStore:
    store = PredictionStore()
    for index in indices:
        rows = torch.tensor(index)
        store.update(rows.float()[:, None, None].expand(-1, 2, outputs) * torch.tensor([[1.0], [10.0]]), rows / 2, rows)
    return store


def test_samples_are_in_order_and_once() -> None:
    predictions = stored([3, 0], [2, 1], [0, 3]).gather()
    assert predictions.index.tolist() == [0, 1, 2, 3]
    assert predictions.under(1)[:, 0].tolist() == [0, 10, 20, 30]
    assert predictions.target.tolist() == [0, 0.5, 1, 1.5]


def test_of_equal_rows_the_first_is_kept() -> None:
    index = torch.tensor([5, 3, 5, 3, 4]).repeat(50)
    assert rows_once(index).tolist() == [1, 4, 0]
    assert rows_once(index[:0]).tolist() == []


def test_a_single_sample_keeps_its_shape() -> None:
    predictions = stored([0]).gather()
    assert predictions.logits.shape == (1, 2, 1)
    assert predictions.target.shape == (1,)


def test_reset_forgets() -> None:
    store = stored([0, 1])
    store.reset()
    store.update(torch.ones(1, 1, 1), None, torch.tensor([7]))
    predictions = store.gather()
    assert predictions.index.tolist() == [7]
    assert predictions.target is None


def test_table_of_a_regression() -> None:
    rows = prediction_table(stored([0, 1]).gather(), Regression(), ["t", "tav"], ["a", "b"])
    assert rows["id"].tolist() == ["a", "b", "a", "b"]
    assert rows["condition"].tolist() == ["t", "t", "tav", "tav"]
    assert rows["prediction"].tolist() == [0, 1, 0, 10]
    assert rows.index.tolist() == [0, 1, 2, 3]


def test_ids_are_looked_up_by_the_row_in_the_split() -> None:
    rows = prediction_table(stored([3, 1]).gather(), Regression(), ["t", "tav"], ["a", "b", "c", "d"])
    assert rows["id"].tolist() == ["b", "d", "b", "d"]
    assert rows["logit 0"].tolist() == rows["prediction"].tolist() == [1, 3, 10, 30]
    assert rows["target"].tolist() == [0.5, 1.5, 0.5, 1.5]


def test_table_of_classes_has_names_and_probabilities() -> None:
    store = PredictionStore()
    store.update(torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]]), torch.tensor([1, 1]), torch.tensor([0, 1]))
    rows = prediction_table(store.gather(), SingleLabel(("happy", "sad")), ["tav"], ["a", "b"])
    assert rows["prediction"].tolist() == ["sad", "happy"]
    assert rows["target"].tolist() == ["sad", "sad"]
    expected = torch.tensor([[0.0, 2.0], [1.0, 0.0]]).softmax(1)[:, 1]
    torch.testing.assert_close(torch.tensor(rows["probability sad"].to_numpy()), expected)


def test_table_of_label_sets_joins_their_names() -> None:
    store = PredictionStore()
    store.update(torch.tensor([[[3.0, 3.0]], [[-3.0, -3.0]]]), torch.tensor([[1.0, 0], [1, 1]]), torch.tensor([0, 1]))
    rows = prediction_table(store.gather(), MultiLabel(("happy", "sad")), ["tav"], ["a", "b"])
    assert rows["prediction"].tolist() == ["happy+sad", "none"]
    assert rows["target"].tolist() == ["happy", "happy+sad"]
