"""How every YAML file is read: by libyaml where PyYAML was built with it, which is several times quicker.

A text of a few lines can stand for more than any memory holds, or be nested deeper than any program follows. So the
text is walked first, which takes no more than it is long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mer_lightning.errors import reading

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_plain = functools.partial(yaml.load, Loader=_Loader)
_LONGEST_TEXT = 2**20  # characters; what people write is a hundredth of it
_LONGEST_NUMBER = 100  # characters: the time to read a number grows with their square
_DEEPEST = 40
# An anchor stands for what it names as often as it is used: by how much the text may grow through that.
_FREE, _TIMES = 10_000, 10


def read_yaml(path: Path, expected: str, remedy: str) -> Any:
    """What a YAML file holds, as plain values."""
    with reading(path, expected, remedy):
        return from_yaml(path.read_text(encoding="utf-8"))


def from_yaml(text: str, load: Callable[[str], Any] = _plain) -> Any:
    """What ``load`` makes of a text that stays small; a YAMLError for every other text."""
    try:
        _refuse_bombs(text)
        return load(text)
    except yaml.YAMLError:
        raise
    except Exception as error:  # the constructors of numbers and dates raise whatever Python raises
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def _refuse_bombs(text: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise yaml.YAMLError(f"{len(text)} characters, more than {_LONGEST_TEXT}")
    written = 0
    sizes: dict[str, int] = {}  # {anchor: values that it stands for}
    open_ones: list[tuple[str | None, int]] = [(None, 0)]  # (anchor, values so far), from the outermost
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"*{event.anchor} names nothing that is complete before it")
            size, anchor = sizes[event.anchor], None
        elif isinstance(event, yaml.ScalarEvent):
            size, anchor = 1, event.anchor
            if (
                (event.implicit[0] or event.tag)
                and len(event.value) > _LONGEST_NUMBER
                and event.value[:1] in "+-.0123456789"
            ):
                raise yaml.YAMLError(f"a number of {len(event.value)} characters")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            if len(open_ones) > _DEEPEST:
                raise yaml.YAMLError(f"more than {_DEEPEST} levels in each other")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
        else:
            continue
        written += 1
        if anchor is not None:
            sizes[anchor] = size
        outer, before = open_ones[-1]
        open_ones[-1] = (outer, before + size)
        if before + size > _FREE + _TIMES * written:
            raise yaml.YAMLError("anchors that stand for far more than the text")
