"""Ways to damage YAML, JSON and comma-separated values, or to make them hostile."""

from __future__ import annotations

import json

import yaml

from tests.faults.mutations import BYTES, CANARY, Draw, Mutation, flip, with_another_value

_LAUGHS = (
    "[&a [1, 2], "
    + ", ".join(f"&{b} [*{a}, *{a}, *{a}, *{a}]" for a, b in zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True))
    + "]"
)
# --- texts


def yaml_values(data: bytes, draw: Draw) -> bytes:
    """A whole YAML file in which a value somewhere is another one."""
    try:
        return yaml.safe_dump(with_another_value(yaml.safe_load(data), draw), sort_keys=False).encode()
    except Exception:  # damaged before
        return flip(data, draw)


def yaml_text(data: bytes, draw: Draw) -> bytes:
    """A line of a YAML file is left out, doubled, moved, or becomes a hostile one."""
    lines = data.split(b"\n")
    hostile = [
        b"x: " + _LAUGHS.encode(), b"x: " + b"[" * 5000, b"? " * 3000, b"&a [*a]", b"\t", b"- -", b"{", b"x: *y",
        b"!!python/object/apply:os.system ['touch " + CANARY.encode() + b"']", b"x: 2020-99-99", b"<<: *x",
        b"x: !!int '" + b"9" * 6000 + b"'", b"\xff\xfe", b"x: \x00", b"x: " + b"1:1" * 3000, b"key: [1, 2", b"'",
        b"%YAML 9.9", b"---", b"...", b"x: !!binary x",
    ]  # fmt: skip
    position = int(draw.integers(0, len(lines)))
    kind = draw.integers(0, 4)
    if kind == 0:
        del lines[position]
    elif kind == 1:
        lines.insert(int(draw.integers(0, len(lines))), lines[position])
    else:
        lines[position : position + int(draw.integers(0, 2))] = [hostile[draw.integers(0, len(hostile))]]
    return b"\n".join(lines)


def json_values(data: bytes, draw: Draw) -> bytes:
    try:
        return json.dumps(with_another_value(json.loads(data), draw)).encode()
    except Exception:  # damaged before
        return flip(data, draw)


def cells(data: bytes, draw: Draw) -> bytes:
    """A table of comma-separated values in which a cell, a column or a row is another one."""
    rows = [line.split(b",") for line in data.split(b"\n") if line]
    row = int(draw.integers(0, len(rows)))
    column = int(draw.integers(0, len(rows[0])))
    hostile = [
        b"",
        b"nan",
        b"inf",
        b"x",
        b"1e999",
        b"9" * 400,
        b'"',
        b"\xff",
        b"-1",
        b"x" * 100_000,
        b"\x00",
        b"=cmd()",
    ]
    kind = draw.integers(0, 5)
    if kind == 0:
        rows = [[cell for number, cell in enumerate(each) if number != column] for each in rows]
    elif kind == 1:
        del rows[row]
    elif kind == 2:
        rows.insert(row, rows[row])
    elif column < len(rows[row]):
        rows[row][column] = hostile[draw.integers(0, len(hostile))]
    return b"\n".join(map(b",".join, rows)) + b"\n"


YAML: list[Mutation] = [yaml_values, yaml_values, yaml_values, yaml_text, yaml_text, *BYTES]
JSON: list[Mutation] = [json_values, json_values, *BYTES]
CSV: list[Mutation] = [cells, cells, cells, *BYTES]
