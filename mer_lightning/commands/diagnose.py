"""`mer-lightning diagnose RUN ...`: how reliable runs are when a modality is masked, from their stored predictions."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.modalities import COMBINATIONS, COMPLETE, MODALITIES, combination_name
from mer_lightning.numerals import number, spread

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mer_lightning.data.corpus import Corpus, CorpusCard
    from mer_lightning.evaluation.diagnosis import Views
    from mer_lightning.studies.finished import Run


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning diagnose", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with runs in or below them")
    given = parser.parse_args(args)

    from rich.console import Console

    from mer_lightning.evaluation.diagnosis import reliability
    from mer_lightning.studies.ledger import open_ledger
    from mer_lightning.studies.report.settings import settings_of

    console = Console(highlight=False)
    for setting in settings_of(open_ledger(given.runs)):
        console.print(f"[bold]{setting.title}[/]; {setting.provenance}\n")
        methods = {
            label: [_diagnose(run, label, console) for run in contender.runs]
            for label, contender in setting.contenders.items()
        }
        if sum(map(len, methods.values())) > 1:
            _print(console, "Side by side: mean±deviation over seeds", _side_by_side(reliability(methods)))
    return 0


def _diagnose(run: Run, label: str, console: Console) -> Views:
    """Print the tables of one run."""
    from mer_lightning.evaluation.diagnosis import tables
    from mer_lightning.training.run_folder import BEST

    views, notes = read(run)
    console.print(f"[bold]{label}[/], seed {run.config['seed_everything']}: {run.folder}", soft_wrap=True)
    if views.unusable:
        notes.append(f"nothing can be diagnosed: {views.unusable}")
    else:
        console.print(f"  {len(views.target)} samples, of which {int(views.decided.sum())} can be right or wrong")
        notes += views.missing
    if views.untested and (run.folder / BEST).is_file():
        notes.append(f"to test the others: {_test_command(run, views.letters)}")
    for note in notes:
        console.print(f"  note: {note}", style="dim", markup=False, soft_wrap=True)
    console.print()
    for title, table in tables(views).items():
        _print(console, title, table)
    return views


def read(run: Run) -> tuple[Views, list[str]]:
    """What a run has stored, of the samples that have all modalities; and what could not be found, in words."""
    import torch

    from mer_lightning.data.corpus import card_in
    from mer_lightning.evaluation.diagnosis import CONFIDENCE, Views
    from mer_lightning.studies.finished import logits_of, targets_of
    from mer_lightning.training.run_folder import CORPUS, PREDICTIONS

    card = card_in(run.folder / CORPUS)
    letters = combination_name(m in card.dims for m in MODALITIES)
    if not (run.folder / PREDICTIONS).is_file():
        remedy = f"make them: {_test_command(run, letters)}"
        raise Refusal(run.folder, f"stored predictions ({PREDICTIONS})", "none", remedy)
    table, task = run.predictions(), run.task
    names = [name for name in dict.fromkeys(table["condition"]) if name in COMBINATIONS]
    stored = {}
    if CONFIDENCE in table:
        stored = {name: torch.tensor(table.loc[table["condition"] == name, CONFIDENCE].to_numpy()) for name in names}
    views = Views(
        task=task,
        target=targets_of(table, task),
        logits={name: logits_of(table, [name])[0] for name in names},
        letters=letters,
        confidence=stored,
        references=_references(run, card),
    )
    corpus = _corpus_of(run, card)
    if isinstance(corpus, str):
        return views, [f"what the corpus knows of its samples is not used: {corpus}"]
    return _with_samples(views, corpus, list(table.loc[table["condition"] == table["condition"].iloc[0], "id"]))


def _references(run: Run, card: CorpusCard) -> dict[str, float]:
    """What is known of a twin, where it is known for the samples of this run."""
    rows, metric = run.results(), run.task.score[0]
    known = rows[(rows["condition"] == COMPLETE) & (rows["metric"] == metric)]["bayes"].dropna()
    if not len(known):
        return {}
    beside = {"best possible, contradicting one masked": card.ceiling, "linear model": card.linear}
    found = {"best possible": float(known.iloc[0])}
    return found | {what: scores[metric] for what, scores in beside.items() if metric in scores}


def _corpus_of(run: Run, card: CorpusCard) -> Corpus | str:
    """The corpus that a run was tested on, or why it is not at hand."""
    from mer_lightning.data.opening import open_named

    data = run.config["data"]
    options = {name: data[name] for name in ("corpus", "alignment", "synthetic", "samples", "process") if name in data}
    try:
        corpus = open_named(**options)
    except Refusal as refusal:
        return str(refusal)
    if corpus.card.sha256 != card.sha256:
        return f"{corpus.folder or data['corpus']} now holds other tensors than those of the run"
    return corpus


def _with_samples(views: Views, corpus: Corpus, ids: list[str]) -> tuple[Views, list[str]]:
    """Views with which modality of each sample contradicts, without the samples that lack a modality by nature."""
    import torch

    notes, samples = [], corpus.samples
    rows = samples.reset_index().set_index("id").loc[ids, "index"].to_numpy()
    if "contradicts" in samples:
        numbers = {name: number for number, name in enumerate(MODALITIES)} | {"": -1}
        who = torch.tensor([numbers[name] for name in samples["contradicts"].iloc[rows]])
        views = replace(views, contradicting=who)
    else:
        notes.append("which modality contradicts is known of synthetic twins only: no picking, filtering or ceiling")
    lengths = torch.stack([corpus.tensors[f"{m}.offsets"].diff()[torch.tensor(rows)] for m in corpus.dims])
    whole = (lengths > 0).all(0)
    if not whole.all():
        notes.append(f"left out: {int((~whole).sum())} samples that lack a modality by nature")
        views = views.of(whole)
    return views, notes


def _test_command(run: Run, letters: str) -> str:
    """What tests a run under every combination of the modalities that its corpus has."""
    combinations = [name for name in COMBINATIONS if set(name) <= set(letters)]
    protocol = "fixed-7" if letters == COMPLETE else f"[{', '.join(combinations)}]"
    return shlex.join(["mer-lightning", "test", "--run", str(run.folder), "--protocol", protocol])


def _side_by_side(long: pd.DataFrame) -> pd.DataFrame:
    """Measures by methods."""
    cells = long.assign(cell=[spread(mean, std) for mean, std in zip(long["mean"], long["std"], strict=True)])
    wide = cells.pivot(index="measure", columns="label", values="cell")
    order = {name: list(dict.fromkeys(long[name])) for name in ("measure", "label")}
    return wide.loc[order["measure"], order["label"]].fillna("").reset_index()


def _print(console: Console, title: str, table: pd.DataFrame) -> None:
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE, padding=0, pad_edge=False, title=title, title_justify="left")
    for position, column in enumerate(table.columns):
        header = column.replace("_", " ")
        shown.add_column(header, justify="right" if position else "left", no_wrap=not position, overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console.print(shown)


def _cell(value: Any) -> str:
    """Counts whole, shares and scores with three digits, nothing for what is not defined."""
    import pandas as pd

    if pd.isna(value):
        return ""
    return str(value) if isinstance(value, str | Integral) else number(value)
