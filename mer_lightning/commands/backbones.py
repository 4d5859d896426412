"""`mer-lightning backbones`: every fusion model there is, its size and its speed on one corpus's shapes."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mer_lightning import output
from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    from mer_lightning.backbones.base import Backbone
    from mer_lightning.batch import Batch
    from mer_lightning.tasks import Task

_BATCH, _WARM_UP, _STEPS = 32, 2, 7
_SAMPLES = 120  # of the synthetic twin whose shapes are used


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning backbones", description=__doc__)
    parser.add_argument("--corpus", default="mosi", help="whose widths and lengths (its synthetic twin is used)")
    parser.add_argument("--alignment", choices=("aligned", "unaligned"), default="aligned")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    import torch
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from mer_lightning.backbones.base import all_backbones
    from mer_lightning.data.corpus import open_corpus
    from mer_lightning.data.places import synthetic_cache
    from mer_lightning.data.synthetic.twins import synthetic_corpus
    from mer_lightning.training.machine import make_ready

    make_ready()  # as before a fit
    corpus = open_corpus(synthetic_corpus(given.corpus, given.alignment, synthetic_cache(), samples=_SAMPLES))
    batch = corpus.everything().batch(torch.arange(_BATCH))
    rows = []
    for name, cls in all_backbones().items():
        row: dict[str, Any] = {"name": name, "paper": cls.paper, "aligned_only": cls.aligned_only}
        rows.append(row)
        if cls.needs_tokens:
            row["note"] = "needs token ids"
        elif not cls.aligned_only or given.alignment == "aligned":
            torch.manual_seed(0)
            try:
                backbone = cls(corpus.dims)
            except Refusal as refusal:
                row["note"] = str(refusal)
                continue
            row["parameters"] = sum(parameter.numel() for parameter in backbone.parameters())
            row["ms_per_step"] = step_time(backbone, batch, corpus.task)
            row["safe_when_missing"] = is_safe(backbone, batch)

    def show() -> None:
        table = Table(box=box.SIMPLE, padding=0, pad_edge=False)
        table.add_column("name", no_wrap=True)
        table.add_column("paper")
        for column in ("parameters", "ms per\nstep", "aligned\nonly", "safe when\nmissing"):
            table.add_column(column, justify="right")
        for row in rows:
            size, speed, safe = (row.get(fact) for fact in ("parameters", "ms_per_step", "safe_when_missing"))
            table.add_row(
                *(row["name"], row["paper"], row.get("note", "") if size is None else f"{size:,}"),
                *("" if speed is None else f"{speed:.0f}", _yes(row["aligned_only"]), _yes(safe)),
            )
        console, threads = Console(), torch.get_num_threads()
        console.print(
            f"shapes of {corpus.card.label}; one step: {_BATCH} samples forwards and backwards, {threads} threads"
        )
        console.print(table)

    output.give(rows, show)
    return 0


def _yes(flag: bool | None) -> str:
    return "" if flag is None else "yes" if flag else "no"


def is_safe(backbone: Backbone, batch: Batch) -> bool:
    """Whether the content of an absent modality cannot change the state, bit for bit; each modality is absent once."""
    import torch

    from mer_lightning.modalities import MODALITIES

    def state(of: Batch) -> torch.Tensor:
        with torch.no_grad():
            return backbone.fuse(backbone.encode(of), of.present)

    backbone.eval()
    for number, modality in enumerate(MODALITIES):
        masked = batch.limited_to(torch.arange(len(MODALITIES)) != number)
        other = masked.features | {modality: torch.full_like(masked.features[modality], 7.0)}
        if not torch.equal(state(masked), state(replace(masked, features=other))):
            return False
    return True


def step_time(backbone: Backbone, batch: Batch, task: Task) -> float:
    """Median milliseconds of a training step without an optimiser."""
    import torch

    assert batch.target is not None
    backbone.train()
    head = torch.nn.Linear(backbone.state_width, task.outputs)
    taken = []
    for _ in range(_WARM_UP + _STEPS):
        started = time.perf_counter()
        state = backbone.fuse(backbone.encode(batch), batch.present)
        task.losses(head(state), batch.target).mean().backward()
        taken.append(time.perf_counter() - started)
        backbone.zero_grad()
    return 1000 * statistics.median(taken[_WARM_UP:])
