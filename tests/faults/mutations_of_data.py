"""Ways to damage pickles, archives, arrays, HDF5, tables, tensors and checkpoints, or to make them hostile."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import pickletools
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.mutations import BYTES, CANARY, VALUES, Draw, Mutation, flip, with_another_value

_PROGRAM = f"cos\nsystem\n(S'touch {CANARY}'\ntR".encode()
# --- pickles


def _instructions(data: bytes) -> list[bytes]:
    starts = [*(position for *_, position in pickletools.genops(data)), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(starts)]


_HOSTILE = [
    _PROGRAM,
    b"cbuiltins\neval\n(S'1'\ntR",
    b"cbuiltins\nbytearray\n(I99999999999\ntR",
    b"(" * 100_000,
    b")\x94" + b"h\x00h\x00\x86\x94" * 60,
    b"".join(b"]\x94(" + b"h\x00" * 50 + b"e" for _ in range(50)),
    b"]" * 5000 + b"a" * 4999,
    b"N", b"]", b"}", b")", b"(", b"0", b"1", b"2", b"t", b"R", b"b", b"s", b"u", b"a", b"e", b"\x93", b"\x81", b"Q",
    b"K\x00", b"J\xff\xff\xff\x7f", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\x8c\x01x", b"I99999999999999999999\n",
]  # fmt: skip


def instructions(data: bytes, draw: Draw) -> bytes:
    """One instruction of a pickle is left out, doubled, moved, or becomes a hostile one."""
    try:
        parts = _instructions(data)
    except Exception:  # damaged before
        return flip(data, draw)
    for _ in range(int(draw.integers(1, 4))):
        position = int(draw.integers(0, len(parts)))
        kind = draw.integers(0, 4)
        if kind == 0 and len(parts) > 1:
            del parts[position]
        elif kind == 1:
            parts.insert(position, parts[position])
        elif kind == 2:
            parts.insert(int(draw.integers(0, len(parts))), parts[position])
        else:
            hostile = _HOSTILE[draw.integers(0, len(_HOSTILE))]
            parts[position : position + int(draw.integers(0, 2))] = [hostile]
    return b"".join(parts)


def values(data: bytes, draw: Draw) -> bytes:
    """A whole pickle in which a value somewhere is another one."""
    return pickle.dumps(with_another_value(pickle.loads(data), draw), int(draw.integers(2, 6)))


PICKLES: list[Mutation] = [instructions, instructions, values, values, *BYTES]


# --- archives and arrays


def members(data: bytes, draw: Draw) -> bytes:
    """A whole archive in which one member is damaged, lies about its size, expands, or is not there."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = {info.filename: (archive.read(info), info.compress_type) for info in archive.infolist()}
    except Exception:  # damaged before
        return flip(data, draw)
    name = list(content)[draw.integers(0, len(content))]
    member, compression = content[name]
    kind = draw.integers(0, 6)
    if kind == 0:
        del content[name]
    elif kind == 1:
        content[name] = (
            member + b"\0" * 400_000_000 if draw.random() < 0.02 else member + b"\0" * 10**6,
            zipfile.ZIP_DEFLATED,
        )
    elif kind == 2 and member[:1] == b"\x93":
        content[name] = (array_header(member, draw), compression)
    elif kind == 3 and pickle.STOP in member[-1:]:
        content[name] = (instructions(member, draw), compression)
    elif kind == 4:
        content["../" + name] = content.pop(name)
    else:
        content[name] = (BYTES[draw.integers(0, len(BYTES))](member, draw), compression)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, (member, compression) in content.items():
            archive.writestr(name, member, compression)
    return stream.getvalue()


def array_header(data: bytes, draw: Draw) -> bytes:
    """A .npy file whose header says something else."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        return flip(data, draw)
    length = struct.unpack("<H", data[8:10])[0]
    text = data[10 : 10 + length].decode("latin-1")
    shapes = [
        "(10**12,)",
        "(99999999999999, 4)",
        "(-1,)",
        "(0, 999999999999)",
        "()",
        "(2,)",
        "(1, 1, 1, 1)",
        "'x'",
        "(True,)",
    ]
    kinds = [
        "'|O'",
        "'<f8'",
        "'<M8[s]'",
        "'<c16'",
        "[('a', '<f4')]",
        "'|S999999999'",
        "'|V0'",
        "'<U3'",
        "'(99999999,)f8'",
        "3",
    ]
    if draw.random() < 0.5:
        start = text.find("'shape':") + 8
        text = text[:start] + f" {shapes[draw.integers(0, len(shapes))]}, }}"
    else:
        start, stop = text.find("'descr':") + 8, text.find(", 'fortran")
        text = text[:start] + f" {kinds[draw.integers(0, len(kinds))]}" + text[stop:]
    header = text.strip().encode("latin-1")
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]


ARRAYS: list[Mutation] = [array_header, array_header, *BYTES]
ARCHIVES: list[Mutation] = [members, members, members, *BYTES]


# --- HDF5


def groups(data: bytes, draw: Draw) -> bytes:
    """An HDF5 file in which a group or a data set is another one, a link out of the file, or a bomb."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.h5"
        path.write_bytes(data)
        try:
            with h5py.File(path, "a") as file:
                names: list[str] = []
                file.visit(names.append)
                name = names[draw.integers(0, len(names))]
                old = file[name][()] if isinstance(file[name], h5py.Dataset) else None
                del file[name]
                _new_object(file, name, old, int(draw.integers(0, 11)), folder)
        except Exception:  # damaged before
            return flip(data, draw)
        return path.read_bytes()


