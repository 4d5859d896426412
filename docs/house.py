"""The picture of the house: which room of the package imports which, drawn from the sources.

`python -m docs.house` (or `make house`) writes it into docs/architecture.md; tests/test_architecture.py reads the same
floors and fails on an import that points up, on a circle between files, and on a picture that is out of date.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mer_lightning"
PAGE = Path(__file__).with_name("architecture.md")

# From the ground up. A room may import from itself, from lower floors, and from nothing else.
FLOORS = (
    {"errors", "modalities", "numerals", "randomness", "discovery", "output", "signals", "whole_files"},
    {"batch", "bounds", "locks", "made_with", "plain_values", "shipped", "tasks", "trust", "yaml_text"},
    {"masks", "projects"},
    {"data"},
    {"layers", "encoders", "losses"},
    {"backbones", "evaluation", "published"},
    {"methods", "metrics"},
    {"training", "contract"},
    {"studies"},
    {"api"},
    {"commands"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
_GROUND = FLOORS[0] | FLOORS[1]
_MARKS = ("<!-- drawn by python -m docs.house -->", "<!-- end of the drawing -->")


def module_name(path: Path) -> str:
    """`mer_lightning.data.corpus`; a package has the name of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported_modules(path: Path, modules: set[str], only_when_loaded: bool = False) -> set[str]:
    """Modules of the package that a file imports: anywhere in it, or only when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in _statements(tree) if only_when_loaded else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mer_lightning"):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("mer_lightning.")}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # a module that is imported by its name, as the commands are
    return found & modules


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Those that run when a file is loaded: not within functions, and not for type checkers alone."""
    return [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(only_when_loaded: bool = False) -> dict[str, set[str]]:
    """{module: modules of the package that it imports}."""
    files = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    return {name: imported_modules(path, set(files), only_when_loaded) for name, path in sorted(files.items())}


def rooms() -> dict[str, set[str]]:
    """{room: other rooms that it imports}."""
    found: dict[str, set[str]] = {room: set() for floor in FLOORS for room in floor}
    for module, imported in imports().items():
        if room := room_of(module):
            found[room] |= {room_of(each) for each in imported} - {room, ""}
    return found


def picture() -> str:
    """A Mermaid graph from the top floor down. What a room reaches through another one is not drawn again."""
    direct = {"ground" if room in _GROUND else room: set[str]() for room in FLOOR}
    for room, imported in rooms().items():
        if room not in _GROUND:
            direct[room] |= {"ground" if each in _GROUND else each for each in imported}
    lines = ["flowchart TD", f'    ground["{", ".join(sorted(_GROUND))}"]']
    for room in sorted(direct, key=lambda each: (-FLOOR.get(each, -1), each)):
        through = {far for near in direct[room] for far in _reached(direct, near)}
        lines += [f"    {room} --> {each}" for each in sorted(direct[room] - through)]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _reached(direct: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = list(direct[start])
    while waiting:
        room = waiting.pop()
        if room not in reached:
            reached.add(room)
            waiting += direct[room]
    return reached


def page_with(drawing: str) -> str:
    """The page with the drawing between its marks."""
    before, after = _MARKS
    text = PAGE.read_text(encoding="utf-8")
    return re.sub(f"{before}.*{after}", lambda _: f"{before}\n{drawing}\n{after}", text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page_with(picture()), encoding="utf-8")
    print(picture())
