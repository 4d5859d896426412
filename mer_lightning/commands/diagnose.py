"""`mer-lightning diagnose RUN ...`: how reliable runs are when a modality is masked, from their stored predictions.

With --codes also what can be read from the vectors and codes of their checkpoints: the modality, and the label."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning import output
from mer_lightning.errors import Refusal
from mer_lightning.modalities import COMBINATIONS, COMPLETE, MODALITIES, combination_name
from mer_lightning.numerals import number, spread

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mer_lightning.data.corpus import Corpus, CorpusCard
    from mer_lightning.evaluation.diagnosis import Views
    from mer_lightning.studies.finished import Run


_CELL = 12  # columns of text that a mean with its deviation takes, and the space before it


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning diagnose", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with runs in or below them")
    meaning = (
        "probe the vectors and codes of the selected checkpoint, too: fitted on training samples, scored on test ones"
    )
    parser.add_argument("--codes", action="store_true", help=meaning)
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    from rich.console import Console

    from mer_lightning.evaluation.diagnosis import over_runs
    from mer_lightning.studies.ledger import open_ledger
    from mer_lightning.studies.report.settings import settings_of

    console, found = Console(highlight=False), []
    with console.capture() as tables:
        for setting in settings_of(open_ledger(given.runs)):
            console.print(f"[bold]{setting.title}[/]; {setting.provenance}\n")
            methods = {
                label: [_diagnose(run, label, given.codes, console) for run in contender.runs]
                for label, contender in setting.contenders.items()
            }
            found.append({"setting": setting.title, "methods": methods})
            if sum(map(len, methods.values())) > 1:
                for table in _side_by_side(over_runs(methods), console.width):
                    _print(console, "Side by side: mean±deviation over seeds", table)
    output.give(found, lambda: print(tables.get(), end=""))
    return 0


def _diagnose(run: Run, label: str, codes: bool, console: Console) -> dict[str, float]:
    """Print the tables of one run, and give back its measures."""
    from mer_lightning.evaluation.diagnosis import measures, tables
    from mer_lightning.training.run_folder import BEST

    views, notes = read(run)
    console.print(f"[bold]{label}[/], seed {run.config['seed_everything']}: {run.folder}", soft_wrap=True)
    if views.unusable:
        notes.append(f"nothing can be diagnosed: {views.unusable}")
    else:
        console.print(f"  {len(views.target)} samples, of which {int(views.decided.sum())} can be right or wrong")
        notes += views.missing
    if views.untested and (run.folder / BEST).is_file():
        notes.append(f"to test the others: {_test_command(run)}")
    probes = _probes(run) if codes else {}
    if isinstance(probes, str):
        notes.append(f"codes are not probed: {probes}")
        probes = {}
    for note in notes:
        console.print(f"  note: {note}", style="dim", markup=False, soft_wrap=True)
    console.print()
    for title, table in tables(views).items():
        _print(console, title, table)
    if shares := run.facts.gradient_shares:
        _print(console, "Gradients on the encoders, beside that of the task", _gradients(shares))
    if probes:
        _print(console, "Codes of the checkpoint: what fresh models read from those of test samples", _wide(probes))
    return (
        measures(views)
        | {f"gradient share, {loss}": share for loss, (share, _) in shares.items()}
        | {f"{name}: {measure}": value for name, found in probes.items() for measure, value in found.items()}
    )


def _gradients(shares: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """One row per loss: the norm of its gradient relative to the task's, and their cosine."""
    import pandas as pd

    rows = [(loss, *values) for loss, values in shares.items()]
    return pd.DataFrame(rows, columns=["loss", "share", "cosine"])


def _probes(run: Run) -> dict[str, dict[str, float]] | str:
    """{representation: {measure: value}} of a run's checkpoint, or why there are none."""
    from mer_lightning.data.corpus import card_in
    from mer_lightning.methods.loading import load_method
    from mer_lightning.methods.probing import probes_of
    from mer_lightning.training.run_folder import CORPUS

    corpus = _corpus_of(run, card_in(run.folder / CORPUS))
    if isinstance(corpus, str):
        return corpus
    partition = run.config["data"].get("partition") or next(iter(corpus.card.partitions))
    try:
        method = load_method(run.checkpoint)
        return probes_of(method, *(corpus.split(partition, name) for name in ("train", "test")))
    except Refusal as refusal:
        return str(refusal)


def _wide(probes: dict[str, dict[str, float]]) -> pd.DataFrame:
    """One row per representation, one column per measure."""
    import pandas as pd

    return pd.DataFrame.from_dict(probes, orient="index").rename_axis("representation").reset_index()


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
        remedy = f"make them: {_test_command(run)}"
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


def _test_command(run: Run) -> str:
    """What tests a run under every combination of the modalities that its corpus has."""
    return shlex.join(["mer-lightning", "test", "--run", str(run.folder), "--protocol", "combinations"])


def _side_by_side(long: pd.DataFrame, width: int) -> list[pd.DataFrame]:
    """Measures by methods, as many of them in one table as have room in ``width`` columns of text."""
    cells = long.assign(cell=[spread(mean, std) for mean, std in zip(long["mean"], long["std"], strict=True)])
    wide = cells.pivot(index="measure", columns="label", values="cell")
    order = {name: list(dict.fromkeys(long[name])) for name in ("measure", "label")}
    room = max((width - max(map(len, order["measure"]))) // _CELL, 1)
    parts = [order["label"][first : first + room] for first in range(0, len(order["label"]), room)]
    return [wide.loc[order["measure"], labels].dropna(how="all").fillna("").reset_index() for labels in parts]


def _print(console: Console, title: str, table: pd.DataFrame) -> None:
    from rich import box
    from rich.table import Table

    console.print(title, style="italic", markup=False, soft_wrap=True)  # a title of the table would break at its width
    shown = Table(box=box.SIMPLE, padding=0, pad_edge=False)
    for position, column in enumerate(table.columns):
        header = column.replace("_", " ")
        least = max(len(_cell(value)) for value in table[column]) if len(table) else None
        shown.add_column(
            header, justify="right" if position else "left", no_wrap=not position, overflow="fold", min_width=least
        )
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console.print(shown)


def _cell(value: Any) -> str:
    """Counts whole, shares and scores with three digits, nothing for what is not defined."""
    import pandas as pd

    if pd.isna(value):
        return ""
    return str(value) if isinstance(value, str | Integral) else number(value)
