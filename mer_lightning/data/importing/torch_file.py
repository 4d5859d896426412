"""Files of torch.save, which may come from a stranger: tensors and plain values, and no more than the file can hold.

``torch.load(weights_only=True)`` executes nothing, but it builds whatever the pickle inside asks for, and takes the
sizes of tensors from it. So the pickle is first read by the unpickler of feature files, which builds nothing.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from mer_lightning.data.importing.pickle_names import NAMES, Unbuilt
from mer_lightning.data.importing.unpickle import load_pickle_bytes
from mer_lightning.errors import Refusal, reading

_REMEDY = "check the path, or copy the file again"
_SIZES = {
    **{"DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4, "HalfStorage": 2},
    **{"BFloat16Storage": 2, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1},
}


class _Part(dict[Any, Any], Unbuilt):
    """What stands for a tensor, its storage or an ordered mapping while the pickle is looked at."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(enumerate(arguments))

    def build(self, state: Any) -> Any:
        return self


_NAMES: dict[tuple[str, str], Any] = {
    **{("torch", name): name for name in _SIZES},
    **{("torch", name): _Part for name in ("Size", "device")},
    **{("torch._utils", name): _Part for name in ("_rebuild_tensor_v2", "_rebuild_parameter")},
    **{("collections", name): _Part for name in ("OrderedDict", "Counter")},
    ("_codecs", "encode"): NAMES["_codecs", "encode"],
}


def load_torch(path: Path, expected: str) -> Any:
    """What a file of torch.save holds, on the CPU."""
    with reading(path, expected, _REMEDY):
        _refuse_bombs(path, expected)
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_bombs(path: Path, expected: str) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) < len(archive.infolist()) or any(each.compress_type for each in members.values()):
            raise Refusal(path, expected, "one that is compressed, or has a part twice", _REMEDY)
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refusal(path, expected, f"{len(pickles)} pickles in it", _REMEDY)
        data = archive.read(pickles[0])
    folder = pickles[0].removesuffix(".pkl")

    def storage(pid: Any) -> _Part:
        _, kind, key, _, count = pid
        member = members.get(f"{folder}/{key}")
        if member is None or not 0 <= count * _SIZES[kind] <= member.file_size:
            raise Refusal(path, expected, f"a tensor of {count} numbers that the file does not have", _REMEDY)
        return _Part()

    load_pickle_bytes(data, path, _NAMES, storage)
