"""MGR: modality-guided refinement learning (Cho, IEEE Access 2025), reconstructed from its abstract.

The vectors of any backbone are split into codes that modalities share and codes that are their own. Classifiers of
modalities guide both: shared codes hide from one, private codes show themselves to the other. The distributions of
shared codes are drawn together, and margins grow with what a modality contributes. The paper's equations were not to be
had: docs/methods/mgr.md says what is known and what is ours.

Shapes: B batch, M modalities of the model, K masks, d width of vectors, d_s and d_p widths of codes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mer_lightning.backbones.base import Encoded
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.probes import effective_rank
from mer_lightning.layers.dropout import Dropout
from mer_lightning.losses.decoupling import cross_correlation
from mer_lightning.methods.base import Losses, MERMethod
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import Absent, Codes, Contribution, Standardised, encoder, uniform_contribution
from mer_lightning.methods.mgr.referee import Referee
from mer_lightning.methods.probing import encoded_split
from mer_lightning.modalities import MODALITIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

# Ours, as everything about them: the abstract names no weight.
WEIGHTS = {
    "unimodal": 0.3,
    "joint_shared": 0.5,
    "single_shared": 0.3,
    "private_recognition": 0.1,
    "guidance": 5.0,
    "energy": 0.5,
    "disparity": 0.1,
    "reconstruction": 0.3,
    "decoupling_margin": 0.1,
    "multimodal_margin": 0.1,
}
RAMPED = ("guidance", "energy", "decoupling_margin", "multimodal_margin")
_RAMP = 0.1  # of training: these come in slowly, and margins follow contributions from its end
_SHARED, _PRIVATE = 8, 32  # widths of codes
_FOR_STATISTICS = 4096  # samples: all of a small corpus, and a thousandth of its time on a large one


class MGR(MERMethod):
    """MGR (reconstruction): shared and private codes, refined under the guidance of classifiers of modalities.

    Half of the task's loss is of all that a sample has, half of what the training masks leave: give it masks.

    Args:
        dropout: in encoders and heads.
        weights: of single losses, instead of the defaults, e.g. `{guidance: 0.5}`; 0 leaves one out.
        impute: an absent modality's shared code is made from those that are present; else it is learned, the same for
            all samples.
    """

    reconstruction: ClassVar[bool] = True

    def __init__(
        self,
        *,
        dropout: float = 0.3,
        weights: dict[str, float] | None = None,
        impute: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.weights = WEIGHTS | (weights or {})
        self._refuse_contradictions()
        self.positions = [MODALITIES.index(m) for m in self.dims]
        modalities, outputs = len(self.dims), self.task.outputs
        self._freeze_the_backbones_fusion()
        widths = self.backbone.vector_widths
        width = max(widths.values())
        self.project = nn.ModuleDict()
        if len(set(widths.values())) > 1:
            self.project.update({m: nn.Sequential(nn.Linear(widths[m], width), nn.LayerNorm(width)) for m in self.dims})
        self.share = encoder(width, _SHARED, dropout)
        self.keep = nn.ModuleDict({m: encoder(width, _PRIVATE, dropout) for m in self.dims})
        self.standardise_shared = Standardised(modalities, _SHARED)
        self.standardise_private = Standardised(None, _PRIVATE)
        self.absent = Absent(modalities, _SHARED, _PRIVATE, impute)
        both = _SHARED + _PRIVATE
        self.fusion = nn.Sequential(nn.Linear(modalities * both, width), nn.GELU(), Dropout(dropout))
        self.head = nn.Linear(width, outputs)
        self.alone = nn.ModuleDict({m: nn.Linear(both, outputs) for m in self.dims})
        self.from_all_shared = nn.Linear(modalities * _SHARED, outputs)
        self.from_each_shared = nn.Linear(_SHARED, outputs)
        self.decode = nn.ModuleDict({m: _mlp(both, width, width, dropout) for m in self.dims})
        self.recognise = _mlp(_PRIVATE, width, modalities, dropout)
        self.referee = Referee(modalities, _SHARED)
        self.contribution = Contribution(modalities)
        self._freeze_what_no_loss_trains()

    def _refuse_contradictions(self) -> None:
        if unknown := sorted(self.weights.keys() - WEIGHTS.keys()):
            raise Refusal("--model.weights", f"losses among {', '.join(WEIGHTS)}", unknown[0], "mend its spelling")
        if len(self.dims) < 2:
            raise Refusal("mgr", "two modalities or more", ", ".join(self.dims), "choose --model supervised")

    def _freeze_the_backbones_fusion(self) -> None:
        """MGR fuses by itself: the backbone's fusion would never learn, and DDP waits for all that claims to."""
        encoding = {id(parameter) for parameter in self.backbone.encoder_parameters()}
        for parameter in self.backbone.parameters():
            if id(parameter) not in encoding:
                parameter.requires_grad_(False)

    def _freeze_what_no_loss_trains(self) -> None:
        trained_by = {
            "unimodal": self.alone,
            "joint_shared": self.from_all_shared,
            "single_shared": self.from_each_shared,
            "reconstruction": self.decode,
            "private_recognition": self.recognise,
        }
        for name, part in trained_by.items():
            part.requires_grad_(bool(self.weights[name]))

    # --- codes and their fusion

    def codes(self, encoded: Encoded, available: Tensor) -> Codes:
        """Of all modalities; in training they are standardised over those that are available (B, M)."""
        vectors, shared, private = self._raw(encoded)
        return Codes(vectors, self.standardise_shared(shared, available), self.standardise_private(private, available))

    def _raw(self, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
        """(B, M, d), (B, M, d_s), (B, M, d_p): vectors, and codes before they are standardised."""
        of_one_width = {m: self.project[m](each) if self.project else each for m, each in encoded.vectors.items()}
        vectors = torch.stack([of_one_width[m] for m in self.dims], 1)
        private = torch.stack([self.keep[m](vectors[:, number]) for number, m in enumerate(self.dims)], 1)
        return vectors, self.share(vectors).float(), private.float()

    def states(self, encoded: Encoded, present: Tensor) -> Tensor:
        present = present[..., self.positions]
        return self._states(self._filled(self.codes(encoded, present.any(0)), present))

    def _filled(self, codes: Codes, present: Tensor) -> Tensor:
        """(K, B, M (d_s + d_p)) under masks (K, B, M). Which weights a sample would have is known in training only."""
        filled: Tensor = self.absent(codes, present, self.contribution.running)
        return filled

    def _states(self, filled: Tensor) -> Tensor:
        states: Tensor = self.fusion(filled)
        return states

    def representations(self, encoded: Encoded, present: Tensor) -> dict[str, dict[str, Tensor]]:
        codes = self.codes(encoded, present[:, self.positions])
        found = {"shared": codes.shared, "private": codes.private}
        return {name: dict(zip(self.dims, code.unbind(1), strict=True)) for name, code in found.items()}

    # --- losses

    def training_losses(self, batch: Batch) -> Losses:
        batch, encoded = self._everywhere(batch, self.backbone.encode(batch))
        assert batch.target is not None
        here = batch.available[:, self.positions]
        halves = torch.stack([batch.available, batch.present])[..., self.positions]
        codes = self.codes(encoded, here)
        with torch.autocast(batch.present.device.type, enabled=False):
            filled = self._filled(codes, halves)
            target = batch.target.repeat(2, *[1] * (batch.target.dim() - 1))
            task = self.task.losses(self.head(self._states(filled)).flatten(0, 1), target)
            complete = task[: len(batch)]
            single = torch.stack([self.task.losses(each, batch.target) for each in self._single(codes)], 1)
            alone = torch.stack([self.task.losses(each, batch.target) for each in self._alone(codes)], 1)
            together = self.from_all_shared(filled[0, :, : len(self.dims) * _SHARED])
            losses = {
                "unimodal": refinement.mean_over(alone, here),
                "joint_shared": self.task.losses(together, batch.target).mean(),
                "single_shared": refinement.mean_over(single, here),
                **self._guidance(codes, here),
                **self._distributions(codes, here),
                "reconstruction": self._reconstruction(codes, here),
                **self._margins(codes, complete, alone.detach(), here),
            }
        ramp = min(self.progress / _RAMP, 1.0) if self._trainer is not None else 1.0
        scaled = {
            name: (value, self.weights[name] * (ramp if name in RAMPED else 1.0))
            for name, value in losses.items()
            if self.weights[name]
        }
        return {"task": (task.mean(), 1.0), **scaled}

    def _everywhere(self, batch: Batch, encoded: Encoded) -> tuple[Batch, Encoded]:
        """What the losses read, of the samples of all processes: standardising and distances need the whole batch.

        Each process computes the same losses then; what makes the vectors, where the time goes, remains its own.
        """
        names = ("target", "index", "present", "available")
        fields: dict[str, Any] = {name: self.from_all_processes(getattr(batch, name)) for name in names}
        vectors = {m: self.from_all_processes(vector) for m, vector in encoded.vectors.items()}
        return replace(batch, **fields), replace(encoded, vectors=vectors)

    def _agreed(self, values: Tensor) -> Tensor:
        """(B, ...) what all processes have alike, though each draws its own dropout: of each, what it has of its own
        samples. What is remembered, and the referee, must not differ between them."""
        return self.from_all_processes(values.detach().chunk(self._processes)[self.global_rank])

    def _single(self, codes: Codes) -> Tensor:
        """(M, B, O) what one head says about each shared code."""
        logits: Tensor = self.from_each_shared(codes.shared).transpose(0, 1)
        return logits

    def _alone(self, codes: Codes) -> list[Tensor]:
        """M times (B, O): what the head of each modality says about both of its codes."""
        return [self.alone[m](both) for m, both in zip(self.dims, self._both(codes), strict=True)]

    def _both(self, codes: Codes) -> tuple[Tensor, ...]:
        """M times (B, d_s + d_p)"""
        return torch.cat([codes.shared, codes.private], 2).unbind(1)

    def _guidance(self, codes: Codes, here: Tensor) -> dict[str, Tensor]:
        if self.training and self.weights["guidance"]:
            self.referee.learn(self._agreed(codes.shared), here)
        return {
            "private_recognition": refinement.recognition(self.recognise(codes.private), here),
            "guidance": refinement.confusion(self.referee(codes.shared), here),
        }

    def _distributions(self, codes: Codes, here: Tensor) -> dict[str, Tensor]:
        pairs = zip(codes.shared.unbind(1), codes.private.unbind(1), here.unbind(1), strict=True)
        return {
            "energy": refinement.energy_distance(codes.shared, here),
            "disparity": torch.stack([cross_correlation(*pair) for pair in pairs]).mean(),
        }

    def _reconstruction(self, codes: Codes, here: Tensor) -> Tensor:
        decoded = torch.stack([self.decode[m](both) for m, both in zip(self.dims, self._both(codes), strict=True)], 1)
        return refinement.mean_over((decoded - codes.vectors.detach().float()).square().mean(2), here)

    def _margins(self, codes: Codes, complete: Tensor, alone: Tensor, here: Tensor) -> dict[str, Tensor]:
        weights = uniform_contribution(here) if self.progress < _RAMP else self.contribution(alone, here)
        if self.training:
            self.contribution.remember(self._agreed(alone), here)
            means = weights.sum(0) / here.sum(0).clamp(min=1)
            self.log_means({f"contribution/{m}": means[n] for n, m in enumerate(self.dims)}, len(here))
        # The classifier stands still here: it is the codes that have to move apart. Its parameters are held by calling
        # it with detached copies, since switching requires_grad in a step breaks DDP.
        still = {name: parameter.detach() for name, parameter in self.recognise.named_parameters()}
        logits = torch.func.functional_call(self.recognise, still, (codes.private,))
        return {
            "decoupling_margin": refinement.decoupling_margin(logits, weights, here),
            "multimodal_margin": refinement.multimodal_margin(complete, alone, weights, here),
        }

    # --- statistics of the training split

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        if self.trainer.state.fn == TrainerFn.FITTING:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self._measure_codes(data.split("train"), data.eval_batch_size)

    def _measure_codes(self, split: Any, batch_size: int) -> None:
        """Set what codes are standardised by in evaluation, and log whether raw shared codes differ between samples.

        Each process does it by itself: all get the same numbers, whatever their number is.
        """
        shared, private, present = [], [], []
        for batch, encoded in encoded_split(self, split, _FOR_STATISTICS, batch_size):
            _, *raw = self._raw(encoded)
            shared.append(raw[0])
            private.append(raw[1])
            present.append(batch.available[:, self.positions])
        codes, here = torch.cat(shared), torch.cat(present)
        self.standardise_shared.remember(codes, here)
        self.standardise_private.remember(torch.cat(private), here)
        deviation = self.standardise_shared.variance.sqrt().mean(2).squeeze(0)
        for number, m in enumerate(self.dims):
            self.log(f"codes/{m}_deviation", deviation[number])
            self.log(f"codes/{m}_rank", effective_rank(codes[here[:, number], number]))

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        from mer_lightning.methods.mgr.figures import figures  # matplotlib is slow to import

        return figures(runs)


def _mlp(inside: int, hidden: int, outside: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, outside))
