"""Ablations: a method as it is, and without each of its parts, with the same budget.

full: ../cdat_mosi.yaml
repeat: {seed_everything: [1111, 1112, 1113, 1114, 1115]}
without:
  transfer: {model.preset: baseline}
  confidence: {model.preset: ce}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.plain_values import expect, refuse_path
from mer_lightning.studies.jobs import Job, by_group, write_overrides
from mer_lightning.studies.marks import Study, mark
from mer_lightning.yaml_text import read_yaml

if TYPE_CHECKING:
    import pandas as pd

FULL = "full"
_SEE = "see mer-lightning docs sweeps"
_MOST_REPETITIONS = 10_000
_PARTITION = "data.partition"


@dataclass(frozen=True)
class Ablation:
    """What an ablation file asks for. A variant is the full method, or the method without one part."""

    path: Path
    full: Path  # the experiment
    repeat: tuple[dict[str, Any], ...]
    without: dict[str, dict[str, Any]]  # {part: the options that switch it off}

    def jobs(self, folder: Path, more: list[str]) -> list[Job]:
        """All runs, grouped by variant; ``more`` are options for every run.

        One repetition of every variant comes before the next, so that variants can be compared at any time.
        """
        mark(folder, Study("ablation", self.path.stem))
        variants = {FULL: {}, **self.without}
        return [
            self._job(folder, name, number, options | repetition, more)
            for number, repetition in enumerate(self.repeat)
            for name, options in variants.items()
        ]

    def _job(self, folder: Path, variant: str, number: int, overrides: dict[str, Any], more: list[str]) -> Job:
        file = write_overrides(folder / variant / f"{number}.json", overrides)
        arguments = ("--config", str(self.full), "--config", str(file), *more)
        return Job(folder / variant / str(number), arguments, (self.full, file), variant)


def read_ablation(path: Path) -> Ablation:
    content = expect(path, read_yaml(path, "an ablation file", _SEE), dict[str, Any], "full, without and repeat", _SEE)
    if not {"full", "without"} <= content.keys() <= {"full", "without", "repeat"}:
        raise Refusal(path, "the keys full, without and repeat", str(sorted(content)), _SEE)
    remedy = "name it relative to this file"
    full = path.parent / expect(f"{path}: full", content["full"], str, "an experiment's file", remedy)
    if not full.is_file():
        raise Refusal(f"{path}: full", "an experiment's file", content["full"], remedy)
    repeat = content.get("repeat") or {"seed_everything": [1111, 1112, 1113, 1114, 1115]}
    expect(f"{path}: repeat", repeat, dict[str, list[Any]], "a list of values for each option", _SEE)
    if prod(map(len, repeat.values())) > _MOST_REPETITIONS:
        raise Refusal(f"{path}: repeat", f"at most {_MOST_REPETITIONS} repetitions", "more", _SEE)
    without = expect(f"{path}: without", content["without"], dict[str, dict[str, Any]], "options for each part", _SEE)
    for part in without:
        refuse_path(f"{path}: without", part)
    if _PARTITION in {key for options in (repeat, *without.values()) for key in options}:
        remedy = f"give it to all runs: --{_PARTITION} fold-1, or all for every fold"
        raise Refusal(path, "the same test samples in every run", _PARTITION, remedy)
    repetitions = tuple(dict(zip(repeat, values, strict=True)) for values in itertools.product(*repeat.values()))
    return Ablation(path, full, repetitions, without)


def differences(jobs: Iterable[Job]) -> pd.DataFrame:
    """One row per part and condition: what the full method gains over the one without it; all jobs are done."""
    import pandas as pd

    from mer_lightning.evaluation.significance import compare, corrected
    from mer_lightning.studies.comparing import Contender, contender, refuse_other_samples

    variants = {name: contender([job.run_folder for job in same]) for name, same in by_group(jobs).items()}
    refuse_other_samples(variants.values())
    full: Contender = variants.pop(FULL)
    rows: list[dict[str, Any]] = []
    for title, conditions in full.condition_groups().items():
        compared = {
            name: compare(full.task, full.logits(conditions), other.logits(conditions), full.target)
            for name, other in variants.items()
        }
        for (name, difference), after in zip(compared.items(), corrected(compared).values(), strict=True):
            rows.append(
                {
                    "without": name,
                    "condition": title,
                    "full": full.score(conditions),
                    "ablated": variants[name].score(conditions),
                    "gain": difference.value,
                    "low": after.low,
                    "high": after.high,
                    "p": difference.bootstrap_p,
                    "p_holm": after.bootstrap_p,
                    "p_wilcoxon": difference.wilcoxon_p,
                    "runs": len(full.runs),
                }
            )
    return pd.DataFrame(rows)
