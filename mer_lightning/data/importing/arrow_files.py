"""Arrow and Parquet files of unknown origin: columns of numbers, texts and lists, no more than the file can hold.

A file of Arrow is as large as what it holds, unless it is compressed: such ones are refused, because the size that a
compressed part declares is taken from memory before it is read.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.bounds import refuse_growth
from mer_lightning.data.tables import CODECS
from mer_lightning.errors import Refusal, reading

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = "an Arrow file as the library datasets writes it"
_PARQUET = "a Parquet file"
_CELL = 24  # bytes of a number or of the place of a text, with the copies that are made of it
_ROWS = 1000  # at a time
_COMPRESSION = 3  # number of the field in the table RecordBatch of Arrow's Message.fbs
_HEADER = 2  # of the field in the table Message
_MAGIC = b"ARROW1"


def read_arrow(path: Path) -> pa.Table:
    """A stream or a file of record batches, mapped into memory."""
    import pyarrow as pa

    with reading(path, _ARROW), pa.memory_map(str(path)) as source:
        in_file = source.read(len(_MAGIC)) == _MAGIC
        source.seek(8 if in_file else 0)  # a file is a stream between a head and a foot
        messages = pa.MessageReader.open_stream(source)
        for message in messages:
            if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
                raise Refusal(path, "Arrow without compression", "compressed parts", "write it again with datasets")
            if message.type == "dictionary":
                raise Refusal(path, "columns of numbers, texts and lists", "a dictionary", "write plain columns")
        source.seek(8 if in_file else 0)
        with pa.ipc.open_stream(source) as stream:
            table = stream.read_all()
        table.validate(full=True)
        refuse_growth(path, table.num_rows * table.num_columns * _CELL, path.stat().st_size)
        return table


def read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    with reading(path, _PARQUET):
        size = path.stat().st_size
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            columns = [group.column(number) for group in groups for number in range(group.num_columns)]
            if other := {column.compression for column in columns} - set(CODECS):
                found = ", ".join(sorted(other))
                raise Refusal(path, f"a table compressed by {CODECS[0].lower()}", found, "write it again")
            declared = sum(max(c.num_values, 0) * _CELL + max(c.total_uncompressed_size, 0) for c in columns)
            refuse_growth(path, declared, size)
            batches, read = [], 0
            for batch in file.iter_batches(_ROWS, use_threads=False):  # a text of one place may be in every row
                read += batch.nbytes
                refuse_growth(path, read, size)
                batches.append(batch)
            table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)
        return table


def _is_compressed(metadata: bytes) -> bool:
    """Whether ``metadata``, a FlatBuffer of a Message with a RecordBatch, says that the batch is compressed."""
    message = _at(metadata, 0, "<I")
    place = _field(metadata, message, _HEADER)
    batch = place + _at(metadata, place, "<I")
    return _field(metadata, batch, _COMPRESSION) > 0


def _field(data: bytes, table: int, number: int) -> int:
    """The position of a field of a table in a FlatBuffer; 0 where it is not there."""
    names = table - _at(data, table, "<i")
    if 4 + 2 * number >= _at(data, names, "<H"):
        return 0
    offset = _at(data, names + 4 + 2 * number, "<H")
    return table + offset if offset else 0


def _at(data: bytes, position: int, kind: str) -> Any:
    if position < 0:
        raise ValueError("a position before the beginning")
    return struct.unpack_from(kind, data, position)[0]
