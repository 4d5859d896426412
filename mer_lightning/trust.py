"""Which packages of their own users trust: `--trust PACKAGE` after any command, or MER_TRUST=PACKAGE,PACKAGE.

Only a command line or an environment gives trust. No configuration, run folder or checkpoint can: the option never
reaches the parser that reads them. What a trusted package may be used for is in :mod:`mer_lightning.methods.places`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mer_lightning.errors import Refusal

VARIABLE = "MER_TRUST"
_OPTION = "--trust"
# The classes of this package are looked at one by one, and jsonargparse could switch off the checks.
NEVER_WHOLE = ("mer_lightning", "jsonargparse")


def trusted_packages() -> tuple[str, ...]:
    packages = tuple(dict.fromkeys(filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(",")))))
    for package in packages:
        if not is_import_path(package) or package.split(".")[0] in NEVER_WHOLE:
            found = f"'{package}' in {_OPTION} or {VARIABLE}"
            raise Refusal(_OPTION, "a package of your own, such as my_project", found, "leave it out")
    return packages


def is_trusted(import_path: str) -> bool:
    return any(f"{import_path}.".startswith(f"{package}.") for package in trusted_packages())


def is_import_path(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def remedy(class_path: str) -> str:
    """What somebody does who knows where a class comes from; nothing where that is no way."""
    package, _, name = class_path.partition(".")
    own = name and is_import_path(class_path) and package not in NEVER_WHOLE
    return f"if you trust that package, add {_OPTION} {package}" if own else ""


@contextmanager
def trusting(args: list[str]) -> Iterator[list[str]]:
    """The arguments without `--trust PACKAGE`, whose packages are trusted inside."""
    before = trust_given()
    rest: list[str] = []
    given = [before] if before else []
    words = iter(args)
    for word in words:
        option, equals, package = word.partition("=")
        if option != _OPTION:
            rest.append(word)
            continue
        package = package if equals else next(words, "")
        if not package:
            raise Refusal(_OPTION, "the name of a package", "none", f"write {_OPTION} my_project")
        given.append(package)
    try:
        if len(args) != len(rest):
            adopt(",".join(given))
        trusted_packages()  # refuses what cannot be trusted, before any work is done
        yield rest
    finally:
        adopt(before)


def trust_given() -> str | None:
    """What :func:`adopt` takes in another process."""
    return os.environ.get(VARIABLE)


def adopt(packages: str | None) -> None:
    """Trust what the process that handed over some work trusts."""
    if packages is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = packages
