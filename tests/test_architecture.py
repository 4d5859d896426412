"""Imports point downwards only, and the cheap parts stay cheap (DESIGN.md, sections 2 and 5)."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.house import FLOOR, FLOORS, PACKAGE, PAGE, imports, page_with, picture, rooms

HEAVY = ("torch", "torchmetrics", "lightning", "transformers", "pandas", "wandb", "sklearn", "rich")
WITHOUT_LIGHTNING = (
    *("masks", "data", "layers", "encoders", "losses", "backbones"),
    *("evaluation", "metrics", "published"),
)


def external_imports_of(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)]
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
    return {name.split(".")[0] for name in names}


def test_every_room_has_a_floor() -> None:
    paths = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert {path.stem for path in paths} - {"__init__"} == set(FLOOR)
    assert sum(map(len, FLOORS)) == len(FLOOR)  # none is on two


def test_dependencies_point_downwards() -> None:
    for room, imported in rooms().items():
        assert {other for other in imported if FLOOR[other] >= FLOOR[room]} == set(), room


def test_no_file_imports_in_a_circle() -> None:
    list(graphlib.TopologicalSorter(imports(only_when_loaded=True)).static_order())  # raises on a circle


def test_no_backbone_imports_another_one() -> None:
    shared = {"mer_lightning.backbones.base", "mer_lightning.backbones.presets"}
    for module, imported in imports().items():
        if module.startswith("mer_lightning.backbones."):
            assert {each for each in imported if each.startswith("mer_lightning.backbones.")} <= shared, module


def test_no_room_but_its_own_knows_a_method_by_name() -> None:
    for module, imported in imports().items():
        for name in ("cdat", "mgr", "mcur"):
            own = f"mer_lightning.methods.{name}"
            if not f"{module}.".startswith(f"{own}."):
                assert not {each for each in imported if f"{each}.".startswith(f"{own}.")}, module


def test_the_picture_is_up_to_date() -> None:
    assert PAGE.read_text() == page_with(picture()), "draw it again: make house"


def test_nothing_below_methods_knows_lightning_except_the_datamodule() -> None:
    for room in WITHOUT_LIGHTNING:
        for path in (PACKAGE / room).rglob("*.py"):
            if path.name != "datamodule.py":
                assert "lightning" not in external_imports_of(path), path


@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], *([name, "--help"] for name in ("data", "reproduce", "ablate", "sweep"))]
)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom mer_lightning.cli import main\n"
        f"try:\n    main({command})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_studies_print_nothing() -> None:
    """Their commands do."""
    for path in (PACKAGE / "studies").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}, path
        assert "rich" not in external_imports_of(path), path


def test_training_and_the_report_know_no_method_by_name() -> None:
    """What a method needs there, it brings along. The plain one is the example in messages and the default."""
    from mer_lightning.methods.base import all_methods

    methods = {name: cls.__name__ for name, cls in all_methods().items() if name != "supervised"}
    assert len(methods) >= 3
    names = re.compile(rf"\b({'|'.join([*methods, *methods.values()])})\b")
    for path in [*(PACKAGE / "training").rglob("*"), *(PACKAGE / "studies" / "report").rglob("*")]:
        if path.suffix in (".py", ".html", ".js", ".css"):
            assert not names.search(path.read_text()), path


def test_files_are_one_thing() -> None:
    """The longest files are printed (pytest -s); one above 400 lines is more than one thing."""
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    longest = sorted(lines.items(), key=lambda each: -each[1])[:10]
    print("\n".join(f"{count:5} {name}" for name, count in longest))
    assert {name: count for name, count in longest if count > 400} == {}
