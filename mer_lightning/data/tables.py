"""Reading the Parquet tables of a corpus or a run: numbers and texts, no more than the file can hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.bounds import refuse_growth
from mer_lightning.errors import Refusal, reading

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CELL = 24  # bytes of a number or of the place of a text, with the copies that are made of it
CODECS = ("SNAPPY", "UNCOMPRESSED")  # others make a thousandth of what repeats itself, and nothing here writes them


def read_table(
    path: Path, expected: str, texts: Iterable[str] = (), numbers: Iterable[str] = (), gaps: Iterable[str] = ()
) -> pd.DataFrame:
    """A table that has some columns of texts, some of finite numbers, some of numbers with gaps, and perhaps more."""
    import numpy as np

    remedy = "copy or make the file again"
    with reading(path, expected, remedy):
        frame = _plain(path, _read(path)).to_pandas()
    for name in (*texts, *numbers, *gaps):
        if name not in frame:
            raise Refusal(path, f"a column '{name}'", f"only {', '.join(map(str, frame.columns))}", remedy)
        column = frame[name]
        if name in texts and (column.dtype.kind in "iufb" or column.isna().any()):  # columns are numbers or texts
            raise Refusal(path, f"texts in column '{name}'", str(column.dtype), remedy)
        if name in numbers and (column.dtype.kind not in "iuf" or not np.isfinite(column).all()):
            raise Refusal(path, f"finite numbers in column '{name}'", str(column.dtype), remedy)
        if name in gaps and (column.dtype.kind not in "iuf" or np.isinf(column).any()):
            raise Refusal(path, f"numbers in column '{name}'", str(column.dtype), remedy)
    return frame


def _read(path: Path) -> pa.Table:
    """Texts as categories, so that one that repeats itself is in memory once."""
    import pyarrow as pa
    from pyarrow import parquet

    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        columns = [group.column(number) for group in groups for number in range(group.num_columns)]
        texts = [
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
    for field in schema:
        if field.name not in texts and not (
            pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)
        ):
            raise Refusal(path, "columns of numbers and texts", f"'{field.name}' of {field.type}", "make it again")
    if other := {column.compression for column in columns} - set(CODECS):
        raise Refusal(path, f"a table compressed by {CODECS[0].lower()}", ", ".join(sorted(other)), "make it again")
    rows = sum(group.num_rows for group in groups)
    refuse_growth(path, rows * len(schema) * _CELL + sum(max(c.total_uncompressed_size, 0) for c in columns), size)
    return parquet.read_table(path, read_dictionary=texts, use_threads=False, partitioning=None)


def _plain(path: Path, table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 0
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            for chunk in table.column(number).chunks:
                lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
                size += pc.sum(lengths).as_py() or 0
            refuse_growth(path, size, path.stat().st_size)
            table = table.set_column(number, field.name, table.column(number).cast(pa.string()))
    table.validate(full=True)  # a text may hold bytes that are none
    return table
