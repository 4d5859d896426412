"""Probes on shared codes, on private codes, and on codes that have collapsed to one point."""

from __future__ import annotations

import numpy as np
import pytest

from mer_lightning.evaluation.probes import label_r2, modality_accuracy, spread


@pytest.fixture
def codes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.normal(size=400)
    shared = target[:, None, None] * np.ones((1, 3, 4)) + rng.normal(size=(400, 3, 4))
    private = shared + np.arange(3)[None, :, None] * 5
    return {"target": target, "shared": shared, "private": private, "collapsed": np.ones((400, 3, 4))}


def test_the_modality_is_predicted_from_private_codes_only(codes) -> None:
    assert modality_accuracy(codes["shared"][:300], codes["shared"][300:]) == pytest.approx(1 / 3, abs=0.08)
    assert modality_accuracy(codes["private"][:300], codes["private"][300:]) > 0.95


def test_the_label_is_predicted_from_shared_codes(codes) -> None:
    assert label_r2(codes["shared"][:300], codes["target"][:300], codes["shared"][300:], codes["target"][300:]) > 0.85


def test_a_collapse_has_no_label_and_no_spread(codes) -> None:
    collapsed, target = codes["collapsed"], codes["target"]
    assert modality_accuracy(collapsed[:300], collapsed[300:]) == pytest.approx(1 / 3)
    assert label_r2(collapsed[:300], target[:300], collapsed[300:], target[300:]) < 0.05
    assert spread(collapsed) == 0
    # Two samples of two modalities with two dimensions: the deviations are 1, 2, 3 and 0.
    assert spread(np.array([[[0.0, 0], [0, 5]], [[2, 4], [6, 5]]])) == 1.5
