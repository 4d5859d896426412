"""A project of one's own: a folder whose pyproject.toml names the package with its methods and backbones.

    [tool.mer-lightning]
    package = "mystudy"

Inside such a folder the package can be imported, and its classes have the names of their files, as ours have. Its code
runs with the rights of the user, and a folder may come from a stranger: so the user is asked once, and the answer is
kept in the user's own configuration, never in the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mer_lightning.trust import adopt, trust_given, trusted_packages
from mer_lightning.whole_files import write_whole


@dataclass(frozen=True)
class Project:
    folder: Path
    package: str


def project_at(start: Path) -> Project | None:
    """The project that a folder belongs to: the nearest pyproject.toml decides."""
    for folder in (start, *start.parents):
        if (file := folder / "pyproject.toml").is_file():
            try:
                package = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["mer-lightning"]["package"]
            except (OSError, ValueError, KeyError, TypeError):  # somebody else's, or a broken one
                return None
            return Project(folder, package) if isinstance(package, str) and package.isidentifier() else None
    return None


def untrusted_hint() -> str:
    """What to do where a name may be one of this project, whose code is not trusted; nothing elsewhere."""
    project = project_at(Path.cwd())
    if project is None or project.package in trusted_packages():
        return ""
    return f"if it is one of this project, say once that you trust its code: --trust {project.package}"


@contextlib.contextmanager
def in_own_project() -> Iterator[None]:
    """Inside, the package of the project that the current folder belongs to can be used, if its user trusts it."""
    project = project_at(Path.cwd())
    if project is None or not _may_run(project):
        yield
        return
    path, search, before = str(project.folder), os.environ.get("PYTHONPATH"), trust_given()
    sys.path.insert(0, path)
    # For the processes that studies and DDP start.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [path, search]))
    adopt(",".join(filter(None, [before, project.package])))
    try:
        yield
    finally:
        adopt(before)
        sys.path.remove(path)
        if search is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = search


def _may_run(project: Project) -> bool:
    known = _trusted()
    if known.get(str(project.folder)) == project.package:
        return True
    if project.package not in trusted_packages() and not _says_yes(project):
        return False
    _file().parent.mkdir(parents=True, exist_ok=True)
    write_whole(_file(), json.dumps(known | {str(project.folder): project.package}, indent=2) + "\n")
    return True


def _says_yes(project: Project) -> bool:
    """Only a person at a terminal can."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{project.folder} has a package '{project.package}' whose code would run with your rights.", file=sys.stderr)
    print("Trust it, now and later? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _trusted() -> dict[str, str]:
    """{folder: package} of the projects that this user trusts."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mer_lightning" / "trusted.json"
