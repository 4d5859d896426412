"""Imports point downwards only, and the cheap parts stay cheap (DESIGN.md, sections 2 and 5)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mer_lightning

PACKAGE = Path(mer_lightning.__file__).parent
# A part may import from its own layer and from those below it.
LAYERS = (
    {"errors", "modalities", "numerals", "randomness", "discovery", "yaml_text"},
    {"batch", "tasks"},
    {"masks"},
    {"data"},
    {"layers", "encoders", "losses"},
    {"backbones", "evaluation", "published"},
    {"methods", "metrics"},
    {"training"},
    {"studies"},
    {"commands"},
    {"cli"},
)
HEAVY = ("torch", "torchmetrics", "lightning", "transformers", "pandas", "wandb", "sklearn", "rich")
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mer_lightning"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mer_lightning.")}
    return found & LEVEL.keys()


def external_imports_of(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)]
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
    return {name.split(".")[0] for name in names}


def test_dependencies_point_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for imported in imports_of(path):
            same = imported == part
            assert same or LEVEL[imported] < LEVEL[part], f"{path.relative_to(PACKAGE)} imports {imported}"


def test_nothing_below_methods_knows_lightning_except_the_datamodule() -> None:
    for part in ("masks", "data", "layers", "encoders", "losses", "backbones", "evaluation", "metrics", "published"):
        for path in (PACKAGE / part).rglob("*.py"):
            if path.name != "datamodule.py":
                assert "lightning" not in external_imports_of(path), path


@pytest.mark.parametrize("command", [["--help"], ["data", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom mer_lightning.cli import main\n"
        f"try:\n    main({command})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_files_are_one_thing() -> None:
    """The longest files are printed (pytest -s); one above 400 lines is more than one thing."""
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    longest = sorted(lines.items(), key=lambda each: -each[1])[:10]
    print("\n".join(f"{count:5} {name}" for name, count in longest))
    assert {name: count for name, count in longest if count > 400} == {}
