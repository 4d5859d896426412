"""The ledger: all runs in some folders, and their results as rows of one table.

Reading thousands of folders takes a minute, so what was read of many is kept in the user's cache. A run whose files
have changed since then is read again.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.errors import Refusal
from mer_lightning.studies.finished import Run, read_results, run_in
from mer_lightning.studies.kept_ledger import kept_ledger
from mer_lightning.training.run_folder import CONFIG, CORPUS, DIVERGED, PHASES, RESULTS, divergence_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
_NOT_OPENED = ("checkpoints", "logs", "folds")
_MANY = 100  # runs; fewer are read as quickly as a cache
_READ_FILES = (CONFIG, RESULTS, CORPUS, PHASES)


@dataclass(frozen=True)
class Ledger:
    runs: list[Run]
    rows: pd.DataFrame  # one per run, condition and metric; text as categories
    diverged: dict[Path, str]  # {folder of a run that diverged and has no results: the line that says where}


def open_ledger(folders: Iterable[Path]) -> Ledger:
    """Every run with results in or below ``folders``, and those that diverged."""
    with _no_search_for_garbage():
        return _opened(list(folders))


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Thousands of runs are millions of objects that are all kept: looking for garbage among them takes seconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _opened(folders: list[Path]) -> Ledger:
    states: dict[Path, str] = {}
    diverged: dict[Path, str] = {}
    for folder in folders:
        walked = dict(_folders(folder))
        ended = sorted(path for path, names in walked.items() if DIVERGED in names)
        diverged |= {path: divergence_line(path) for path in ended}
        found = [path for path, names in walked.items() if {RESULTS, CONFIG} <= names and path not in diverged]
        if not found:
            others = f"{len(diverged)} that diverged, and no other" if diverged else "none"
            raise Refusal(folder, f"a folder with runs ({RESULTS} beside {CONFIG})", others, "name one that fit made")
        states |= {path: _state(path) for path in sorted(found, key=lambda path: path.parts)}
    if len(folders) > 1:  # the same run may lie below several of them
        each_once = {path.resolve(): path for path in states}
        states = {path: states[path] for path in each_once.values()}
    kept = kept_ledger(folders) if len(states) >= _MANY else None
    known, rows = kept.load(states) if kept else ({}, [])
    fresh = {path: run_in(path) for path in states if path not in known}
    # What is kept is joined already.
    table = rows[0] if rows and not fresh else _joined([*rows, *map(_with_costs, fresh.values())])
    every = known | fresh
    runs = [every[path] for path in states]
    if kept and fresh:
        kept.save(runs, states, table)
    return Ledger(runs, _in_order_of(runs, table.to_pandas(split_blocks=True, use_threads=False)), diverged)


def _folders(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """This folder and those below it, with the names in each.

    Links are not followed, and folders of a run are not looked into; nor are folds, which are in their pooled run.
    """
    try:
        entries = list(os.scandir(folder))
    except NotADirectoryError:
        return
    names = {entry.name for entry in entries}
    yield folder, names
    for entry in entries:
        if entry.name not in _NOT_OPENED and entry.is_dir(follow_symlinks=False):
            yield from _folders(folder / entry.name)


def _state(folder: Path) -> str:
    """Changes when one of the files that a ledger is made of does."""
    top = str(folder)  # joining texts takes a tenth of joining paths
    paths = [f"{top}{os.sep}{name}" for name in _READ_FILES]
    for logs, _, names in os.walk(f"{top}{os.sep}logs"):
        paths += [os.path.join(logs, name) for name in names if name == "metrics.csv"]
    stats = [stat for stat in map(_file_state, paths) if stat]
    return ",".join(f"{stat.st_mtime_ns}:{stat.st_size}" for stat in stats)


def _file_state(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # not there, or not to be looked at
        return None


def _with_costs(run: Run) -> pa.Table:
    """The rows of a run, with where they come from and what they cost."""
    import pyarrow as pa

    table = read_results(run.folder)
    # Of a metric, and not of a run.
    table = table.rename_columns(["metric_variant" if name == "variant" else name for name in table.column_names])
    columns = {"run": str(run.folder), "variant": run.variant, **run.facts.cost}
    for name, value in columns.items():
        filled = pa.array([value], pa.string() if isinstance(value, str) else pa.float64())
        table = table.append_column(name, pa.chunked_array([filled.take(pa.array([0] * len(table)))]))
    return table


def _joined(tables: list[pa.Table]) -> pa.Table:
    """All rows, text as categories: what repeats in every row of a run is stored once."""
    import pyarrow as pa

    rows = pa.concat_tables(map(_with_wide_categories, tables), promote_options="permissive")
    return _with_narrow_categories(rows.unify_dictionaries().combine_chunks())


def _with_wide_categories(table: pa.Table) -> pa.Table:
    """All with numbers of 32 bits, so that tables can be joined."""
    import pyarrow as pa

    for number, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            table = table.set_column(number, column.name, table.column(number).dictionary_encode())
        elif pa.types.is_dictionary(column.type):
            table = table.set_column(number, column.name, _numbered(table.column(number), pa.int32()))
    return table


def _with_narrow_categories(table: pa.Table) -> pa.Table:
    """Rows are many and categories few: to fill four bytes with each instead of one is most of what opening takes."""
    import pyarrow as pa

    for number, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            values = table.column(number)
            few = max((len(chunk.dictionary) for chunk in values.chunks), default=0) < 128
            table = table.set_column(number, column.name, _numbered(values, pa.int8() if few else pa.int32()))
    return table


def _numbered(categories: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    chunks = [pa.DictionaryArray.from_arrays(chunk.indices.cast(kind), chunk.dictionary) for chunk in categories.chunks]
    return pa.chunked_array(chunks, pa.dictionary(kind, pa.string()))


def _in_order_of(runs: list[Run], rows: pd.DataFrame) -> pd.DataFrame:
    order = {str(run.folder): number for number, run in enumerate(runs)}
    place = rows["run"].map(order).astype(int)
    return rows if place.is_monotonic_increasing else rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)