def _new_object(file: Any, name: str, old: Any, kind: int, folder: str) -> None:
    import h5py

    if kind == 0:
        file[name] = h5py.ExternalLink("/etc/passwd", "/x")
    elif kind == 1:
        file[name] = h5py.SoftLink(f"/{name}")
    elif kind == 2:
        file.create_dataset(name, (4, 4), "u1", external=[("/etc/passwd", 0, 16)])
    elif kind == 3:
        layout = h5py.VirtualLayout((4, 4), "f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4, 4))
        file.create_virtual_dataset(name, layout)
    elif kind == 4:
        file.create_dataset(name, (10**7, 10**4), "f8", chunks=(1000, 1000), compression="gzip")
    elif kind == 5:
        file.create_dataset(
            name, (2000, 20_000), "f4", chunks=(500, 20_000), compression="gzip", data=np.zeros((2000, 20_000), "f4")
        )
    elif kind == 6:
        file.create_group(name)
    elif kind == 7:
        file[name] = np.array([], "f4") if old is None else np.asarray(old)[:0]
    elif kind == 8:
        file[name] = "text" if old is None else np.asarray(old).reshape(-1)
    elif kind == 9:
        file[name] = np.zeros(3, [("a", "f4"), ("b", "i8")])
    else:
        file.create_dataset(name, data=np.full((2, 4), np.nan))


HDF5: list[Mutation] = [groups, groups, groups, *BYTES]


# --- tables, tensors and checkpoints


def columns(data: bytes, draw: Draw) -> bytes:
    """A Parquet table in which a column is another one, or which repeats itself without end."""
    import pandas as pd

    try:
        table = pd.read_parquet(io.BytesIO(data))
    except Exception:  # damaged before
        return flip(data, draw)
    name = table.columns[draw.integers(0, len(table.columns))]
    kind = draw.integers(0, 8)
    stream = io.BytesIO()
    if kind == 0:
        table = table.drop(columns=name)
    elif kind == 1:
        table = table.iloc[:: int(draw.integers(2, 4))]
    elif kind == 2:
        table[name] = None
    elif kind == 3:
        table[name] = [[1.0]] * len(table)
    elif kind == 4:
        table[name] = VALUES[draw.choice([2, 4, 7, 8, 9, 10, 11, 12, 21])]
    elif kind == 5:
        table = pd.DataFrame({key: np.repeat(table[key].iloc[:1].to_numpy(), 3_000_000) for key in table.columns[:3]})
    elif kind == 6:
        text = "x" * 2000
        table = pd.DataFrame({key: [text] * 200_000 for key in table.columns[:2]})
    else:
        table = pd.concat([table, table.iloc[:1]])
    table.to_parquet(stream, index=False, compression=str(draw.choice(["snappy", "snappy", "gzip"])))
    return stream.getvalue()


def tensors(data: bytes, draw: Draw) -> bytes:
    """A safetensors file whose header or numbers say something else."""
    length = int.from_bytes(data[:8], "little")
    try:
        header, content = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
        name = list(header)[draw.integers(0, len(header))]
        start, stop = header[name]["data_offsets"]
    except Exception:  # damaged before
        return flip(data, draw)
    kind = draw.integers(0, 6)
    if kind == 0:
        del header[name]
    elif kind == 1:
        header[name]["shape"] = header[name]["shape"][::-1]
    elif kind == 2:
        header[name]["shape"] = [10**9, 10**9]
    elif kind == 3:
        header[name]["dtype"] = str(draw.choice(["F64", "I8", "BF16", "BOOL", "X"]))
    elif kind == 4:
        content[start:stop] = content[start + 8 : stop] + content[start : start + 8]
    else:
        size = min(8, stop - start)
        content[start : start + size] = draw.bytes(size)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(content)


def checkpoint_values(data: bytes, draw: Draw) -> bytes:
    """A whole checkpoint in which something else is at a random place, or which declares what it does not have."""
    import torch

    try:
        content = torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # damaged before
        return flip(data, draw)
    stream = io.BytesIO()
    torch.save(with_another_value(content, draw), stream)
    return stream.getvalue()


TABLES: list[Mutation] = [columns, columns, *BYTES]
TENSORS: list[Mutation] = [tensors, tensors, *BYTES]
CHECKPOINTS: list[Mutation] = [checkpoint_values, checkpoint_values, members, members, *BYTES]
