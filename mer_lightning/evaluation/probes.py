"""What linear models can read from codes: whose they are, and what label they carry.

Invariant codes do not tell their modality (a probe is right by chance), carry the label, and vary between samples.
Codes that have collapsed to one point pass the first test, and no other.

Shapes: N samples, M modalities, d width of codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def modality_accuracy(train: Array, valid: Array) -> float:
    """Share of codes (N, M, d) of the validation set whose modality a linear classifier tells; chance is 1 / M."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    modalities = train.shape[1]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(train.reshape(-1, train.shape[2]), np.tile(np.arange(modalities), len(train)))
    return float(model.score(valid.reshape(-1, valid.shape[2]), np.tile(np.arange(modalities), len(valid))))


def label_r2(train: Array, train_target: Array, valid: Array, valid_target: Array) -> float:
    """R2 with which a ridge regression reads the label, (N,) or (N, C), from all codes (N, M, d) of a sample."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 4, 6)))
    model.fit(train.reshape(len(train), -1), train_target)
    return float(model.score(valid.reshape(len(valid), -1), valid_target))


def spread(codes: Array) -> float:
    """Mean over modalities and dimensions of the deviation between samples."""
    return float(codes.std(axis=0).mean())
