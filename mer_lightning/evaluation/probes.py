"""Probes: how well linear models predict the modality and the label of a sample from its codes.

Invariant codes do not reveal their modality (a probe is right by chance), they allow to predict the label, and they
vary between samples. Codes that have collapsed to one point pass the first of these three tests only.

Shapes: N samples, M modalities, d width of codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def modality_accuracy(train: Array, valid: Array) -> float:
    """Accuracy of a linear classifier of the modality on the codes (N, M, d) of the validation set; chance is 1 / M."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    modalities = train.shape[1]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(train.reshape(-1, train.shape[2]), np.tile(np.arange(modalities), len(train)))
    return float(model.score(valid.reshape(-1, valid.shape[2]), np.tile(np.arange(modalities), len(valid))))


def label_r2(train: Array, train_target: Array, valid: Array, valid_target: Array) -> float:
    """R2 of a ridge regression of the label, (N,) or (N, C), on all codes (N, M, d) of a sample."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 4, 6)))
    model.fit(train.reshape(len(train), -1), train_target)
    return float(model.score(valid.reshape(len(valid), -1), valid_target))


def spread(codes: Array) -> float:
    """Mean over modalities and dimensions of the standard deviation over samples."""
    return float(codes.std(axis=0).mean())
