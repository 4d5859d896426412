"""MGR: modality-guided refinement learning (Cho, IEEE Access 2025), reconstructed from its abstract.

The vectors of any backbone are split into codes that modalities share and codes that are their own. A classifier of
modalities guides both, their distributions are aligned from weak to strong, and margins grow with what a modality
contributes. The paper's equations were not to be had: docs/methods/mgr.md says what is known and what is ours.

Shapes: B batch, M modalities of the model, K masks, d width of codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Encoded
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.dropout import Dropout
from mer_lightning.losses import decoupling
from mer_lightning.methods.base import Losses, MERMethod
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import Code, CodeFusion, Contribution, GaussianEncoder, uniform_contribution
from mer_lightning.modalities import MODALITIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

Guidance = Literal["confusion", "grl", "four_way", "none"]

# Ours, as everything about them: the abstract names no weight.
WEIGHTS = {
    "unimodal": 0.3,
    "shared": 0.3,
    "private_recognition": 0.1,
    "shared_recognition": 1.0,
    "guidance": 0.3,
    "moments": 0.3,
    "alignment": 0.1,
    "overlap": 0.1,
    "reconstruction": 0.3,
    "prior": 0.001,
    "decoupling_margin": 0.1,
    "multimodal_margin": 0.1,
    "label_margin": 0.1,
    "variance": 0.3,
}
_RAMP = 0.1  # of training: guidance, alignment and margins come in slowly, and contributions count from its end
_ENOUGH = 8  # samples for a comparison of moments


@dataclass(frozen=True)
class Codes:
    vectors: Tensor  # (B, M, d) what was split
    shared: Code
    private: Code


class MGR(MERMethod):
    """MGR (reconstruction): shared and private codes, refined under the guidance of a modality classifier.

    Args:
        width: of vectors and codes; 128 with BERT, 64 with GloVe.
        dropout: in encoders and heads.
        guidance: `confusion` makes shared codes unrecognisable to a still classifier; `grl` reverses its gradient;
            `four_way` gives shared codes a class of their own; `none` leaves the classifier out.
        distance: between the Gaussians of two modalities.
        overlap: measured between codes that should not overlap.
        weights: of single losses, instead of the defaults, e.g. `{guidance: 0.5}`; 0 leaves one out.
        private: private codes beside the shared ones.
        probabilistic: Gaussian codes; else points.
        distributions: losses on distributions: moments, alignment, overlap.
        margins: both margins.
        label_margin: an ordinal margin between samples of different labels, too.
        reconstruct: the vectors from their codes.
        adaptive: weights and margins follow each modality's contribution; else all count the same.
        stop_gradient: a strong modality is not moved towards a weak one.
    """

    reconstruction: ClassVar[bool] = True

    def __init__(
        self,
        *,
        width: int = 64,
        dropout: float = 0.1,
        guidance: Guidance = "confusion",
        distance: Literal["wasserstein", "sym_kl"] = "wasserstein",
        overlap: Literal["correlation", "hsic"] = "correlation",
        weights: dict[str, float] | None = None,
        private: bool = True,
        probabilistic: bool = True,
        distributions: bool = True,
        margins: bool = True,
        label_margin: bool = False,
        reconstruct: bool = True,
        adaptive: bool = True,
        stop_gradient: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if unknown := sorted((weights or {}).keys() - WEIGHTS.keys()):
            raise Refusal("--model.weights", f"losses among {', '.join(WEIGHTS)}", unknown[0], "mend its spelling")
        if distance == "sym_kl" and not probabilistic:
            raise Refusal("--model.distance", "wasserstein for codes without a spread", "sym_kl", "choose wasserstein")
        self.weights = WEIGHTS | (weights or {})
        self.guidance, self.distance, self.overlap = guidance, distance, overlap
        self.distributions, self.margins, self.label_margin = distributions, margins, label_margin
        self.reconstruct, self.adaptive, self.stop_gradient = reconstruct, adaptive, stop_gradient
        self.positions = [MODALITIES.index(m) for m in self.dims]
        modalities, outputs = len(self.dims), self.task.outputs
        self._freeze_the_backbones_fusion()
        widths = self.backbone.vector_widths
        self.project = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(widths[m], width), nn.LayerNorm(width)) for m in self.dims}
        )
        self.share = GaussianEncoder(width, probabilistic, dropout)
        self.keep = nn.ModuleDict({m: GaussianEncoder(width, probabilistic, dropout) for m in self.dims if private})
        parts = 2 if private else 1
        self.decode = nn.ModuleDict({m: _mlp(parts * width, width, width, dropout) for m in self.dims if reconstruct})
        self.alone = nn.ModuleDict({m: nn.Linear(parts * width, outputs) for m in self.dims})
        self.from_shared = nn.Linear(modalities * width, outputs)
        self.fusion = CodeFusion(width, parts * modalities)
        self.head = nn.Linear(width, outputs)
        classes = modalities + (guidance == "four_way")
        self.classifier = None if guidance == "none" else _mlp(width, width, classes, dropout)
        self.contribution = Contribution(modalities)

    def _freeze_the_backbones_fusion(self) -> None:
        """MGR fuses by itself: the backbone's fusion would never learn, and DDP waits for all that claims to."""
        encoding = {id(parameter) for parameter in self.backbone.encoder_parameters()}
        for parameter in self.backbone.parameters():
            if id(parameter) not in encoding:
                parameter.requires_grad_(False)

    # --- codes and their fusion

    def codes(self, encoded: Encoded) -> Codes:
        vectors = torch.stack([self.project[m](encoded.vectors[m]) for m in self.dims], 1)
        private = [self.keep[m](vectors[:, number]) for number, m in enumerate(self.keep)]
        kept = (
            Code(*(torch.stack(part, 1) for part in zip(*((c.drawn, c.mean, c.std) for c in private), strict=True)))
            if private
            else None
        )
        shared = self.share(vectors)
        return Codes(vectors, shared, kept if kept is not None else Code(*(shared.mean[:, :0],) * 3))

    def states(self, encoded: Encoded, present: Tensor) -> Tensor:
        codes = self.codes(encoded)
        return torch.stack([self._state(codes, each) for each in present])

    def _state(self, codes: Codes, present: Tensor) -> Tensor:
        tokens = torch.cat([codes.shared.drawn, codes.private.drawn], 1)
        of_codes = present[:, self.positions]
        state: Tensor = self.fusion(tokens, torch.cat([of_codes, of_codes], 1)[:, : tokens.shape[1]])
        return state

    def _parts(self, codes: Codes, number: int) -> Tensor:
        """(B, 1 or 2 d) what there is of one modality."""
        return torch.cat([codes.shared.drawn[:, number], *codes.private.drawn[:, number : number + 1].unbind(1)], 1)

    # --- losses

    def training_losses(self, batch: Batch) -> Losses:
        assert batch.target is not None
        encoded = self.backbone.encode(batch)
        codes, present = self.codes(encoded), batch.present[:, self.positions]
        joint = self.task_losses(self._state(codes, batch.present), batch)
        alone = torch.stack(
            [self.task.losses(self.alone[m](self._parts(codes, n)), batch.target) for n, m in enumerate(self.dims)], 1
        )
        shared = codes.shared.drawn.where(present.unsqueeze(2), 0.0)
        early = self.progress < _RAMP or not self.adaptive
        weights = self.contribution(alone.detach(), present)
        if early:
            weights = uniform_contribution(present)
        with torch.autocast(batch.present.device.type, enabled=False):
            losses = {
                "unimodal": refinement.mean_over(alone, present),
                "shared": self.task.losses(self.from_shared(shared.flatten(1)), batch.target).mean(),
                # Of the means: the noise of a draw would pass for variance between samples, and hide a collapse.
                "variance": refinement.variance_floor(codes.shared.mean, present),
                **self._guidance(codes, present),
                **(self._distributions(codes, None if early else weights, present) if self.distributions else {}),
                **(self._margins(codes, joint, alone, weights, present, batch.target) if self.margins else {}),
            }
            if self.reconstruct:
                losses["reconstruction"] = self._reconstruction(codes, present)
            if self.share.log_variance is not None:
                losses["prior"] = self._prior(codes, present)
        self._log(codes, weights, present)
        ramp = min(self.progress / _RAMP, 1.0) if self._trainer is not None else 1.0
        ramped = {"guidance", "alignment", "decoupling_margin", "multimodal_margin", "label_margin"}
        scaled = {
            name: (value, self.weights[name] * (ramp if name in ramped else 1.0))
            for name, value in losses.items()
            if self.weights[name]
        }
        return {"task": (joint.mean(), 1.0), **scaled}

    def _guidance(self, codes: Codes, present: Tensor) -> dict[str, Tensor]:
        if self.classifier is None:
            return {}
        shared, private = codes.shared.drawn, codes.private.drawn
        losses = {"private_recognition": refinement.recognition(self.classifier, private, present)} if self.keep else {}
        if self.guidance == "four_way":
            return {**losses, "guidance": refinement.recognition(self.classifier, shared, present, len(self.dims))}
        if self.guidance == "grl":
            return {**losses, "guidance": refinement.reversal(self.classifier, shared, present, self.progress)}
        sharp = refinement.recognition(self.classifier, shared.detach(), present) / 2
        return {
            **losses,
            "shared_recognition": sharp,
            "guidance": refinement.confusion(self.classifier, shared, present),
        }

    def _distributions(self, codes: Codes, weights: Tensor | None, present: Tensor) -> dict[str, Tensor]:
        shared, private = codes.shared.mean, codes.private.mean
        apart = decoupling.cross_correlation if self.overlap == "correlation" else decoupling.hsic
        moments, overlaps = [], []
        for i, j in combinations(range(len(self.dims)), 2):
            rows = present[:, i] & present[:, j]
            moments.append(decoupling.cmd(shared[:, i], shared[:, j], 3, rows) * (rows.sum() >= _ENOUGH))
            if self.keep:
                overlaps.append(apart(private[:, i], private[:, j], rows))
        if self.keep:
            overlaps += [apart(shared[:, i], private[:, i], present[:, i]) for i in range(len(self.dims))]
        distance = decoupling.wasserstein if self.distance == "wasserstein" else _symmetric_kl
        code = codes.shared
        losses = {
            "alignment": refinement.weak_to_strong(code.mean, code.std, weights, present, distance, self.stop_gradient)
        }
        if moments:
            losses["moments"] = torch.stack(moments).mean()
        if overlaps:
            losses["overlap"] = torch.stack(overlaps).mean()
        return losses

    def _margins(
        self, codes: Codes, joint: Tensor, alone: Tensor, weights: Tensor, present: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        shared, private = codes.shared.drawn, codes.private.drawn
        losses = {"multimodal_margin": refinement.multimodal_margin(joint, alone, weights, present)}
        if self.keep:
            losses["decoupling_margin"] = refinement.decoupling_margin(
                shared, private, weights, present, self.stop_gradient
            )
        if self.label_margin:
            losses["label_margin"] = self._label_margin(shared, present, target)
        return losses

    def _label_margin(self, shared: Tensor, present: Tensor, target: Tensor) -> Tensor:
        """Positives are codes of another modality or of another sample, whose labels are nearly the same."""
        values = target if target.dim() == 1 and target.is_floating_point() else self.task.category(target).float()
        labels = values.repeat_interleave(present.shape[1])
        near = (labels.unsqueeze(0) - labels.unsqueeze(1)).abs() <= 0.25
        there = present.flatten() & ~labels.isnan()
        return decoupling.label_margin(shared.flatten(0, 1), labels.nan_to_num(), near, rows=there)

    def _reconstruction(self, codes: Codes, present: Tensor) -> Tensor:
        errors = [
            (self.decode[m](self._parts(codes, n)) - codes.vectors[:, n].detach()).square().mean(1)
            for n, m in enumerate(self.dims)
        ]
        return refinement.mean_over(torch.stack(errors, 1), present)

    def _prior(self, codes: Codes, present: Tensor) -> Tensor:
        """KL to the unit Gaussian, which keeps the spread from its bounds."""
        values = []
        for code in (codes.shared, *((codes.private,) if self.keep else ())):
            zero, one = torch.zeros_like(code.mean), torch.ones_like(code.std)
            divergence = decoupling.gaussian_kl(code.mean, code.std, zero, one) / code.mean.shape[-1]
            values.append(refinement.mean_over(divergence, present))
        return torch.stack(values).mean()

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        from mer_lightning.methods.mgr.figures import figures  # matplotlib is slow to import

        return figures(runs)

    def _log(self, codes: Codes, weights: Tensor, present: Tensor) -> None:
        if not self.training:
            return
        means = weights.sum(0) / present.sum(0).clamp(min=1)
        values = {f"contribution/{m}": means[n] for n, m in enumerate(self.dims)}
        values["contribution/shared_std"] = codes.shared.mean.detach().std(0).mean()
        self.log_means(values, len(present))


def _mlp(inside: int, hidden: int, outside: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, outside))


def _symmetric_kl(mean_i: Tensor, std_i: Tensor, mean_j: Tensor, std_j: Tensor) -> Tensor:
    forward = decoupling.gaussian_kl(mean_i, std_i, mean_j, std_j)
    return forward + decoupling.gaussian_kl(mean_j, std_j, mean_i, std_i)
