"""Probes: how well fresh models, fitted on what a method made of training samples, read modality and label of others.

Invariant codes do not reveal their modality (a probe is right by chance), they allow to predict the label, and they
vary between samples. Codes that have collapsed to one point pass the first of these three tests only.

A linear probe alone proves nothing: where each modality is standardised by itself, no linear model can tell them apart,
whatever else differs. Hence a small network beside it, and a larger one, since what hides from the one need not hide
from the other.

Shapes: N samples, n codes of all modalities, d width of codes, O columns of the label.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# {name: hidden layers} of what tells modalities
_PROBES: dict[str, tuple[int, ...]] = {"linear": (), "MLP 64": (64,), "MLP 64-64": (64, 64)}
_PASSES = 200  # over the training samples


@dataclass(frozen=True)
class Representation:
    """What a method makes of the samples of one split."""

    codes: dict[str, Tensor]  # {modality: (N, d_m)}
    present: dict[str, Tensor]  # {modality: (N,) bool}
    target: Tensor  # (N, O), of classes one column each

    @property
    def tellable(self) -> bool:
        """Whether it makes sense to ask for the modality: there are several, and their width does not say it."""
        return len(self.codes) > 1 and len({code.shape[1] for code in self.codes.values()}) == 1

    def labelled_with_modality(self) -> tuple[Any, Any]:
        """Arrays (n, d) and (n,): all codes of present modalities, and the number of the modality of each."""
        codes = [code[self.present[m]] for m, code in self.codes.items()]
        numbers = [torch.full((len(code),), number) for number, code in enumerate(codes)]
        return torch.cat(codes).numpy(), torch.cat(numbers).numpy()

    def whole(self) -> tuple[Any, Any]:
        """Arrays (N', d_t + d_a + d_v) and (N', O) of the samples that have every modality and every label."""
        rows = torch.stack(list(self.present.values())).all(0) & self.target.isfinite().all(1)
        return torch.cat(list(self.codes.values()), 1)[rows].numpy(), self.target[rows].numpy()


def probe(train: Representation, test: Representation) -> dict[str, float]:
    """{measure: value}; no modality is asked for where it could not be hidden."""
    found: dict[str, float] = {}
    if train.tellable:
        found = {f"modality, {name}": modality_accuracy(train, test, hidden) for name, hidden in _PROBES.items()}
    present = [code[test.present[m]] for m, code in test.codes.items()]
    each = [code for code in present if len(code)]
    return found | {
        "label R2": label_r2(train, test),
        "deviation": float(torch.stack([code.std(0, unbiased=False).mean() for code in each]).mean()),
        "effective rank": float(torch.stack([effective_rank(code) for code in each]).mean()),
    }


def modality_accuracy(train: Representation, test: Representation, hidden: tuple[int, ...] = ()) -> float:
    """How often a fresh classifier, linear without hidden layers, tells the modality of a code; chance is 1 / M."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier(hidden, max_iter=_PASSES, random_state=0) if hidden else LogisticRegression(max_iter=500)
    model = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all networks learn equally long
        warnings.filterwarnings("error", "Training interrupted")
        try:
            model.fit(*train.labelled_with_modality())
        except UserWarning as said:  # the network catches Ctrl-C, and would be scored as far as it has learnt
            raise said.__context__ or KeyboardInterrupt from None
    return float(model.score(*test.labelled_with_modality()))


def label_r2(train: Representation, test: Representation) -> float:
    """R2 of a ridge regression of the label on all codes of a sample, mean over the columns of the label."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=[10.0**power for power in range(-1, 5)]))
    model.fit(*train.whole())
    return float(model.score(*test.whole()))


def effective_rank(codes: Tensor) -> Tensor:
    """exp(-sum p ln p), p the singular values of the centred codes (N, d) divided by their sum: from 1 to d.

    It is 1 where codes lie on a line, and also where they are all the same.
    """
    values = torch.linalg.svdvals((codes - codes.mean(0)).double())
    shares = values / values.sum().clamp(min=1e-20)
    return torch.special.entr(shares).sum().exp()
