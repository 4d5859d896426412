"""The ledger: all runs in some folders as rows of one table, and their predictions where they are needed.

A *variant* is a configuration up to its seed. Runs of one variant may be averaged; others may not (rule 6).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.tasks import Ratings, Task, task_from_card
from mer_lightning.training.run_folder import BEST, CONFIG, CORPUS, PHASES, PREDICTIONS, RESULTS, metrics_over_time
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

# Runs of one variant may differ in these: the seed, and where and how the run is kept.
_NOT_OF_THE_VARIANT = ("seed_everything", "run_dir", "name", "resume", "logger", "test_after_fit", "config")
# Scores that differ in one of these are never put into one table.
SETTING = [
    "trained_on",
    "corpus",
    "labels",
    "corpus_sha256",
    "feature_set",
    "partition",
    "split",
    "samples",
    "protocol",
    "mask_hash",
    "metrics_version",
]


@dataclass(frozen=True)
class Run:
    """One run that has results."""

    folder: Path
    config: dict[str, Any]

    @property
    def variant(self) -> str:
        """A short hash of the configuration without the seed and the folder."""
        text = json.dumps(flat(self.config), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def task(self) -> Task:
        return task_from_card(from_yaml((self.folder / CORPUS).read_text())["task"])

    def results(self) -> pd.DataFrame:
        import pandas as pd

        return pd.read_csv(self.folder / RESULTS).assign(run=str(self.folder), variant=self.variant, **self.cost())

    def cost(self) -> dict[str, float]:
        """Seconds of training, epochs that it took and could have taken in all phases, and the most memory in use."""
        path = self.folder / PHASES
        phases = json.loads(path.read_text()).values() if path.is_file() else []
        return {
            "seconds": sum(phase["seconds"] for phase in phases),
            "epochs": sum(phase["epochs"] for phase in phases),
            "budget": sum(phase.get("max_epochs") or 0 for phase in phases),
            "peak_megabytes": max((phase.get("peak_megabytes", 0.0) for phase in phases), default=0.0),
        }

    def predictions(self) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self.folder / PREDICTIONS)

    @property
    def checkpoint(self) -> Path:
        return self.folder / BEST

    def metrics_over_time(self) -> pd.DataFrame:
        return metrics_over_time(self.folder)


def run_in(folder: Path) -> Run:
    return Run(folder, from_yaml((folder / CONFIG).read_text()))


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Every run with results in or below ``folders``."""
    runs = []
    for folder in folders:
        paths = [path for path in sorted(folder.rglob(RESULTS)) if (path.parent / CONFIG).is_file()]
        if not paths:
            raise Refusal(folder, f"a folder with runs ({RESULTS} beside {CONFIG})", "none", "name one that fit made")
        runs += [run_in(path.parent) for path in paths]
    return list({run.folder.resolve(): run for run in runs}.values())


def ledger(runs: list[Run]) -> pd.DataFrame:
    """All rows of all runs."""
    import pandas as pd

    return pd.concat([run.results() for run in runs], ignore_index=True)


def variant_labels(runs: list[Run]) -> dict[str, str]:
    """{variant: a short name}: the method, and the options in which it differs from others of the same method."""
    options = {run.variant: flat(run.config) for run in runs}
    methods = {variant: _method(each) for variant, each in options.items()}
    labels = {}
    for variant, mine in options.items():
        same_method = [each for other, each in options.items() if methods[other] == methods[variant]]
        keys = [key for key in mine if _in_label(key) and any(each.get(key) != mine[key] for each in same_method)]
        differing = ", ".join(f"{_short(key)} {_short(str(mine[key]))}" for key in keys)
        labels[variant] = f"{methods[variant]} ({differing})" if differing else methods[variant]
    return _unique(labels)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of all options that make a variant."""
    options: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in _NOT_OF_THE_VARIANT:
            continue
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            options |= flat(value, f"{name}.")
        else:
            options[name] = value
    return options


def logits_of(table: pd.DataFrame, conditions: list[str]) -> Tensor:
    """(K, N, O) of some conditions of a run's predictions, in the order of the split."""
    import torch

    columns = [name for name in table.columns if name.startswith("logit ")]
    return torch.stack([torch.tensor(table[table["condition"] == name][columns].to_numpy()) for name in conditions])


def targets_of(table: pd.DataFrame, task: Task) -> Tensor:
    """The targets of a run's predictions as a tensor; the file has classes by their names."""
    import torch

    rows = table[table["condition"] == table["condition"].iloc[0]]  # the same under every condition
    if isinstance(task, Ratings) and len(task.targets) > 1:
        return torch.tensor(rows[[f"target {name}" for name in task.targets]].to_numpy())
    targets, classes = rows["target"], getattr(task, "classes", None)
    if classes is None:
        return torch.tensor(targets.to_numpy())
    if task.kind == "single_label":
        return torch.tensor([classes.index(name) for name in targets])
    return torch.tensor([[float(c in names.split("+")) for c in classes] for names in targets])


def _method(options: dict[str, Any]) -> str:
    """The method's name, or the name of its preset where it has one."""
    name = str(options["model.class_path"]).rsplit(".", 2)[-2]
    preset = options.get("model.init_args.preset")
    masks = str(options.get("data.masks.class_path") or "")
    if name == "supervised" and "Combinations" in masks:
        return "modality_dropout"
    return name if preset in (None, name) else str(preset)


def _in_label(key: str) -> bool:
    """The method is named already, and all runs of one table share the corpus."""
    return key != "model.class_path" and not key.startswith(("data.corpus", "data.alignment"))


def _short(text: str) -> str:
    return text.rsplit(".", 1)[-1] if text.count(".") and not text.replace(".", "").replace("-", "").isdigit() else text


def _unique(labels: dict[str, str]) -> dict[str, str]:
    counts = {label: list(labels.values()).count(label) for label in labels.values()}
    return {variant: label if counts[label] == 1 else f"{label} {variant}" for variant, label in labels.items()}
