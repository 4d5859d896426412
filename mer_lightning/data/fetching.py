"""Downloading the files of corpora that anyone may have: resumable, and never other bytes than those that were checked.

The list is public_corpora.yaml in this folder.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from mer_lightning.errors import Refusal
from mer_lightning.yaml_text import from_yaml

SERVER = "https://raw.githubusercontent.com"
_ATTEMPTS, _SECONDS = 4, 30  # a connection that ends is taken up again where it ended
_PIECE = 2**16
_RESUMED = 206  # the status of HTTP for a part of a file

Progress = Callable[[int, int], None]  # (bytes that are here, bytes in all)


@dataclass(frozen=True)
class PublicFile:
    address: str  # REPOSITORY/COMMIT/FOLDER/NAME
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PublicCorpus:
    name: str
    title: str
    sources: list[dict[str, Any]]

    @property
    def files(self) -> list[PublicFile]:
        return [
            PublicFile(f"{source['repository']}/{source['commit']}/{source['folder']}/{name}", name, size, sha256)
            for source in self.sources
            for name, (size, sha256) in source["files"].items()
        ]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@functools.cache
def public_corpora() -> dict[str, PublicCorpus]:
    values = from_yaml(Path(__file__).with_name("public_corpora.yaml").read_text())
    return {name: PublicCorpus(name, **entry) for name, entry in values.items()}


def fetch_files(corpus: PublicCorpus, folder: Path, origin: str = SERVER, progress: Progress | None = None) -> None:
    """All files of a corpus in ``folder``. Those that are there and whole are not fetched again.

    ``origin`` is a server, or a folder, which has the files by their addresses, or by their names.
    """
    done = 0
    for file in corpus.files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)

        def report(size: int, before: int = done) -> None:
            if progress:
                progress(before + size, corpus.size)

        if not (target.is_file() and _sha256(target) == file.sha256):
            _fetch(file, target, origin, report)
        done += file.size
        report(0, done)


def _fetch(file: PublicFile, target: Path, origin: str, report: Callable[[int], None]) -> None:
    """In a file beside ``target`` that takes its place when it is whole and has the checksum."""
    part = target.with_name(f"{target.name}.part")
    where = f"{origin.rstrip('/')}/{quote(file.address)}" if "://" in origin else origin
    if "://" in origin:
        _download(where, part, file.size, report)
    else:
        places = [Path(origin) / file.address, Path(origin) / file.name]
        source = next((place for place in places if place.is_file()), None)
        if source is None:
            found = f"neither {file.address} nor {file.name}"
            raise Refusal(origin, f"the file {file.name}", found, "name the folder that holds the files")
        shutil.copyfile(source, part)
    if (found := _sha256(part)) != file.sha256:
        part.unlink()
        expected = f"the file {file.name} with SHA-256 {file.sha256}"
        raise Refusal(where, expected, found, "it is another file than the one that was checked: nothing was kept")
    os.replace(part, target)


def _download(url: str, part: Path, size: int, report: Callable[[int], None]) -> None:
    """The bytes that ``part`` does not have yet; as often as the connection ends before all are there."""
    for attempt in range(_ATTEMPTS):
        here = part.stat().st_size if part.is_file() else 0
        if here >= size:
            return
        headers = {"User-Agent": "mer-lightning", **({"Range": f"bytes={here}-"} if here else {})}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS) as answer:
                resumed = answer.status == _RESUMED
                with open(part, "ab" if resumed else "wb") as out:
                    _copy(answer, out, here if resumed else 0, size, report)
        except urllib.error.HTTPError as error:
            remedy = "try again later, or name a mirror or a folder with --from"
            raise Refusal(url, "the file", f"{error.code} {error.reason}", remedy) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS - 1:
                remedy = "run the command again, which goes on where it ended, or name a mirror or a folder with --from"
                raise Refusal(url, "a connection", f"{type(error).__name__}: {error}", remedy) from error
    here = part.stat().st_size
    if here < size:
        remedy = "run the command again, which goes on where it ended"
        raise Refusal(url, f"{size} bytes", f"{here} so far", remedy)


def _copy(source: IO[bytes], target: IO[bytes], here: int, size: int, report: Callable[[int], None]) -> None:
    """No more than ``size`` bytes in all, whatever the server sends."""
    while here < size and (piece := source.read(min(_PIECE, size - here))):
        target.write(piece)
        here += len(piece)
        report(here)


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
