"""Finding classes by the files of a package, so that a new file is enough to add one."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@functools.cache
def classes_by_file(package: str, base: type) -> dict[str, Any]:
    """{name of the file or folder: class} of every concrete subclass of ``base`` in ``package``."""
    classes = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        for value in vars(importlib.import_module(name)).values():
            defined_here = isinstance(value, type) and f"{value.__module__}.".startswith(f"{name}.")
            if defined_here and issubclass(value, base) and not inspect.isabstract(value):
                classes[module.name] = value
    return classes


@functools.cache
def paths_by_file(package: str, *bases: str) -> dict[str, str]:
    """{name of the file or folder: path to import its class from}, as ``classes_by_file`` finds them, but read from the
    sources: names are checked before anything is imported that takes seconds."""
    found = [
        (path.stem, f"{package}.{path.stem}.{node.name}", node)
        for folder in _folders(package)
        for path in sorted(folder.iterdir())
        for _, node in _classes(path)
    ]
    heirs = _heirs([node for *_, node in found], *bases)
    return {name: path for name, path, node in found if node.name in heirs}


def paths_in_file(module: str, base: str) -> dict[str, str]:
    """{name of the class: its path} of every concrete subclass of ``base`` in one file, read from the source."""
    package, _, name = module.rpartition(".")
    nodes = [node for folder in _folders(package) for _, node in _classes(folder / f"{name}.py")]
    return {each: f"{module}.{each}" for each in _heirs(nodes, base)}


def small_letters(class_name: str) -> str:
    """`modality_dropout` of ModalityDropout."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


@functools.cache
def parameters(path: str) -> frozenset[str]:
    """The names of the parameters with which a class is made, those of its bases too where it hands them on."""
    for file, node in _definitions(path):
        return _parameters(node, path.rpartition(".")[0], _imports(file))
    return frozenset()


def parameter_help(path: str) -> dict[str, str]:
    """{parameter: what the docstring of a class says of it}"""
    for _, node in _definitions(path):
        _, _, text = (ast.get_docstring(node) or "").partition("Args:\n")
        entries = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", text, re.MULTILINE)
        return {name: " ".join(meaning.split()) for name, meaning in entries}
    return {}


def first_line(path: str) -> str:
    """Of the docstring of a class."""
    for _, node in _definitions(path):
        return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def import_path(cls: type) -> str:
    """The path to import a class from: the package of its module if the class is also there, else the module."""
    package = cls.__module__.rpartition(".")[0]
    in_package = getattr(sys.modules.get(package), cls.__name__, None) is cls
    return f"{package if in_package else cls.__module__}.{cls.__qualname__}"


def _folders(package: str) -> list[Path]:
    """Where a package lies; nothing of it is imported."""
    first, *inner = package.split(".")
    spec = importlib.util.find_spec(first)
    return [Path(folder, *inner) for folder in (spec.submodule_search_locations or ())] if spec else []


def _definitions(class_path: str) -> Iterator[tuple[Path, ast.ClassDef]]:
    """(file, class), if there is one of that path."""
    module, _, name = class_path.rpartition(".")
    package, _, last = module.rpartition(".")
    paths = [path for folder in _folders(package) for path in (folder / last, folder / f"{last}.py")]
    yield from ((file, node) for path in paths for file, node in _classes(path) if node.name == name)


def _classes(path: Path) -> Iterator[tuple[Path, ast.ClassDef]]:
    """(file, class) of every class of a file, or of those of a folder that its `__init__.py` hands out."""
    file = path / "__init__.py" if path.is_dir() else path
    if file.suffix != ".py" or not file.is_file():
        return
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield file, node
        elif isinstance(node, ast.ImportFrom) and path.is_dir() and node.module:
            names = {alias.name for alias in node.names}
            inside = path / f"{node.module.rpartition('.')[2]}.py"
            yield from ((where, each) for where, each in _classes(inside) if each.name in names)


def _parameters(node: ast.ClassDef, module: str, imports: dict[str, str]) -> frozenset[str]:
    init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    own = [*init.args.args[1:], *init.args.kwonlyargs] if init else []
    names = {each.arg for each in own}
    if init is None or init.args.kwarg:
        names |= {name for base in _bases(node) for name in parameters(imports.get(base, f"{module}.{base}"))}
    return frozenset(names)


def _imports(path: Path) -> dict[str, str]:
    """{name: what a file imports under it}"""
    nodes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


def _heirs(nodes: list[ast.ClassDef], *bases: str) -> list[str]:
    """The names of the concrete classes that inherit from one of ``bases``, through one another or at once."""
    heirs = {*bases}
    while more := {node.name for node in nodes if heirs & _bases(node)} - heirs:
        heirs |= more
    return [node.name for node in nodes if node.name in heirs and not _is_abstract(node)]


def _bases(node: ast.ClassDef) -> set[str]:
    """By their last names: `MERMethod` of `mer.MERMethod`."""
    return {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}


def _is_abstract(node: ast.ClassDef) -> bool:
    decorators = [each for statement in node.body for each in getattr(statement, "decorator_list", ())]
    return any(isinstance(each, ast.Name) and each.id == "abstractmethod" for each in decorators)
