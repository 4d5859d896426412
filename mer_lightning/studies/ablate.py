"""`mer-lightning ablate FILE`: a method as it is, and with each of its parts switched off, at the same budget.

full: ../cdat_mosi.yaml
repeat: {seed_everything: [1111, 1112, 1113, 1114, 1115]}
without:
  transfer: {model.preset: baseline}
  confidence: {model.preset: ce}
"""

from __future__ import annotations

import argparse
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mer_lightning.errors import Refusal
from mer_lightning.numerals import interval, number
from mer_lightning.studies.jobs import Job, run_silently
from mer_lightning.studies.pool import run_all
from mer_lightning.studies.progress import Progress
from mer_lightning.studies.sweep_file import canonical
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

FULL = "full"
_PARTITION = "data.partition"


@dataclass(frozen=True)
class Ablation:
    path: Path
    full: Path  # the experiment
    repeat: tuple[dict[str, Any], ...]
    without: dict[str, dict[str, Any]]  # {part: the options that switch it off}

    def jobs(self, folder: Path, more: list[str]) -> dict[str, list[Job]]:
        """{variant: its runs}; ``more`` are options for every run."""
        return {
            name: [
                self._job(folder / name, number, options | repetition, more)
                for number, repetition in enumerate(self.repeat)
            ]
            for name, options in {FULL: {}, **self.without}.items()
        }

    def _job(self, folder: Path, number: int, overrides: dict[str, Any], more: list[str]) -> Job:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{number}.json"
        text = canonical(overrides)
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)
        return Job(folder / str(number), ("--config", str(self.full), "--config", str(file), *more), (self.full, file))


def read_ablation(path: Path) -> Ablation:
    try:
        content = from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise Refusal(
            path, "an ablation file", f"{type(error).__name__}: {error}", "see docs/how-to/sweeps.md"
        ) from error
    if not isinstance(content, dict) or not {"full", "without"} <= content.keys() <= {"full", "without", "repeat"}:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise Refusal(path, "the keys full, without and repeat", str(found), "see experiments/ablations/")
    full = path.parent / content["full"]
    if not full.is_file():
        raise Refusal(f"{path}: full", "an experiment's file", content["full"], "name it relative to this file")
    repeat = content.get("repeat") or {"seed_everything": [1111, 1112, 1113, 1114, 1115]}
    if not isinstance(repeat, dict) or not all(isinstance(values, list) for values in repeat.values()):
        raise Refusal(f"{path}: repeat", "a list of values for each option", str(repeat), "see experiments/ablations/")
    without = content["without"]
    if not isinstance(without, dict) or not all(isinstance(options, dict) for options in without.values()):
        raise Refusal(f"{path}: without", "options for each part", str(without), "see experiments/ablations/")
    if _PARTITION in {key for options in (repeat, *without.values()) for key in options}:
        remedy = f"give it to all runs, one ablation each: --{_PARTITION} fold-1 --runs runs/fold-1"
        raise Refusal(path, "the same test samples in every run", _PARTITION, remedy)
    repetitions = tuple(dict(zip(repeat, values, strict=True)) for values in itertools.product(*repeat.values()))
    return Ablation(path, full, repetitions, without)


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mer-lightning ablate",
        description=__doc__.splitlines()[0],
        epilog="Other options, such as --data.synthetic true, are given to every run.",
    )
    parser.add_argument("file", type=Path, help="an ablation file, see experiments/ablations/")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="where runs are kept")
    given, more = parser.parse_known_args(args)

    from rich.console import Console

    console = Console()
    ablation = read_ablation(given.file)
    folder = given.runs / given.file.stem
    variants = ablation.jobs(folder, more)
    groups = {job.folder: name for name, jobs in variants.items() for job in jobs}
    failed = False
    with Progress(console, list(groups.values())) as progress:
        for job in [job for jobs in variants.values() for job in jobs if job.done]:
            progress.skipped(groups[job.folder], job.run_folder)
        # One repetition of every variant before the next: what is there can be compared at any time.
        waiting = (job for row in zip(*variants.values(), strict=True) for job in row if not job.done)
        for outcome in run_all(waiting, run_silently, given.workers, lambda job: progress.started(groups[job.folder])):
            job, group = outcome.item, groups[outcome.item.folder]
            if outcome.error is None:
                progress.ended(group, f"{group}/{job.folder.name}", outcome.result, job.run_folder)
            else:
                failed = True
                progress.failed(group, f"{group}/{job.folder.name}", outcome.error)
    if failed:
        return 1
    table = differences(variants)
    table.to_csv(folder / "differences.csv", index=False)
    _show(console, table, ablation, folder)
    return 0


def differences(variants: dict[str, list[Job]]) -> pd.DataFrame:
    """One row per part and condition: what the full method gains over the one without it."""
    import pandas as pd

    from mer_lightning.evaluation.significance import compare, holm
    from mer_lightning.studies.comparing import Contender, contender, refuse_other_samples

    found = {name: contender([job.run_folder for job in jobs]) for name, jobs in variants.items()}
    refuse_other_samples(found.values())
    full: Contender = found.pop(FULL)
    rows: list[dict[str, Any]] = []
    for title, conditions in full.condition_groups().items():
        compared = {
            name: compare(full.task, full.logits(conditions), other.logits(conditions), full.target)
            for name, other in found.items()
        }
        corrected = holm([difference.bootstrap_p for difference in compared.values()])
        for (name, difference), p in zip(compared.items(), corrected, strict=True):
            rows.append(
                {
                    "without": name,
                    "condition": title,
                    "full": full.score(conditions),
                    "ablated": found[name].score(conditions),
                    "gain": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.bootstrap_p,
                    "p_holm": p,
                    "p_wilcoxon": difference.wilcoxon_p,
                    "runs": len(full.runs),
                }
            )
    return pd.DataFrame(rows)


def _show(console: Console, table: pd.DataFrame, ablation: Ablation, folder: Path) -> None:
    from rich import box
    from rich.table import Table

    title = f"What each part of {ablation.full.stem} gains, {table['runs'].iloc[0]} runs each (higher is better)"
    shown = Table(box=box.SIMPLE, padding=(0, 1), title=title, title_justify="left")
    for column in ("without", "under", "full", "ablated", "gain", "95 %", "p (Holm)"):
        shown.add_column(column, justify="left" if column in ("without", "under") else "right")
    for _, row in table.iterrows():
        style = "bold" if row["p_holm"] < 0.05 else None
        shown.add_row(
            row["without"],
            row["condition"],
            number(row["full"]),
            number(row["ablated"]),
            number(row["gain"], "+"),
            interval(row["low"], row["high"]),
            number(row["p_holm"]),
            style=style,
        )
    console.print(shown)
    console.print("[dim]paired bootstrap over test samples and seeds; one checkpoint per run, chosen on validation[/]")
    console.print(f"[dim]{folder}/differences.csv has all of it[/]", highlight=False)
