"""`mer-lightning score FILE --corpus CORPUS`: stored predictions of any other system, scored as our runs are.

The file (.csv or .parquet) has a column `id`, and `prediction` or one `probability CLASS` for each class; `condition`
and `seed` where there are several. `report` takes the folder that is written, beside those of runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import output

if TYPE_CHECKING:
    from mer_lightning.studies.stored import Place, Scored


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mer-lightning score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the predictions")
    parser.add_argument("--corpus", required=True, help="a name, a corpus folder, or an .npz file")
    parser.add_argument("--alignment", help="which import of a named corpus")
    parser.add_argument("--partition", help="default: the first")
    parser.add_argument("--split", choices=("test", "valid"), default="test")
    parser.add_argument(
        "--protocol", nargs="+", default=["combinations"], help="that of the runs it is to stand beside"
    )
    parser.add_argument("--mask_seed", type=int, default=0)
    parser.add_argument("--name", help="of the system, in tables; default: that of the file")
    kinds = ("refuse", "constant", "leave-out")
    parser.add_argument("--missing", choices=kinds, default="refuse", help="samples without a prediction")
    parser.add_argument("--output", type=Path, help="folder to write; default: runs/scored/NAME")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    import pandas as pd
    from rich.console import Console

    from mer_lightning.data.opening import open_named
    from mer_lightning.evaluation.protocols import Protocol
    from mer_lightning.evaluation.results import table
    from mer_lightning.studies.stored import Place, score_stored

    corpus = open_named(given.corpus, given.alignment)
    name = given.name or given.file.stem
    protocol = Protocol(given.protocol, given.mask_seed, tuple(corpus.dims))
    partition = given.partition or next(iter(corpus.card.partitions), "all")
    place = Place(corpus, partition, given.split, protocol)
    folder = given.output or Path("runs") / "scored" / name
    scored = list(score_stored(given.file, name, place, folder, given.missing))
    console = Console()
    for each in scored:
        for remark in each.remarks:
            console.print(f"[yellow]![/] {remark}", highlight=False)
    seeds = ", ".join(str(each.rows["seed"].iloc[0]) for each in scored)
    title = f"{corpus.card.label}, {given.split} split of {partition}: {name} (not ours), seed {seeds}"
    rows, beside = pd.concat([each.rows for each in scored]), _beside_linear(scored, place)

    def show() -> None:
        console = Console()
        console.print(table(rows, corpus.task, title))
        for line in beside:
            console.print(line, highlight=False)
        console.print(f"[dim]{folder}; beside runs: mer-lightning report RUNS {folder}[/]", highlight=False)

    output.give({"folder": folder, "results": rows}, show)
    return 0


def _beside_linear(scored: list[Scored], place: Place) -> list[str]:
    """How far the system is from the linear model under the complete input, with an interval."""
    import torch

    from mer_lightning.evaluation.protocols import Protocol, freeze
    from mer_lightning.evaluation.references import references
    from mer_lightning.evaluation.significance import compare
    from mer_lightning.modalities import complete_among
    from mer_lightning.numerals import interval, number

    complete = complete_among(scored[0].conditions)
    index = scored[0].predictions.index
    if complete is None or any(not torch.equal(each.predictions.index, index) for each in scored):
        return []
    task, protocol = place.corpus.task, Protocol([complete], place.protocol.seed, place.protocol.modalities)
    frozen = freeze(protocol, place.samples)
    linear = references(task, place.corpus, place.partition, place.split, frozen).of(index).linear
    if linear is None:
        return []
    mine = torch.stack([each.predictions.under(each.conditions.index(complete)) for each in scored])[:, None]
    target = scored[0].predictions.target
    assert target is not None
    found = compare(task, mine, linear[None], target)
    return [
        f"beside the linear model under {complete} (higher is better): {number(found.value, '+')}, "
        f"95 % {interval(found.low, found.high)}, p {number(found.bootstrap_p)}"
    ]
