"""The test predictions of all folds of a corpus as one result, in a folder like that of a run.

Shapes: N samples of all test splits, K conditions, O outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from mer_lightning.data.corpus import Corpus
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.evaluation.protocols import FrozenProtocol, Protocol, freeze
from mer_lightning.evaluation.references import References, references
from mer_lightning.evaluation.results import Presence, Provenance, tidy
from mer_lightning.modalities import MODALITIES
from mer_lightning.studies.finished import Run, logits_of, read_phases, run_in, targets_of
from mer_lightning.studies.folds import Folds, opened
from mer_lightning.training.given import data_options
from mer_lightning.training.run_folder import CONFIG, CORPUS, PHASES, write_environment, write_results
from mer_lightning.whole_files import write_whole

if TYPE_CHECKING:
    import pandas as pd


def pool_done(studies: Iterable[Folds]) -> None:
    """One run of each study whose folds have all ended. A fold that ran again changes it, too."""
    for study in studies:
        if study.pooled and all(part.done for part in study.parts):
            _pool(study)


def _pool(study: Folds) -> None:
    import pandas as pd

    runs = [run_in(part.run_folder) for part in study.parts]
    names = [str(run.config["data"]["partition"]) for run in runs]
    corpus = opened(runs[0].config["data"])
    folder = study.job.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    tables = [run.predictions() for run in runs]
    rows = _rows(corpus, runs, names, tables)
    by_condition = [
        table[table["condition"] == name] for name in tables[0]["condition"].unique() for table in tables
    ]  # as in the table of a run
    config = runs[0].config | {"run_dir": str(folder)}
    config["data"] = config["data"] | {"partition": data_options(study.job.arguments)["partition"]}
    write_whole(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    write_whole(folder / CORPUS, (runs[0].folder / CORPUS).read_text(encoding="utf-8"))
    write_environment(folder)
    write_whole(folder / PHASES, json.dumps(_phases(runs, names), indent=2))
    _write_log(folder, runs)
    samples = pd.concat([run.samples() for run in runs], join="inner", ignore_index=True)
    study.job.mark()
    write_results(folder, rows, pd.concat(by_condition, ignore_index=True), samples)


def _rows(corpus: Corpus, runs: list[Run], names: list[str], tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The results of all folds' predictions together, and beside each value those of single folds."""
    import pandas as pd

    of_folds = [run.results() for run in runs]
    frozen = [_frozen(corpus, run, name, rows) for run, name, rows in zip(runs, names, of_folds, strict=True)]
    conditions = [each.name for each in frozen[0].conditions]
    for run, each in zip(runs, frozen, strict=True):
        if [condition.name for condition in each.conditions] != conditions:
            remedy = "a test split lacks a modality: pool the other folds, by name"
            raise Refusal(run.folder, "the same conditions in every fold", "others", remedy)
    task, first = corpus.task, of_folds[0].iloc[0]
    logits = torch.cat([logits_of(table, conditions).transpose(0, 1) for table in tables])
    predictions = Predictions(
        logits, torch.cat([targets_of(table, task) for table in tables]), torch.arange(len(logits))
    )
    splits = [corpus.split(name, "test") for name in names]
    trained = [corpus.split(name, "train").there for name in names]
    presence = Presence(
        torch.cat([each.present for each in frozen], 1),
        torch.cat([split.present for split in splits]),
        tuple(m for m in MODALITIES if any(m not in there for there in trained) and m in corpus.dims),
    )
    kept = {name: first[name] for name in Provenance.__dataclass_fields__}
    hashes = "\n".join(each.mask_hash for each in frozen)
    kept |= {
        "partition": f"{' + '.join(names)}, pooled",
        "mask_hash": hashlib.sha256(hashes.encode()).hexdigest()[:16],
        "seed": int(first["seed"]),
        "samples": len(logits),
        "metrics_version": int(first["metrics_version"]),
    }
    beside = References.joined(
        [references(task, corpus, name, "test", each) for name, each in zip(names, frozen, strict=True)]
    )
    rows = tidy(predictions, task, frozen[0].protocol, corpus.card, beside, Provenance(**kept), presence)
    single = pd.concat(of_folds).groupby(["condition", "metric"])["value"].agg(fold_mean="mean", fold_std="std")
    return rows.join(single, on=["condition", "metric"]).assign(folds=len(runs))


def _frozen(corpus: Corpus, run: Run, name: str, rows: pd.DataFrame) -> FrozenProtocol:
    """The masks of a fold's test, drawn again."""
    asked = run.config["protocol"]
    protocol = Protocol([asked] if isinstance(asked, str) else asked, run.config["mask_seed"], tuple(corpus.dims))
    frozen = freeze(protocol, corpus.split(name, "test"))
    if frozen.mask_hash != rows["mask_hash"].iloc[0] or corpus.card.sha256[:16] != rows["corpus_sha256"].iloc[0]:
        remedy = "put the corpus back, or remove the folder and run the fold again"
        raise Refusal(run.folder, f"the samples and masks of {corpus.card.label}", "others", remedy)
    return frozen


def _phases(runs: list[Run], names: list[str]) -> dict[str, Any]:
    """Those of all folds: their epochs and seconds are what the result has cost."""
    found: dict[str, Any] = {}
    for name, run in zip(names, runs, strict=True):
        found |= {f"{name} {phase}": facts for phase, facts in read_phases(run.folder).items()}
    return found


def _write_log(folder: Path, runs: list[Run]) -> None:
    """The mean over folds of what was logged in each epoch."""
    import pandas as pd

    logged = [log for log in (run.metrics_over_time() for run in runs) if len(log)]
    if logged:
        mean = pd.concat(logged).groupby("epoch").mean(numeric_only=True).reset_index()
        (folder / "logs").mkdir(exist_ok=True)
        write_whole(folder / "logs" / "metrics.csv", mean.to_csv(index=False))
