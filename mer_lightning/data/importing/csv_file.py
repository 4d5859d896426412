"""Tables of comma-separated values: UTF-8, with a header, every row as long as it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_lightning.bounds import refuse_growth
from mer_lightning.errors import Refusal, reading

TABLE = "a table of comma-separated values with a header"
_REMEDY = "write it again, e.g. with pandas: to_csv(index=False)"
_CELL = 60  # bytes of a text of a few characters, with its place in a list


def csv_rows(path: Path) -> Iterator[list[str]]:
    """The header, then the other rows."""
    with reading(path, TABLE, _REMEDY), open(path, encoding="utf-8-sig", newline="") as stream:
        header: list[str] = []
        for number, row in enumerate(csv.reader(stream)):
            if not header:
                header = row
                if len(set(header)) < len(header):
                    raise Refusal(path, "each column once", ", ".join(header), _REMEDY)
            if not row:
                continue
            if len(row) != len(header):
                found = f"{len(row)} in row {number + 1}"
                raise Refusal(path, f"{len(header)} cells in each row, as the header has", found, _REMEDY)
            yield row
        if not header:
            raise Refusal(path, TABLE, "nothing", _REMEDY)


def csv_columns(path: Path) -> dict[str, list[str]]:
    """{column: its cells}"""
    rows = csv_rows(path)
    header = next(rows)
    columns: list[list[str]] = [[] for _ in header]
    size, cells = path.stat().st_size, 0
    for row in rows:
        cells += len(row)
        refuse_growth(path, cells * _CELL, size)
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    return dict(zip(header, columns, strict=True))


def csv_features(path: Path, key: str) -> tuple[list[str], NDArray[np.float32]]:
    """(the cells of column ``key``, (rows, D) of all other columns, which are numbers)"""
    rows = csv_rows(path)
    header = next(rows)
    if key not in header:
        raise Refusal(path, f"a column '{key}'", f"only {', '.join(header)}", "name the column of the sample so")
    position = header.index(key)
    names, values = [], []
    for row in rows:
        names.append(row.pop(position))
        with reading(path, "numbers in every other column", _REMEDY):
            values.append(np.array(row, np.float32))
    if not values:
        raise Refusal(path, "rows of features", "none", _REMEDY)
    return names, np.stack(values)
