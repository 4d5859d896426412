"""Labels that are columns of a table: `label`, or several columns `label_NAME`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.own_corpus import texts
from mer_lightning.errors import Refusal

_PREFIX = "label_"
_MISSING = ("", "nan", "NaN")


def is_label(column: str) -> bool:
    return column == "label" or column.startswith(_PREFIX)


def label_arrays(
    path: Path, columns: Mapping[str, Sequence[str]], entry: CatalogueEntry | None, order: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays `label`, and `classes` or `targets`, of the table ``columns``.

    One column of words is one class per sample, numbered as ``entry`` numbers them, or in ``order``, or by the
    alphabet. Several columns of 0 and 1 are classes of which a sample may have several, and other numbers are targets.
    """
    several = [name for name in columns if name.startswith(_PREFIX)]
    if "label" in columns and several:
        raise Refusal(path, "a column 'label', or columns 'label_NAME'", "both", "rename one of them")
    if "label" in columns:
        values = _numbers(columns["label"])
        return {"label": values} if values is not None else _classes(path, columns["label"], entry, tuple(order))
    if not several:
        found = f"only {', '.join(columns)}"
        raise Refusal(path, "a column 'label', or several columns 'label_NAME'", found, "name the columns so")
    stacked = []
    for name in several:
        values = _numbers(columns[name])
        if values is None:
            raise Refusal(path, f"numbers in {name}", "words", "one column of words is named 'label'")
        stacked.append(values)
    label = np.column_stack(stacked)
    names = texts([name.removeprefix(_PREFIX) for name in several])
    return {"label": label, "classes" if np.isin(label, (0, 1)).all() else "targets": names}


def _numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        return np.array([np.nan if cell in _MISSING else float(cell) for cell in cells])
    except ValueError:
        return None


def _classes(
    path: Path, cells: Sequence[str], entry: CatalogueEntry | None, order: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    if missing := [number for number, cell in enumerate(cells, 1) if not cell]:
        remedy = "remove the samples without one"
        raise Refusal(path, "a class in every row", f"none in sample {missing[0]}", remedy)
    known: tuple[str, ...] = getattr(entry.task, "classes", ()) if entry else ()
    names = next((each for each in (known, order) if set(cells) <= set(each)), sorted(set(cells)))
    numbers = {name: number for number, name in enumerate(names)}
    return {"label": np.array([numbers[cell] for cell in cells]), "classes": texts(names)}
