"""Where the trials of a sweep are kept: a file, which one command works on, or a PostgreSQL database, which any number
of commands on any number of machines work on at the same time.

Two questions need an answer. Who draws the next trial? One command at a time. Which trials were left behind by a
command that died? Those whose command no longer holds its lock: a lock of the database ends with the connection that
took it, so no clock of any machine plays a part.
"""

from __future__ import annotations

import contextlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    import optuna

_FILE = "study.db"
_DRAWING = 0  # the number of the lock under which trials are drawn; those of commands are larger


class SweepStorage(ABC):
    """One command's view of the trials of one sweep."""

    place: str  # for people
    url: str  # as `Pruning` opens it in the process of a run
    command: int  # a number of this command, which no other one has
    shared: bool  # with commands that may be at work now

    @abstractmethod
    def optuna(self) -> optuna.storages.BaseStorage: ...

    @abstractmethod
    def drawing(self) -> contextlib.AbstractContextManager[None]:
        """While it is open, no other command draws a trial or takes one over."""

    @abstractmethod
    def is_at_work(self, command: int | None) -> bool:
        """Whether the command with this number is still there; None is one that died before it wrote its number."""


class FileStorage(SweepStorage):
    """An SQLite file: every trial that runs and is not ours was left behind."""

    shared = False

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place, self.url, self.command = str(folder), f"sqlite:///{folder / _FILE}", _a_number()

    def optuna(self) -> optuna.storages.BaseStorage:
        from optuna.storages import RDBStorage

        return RDBStorage(self.url)

    def drawing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def is_at_work(self, command: int | None) -> bool:
        return command == self.command


class PostgresStorage(SweepStorage):
    """A database. One connection stays open as long as this command lives, and holds a lock with its number."""

    shared = True

    def __init__(self, url: str, sweep: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            remedy = "pip install 'mer-lightning[postgres]'"
            raise Refusal("--storage", "the package psycopg, which talks to PostgreSQL", "none", remedy) from error
        from sqlalchemy.engine import make_url

        from mer_lightning.randomness import name_key

        given = make_url(url)
        if given.password is not None:
            remedy = "put it into ~/.pgpass or PGPASSWORD: configurations of runs name the storage"
            raise Refusal("--storage", "a URL without a password", "one with a password", remedy)
        self.url = given.set(drivername="postgresql+psycopg").render_as_string()
        self.place = given.render_as_string()
        self.command, self._sweep = _a_number(), name_key(sweep) % 2**31
        try:
            # A machine that vanished is noticed within a minute, and not after the two hours that are the default.
            self._life = psycopg.connect(
                given.set(drivername="postgresql").render_as_string(),
                autocommit=True,
                options="-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
            )
        except psycopg.OperationalError as error:
            found = str(error).strip().splitlines()[-1]
            raise Refusal(
                "--storage", "a PostgreSQL database", found, "see mer-lightning docs many-machines"
            ) from error
        self._ask("pg_advisory_lock", self.command)

    def optuna(self) -> optuna.storages.BaseStorage:
        from optuna.storages import RDBStorage

        with self.drawing():  # two commands must not make the tables at the same time
            return RDBStorage(self.url)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        self._ask("pg_advisory_lock", _DRAWING)
        try:
            yield
        finally:
            self._ask("pg_advisory_unlock", _DRAWING)

    def is_at_work(self, command: int | None) -> bool:
        if command is None or command == self.command:
            return command is not None
        if not self._ask("pg_try_advisory_lock", command):
            return True
        self._ask("pg_advisory_unlock", command)
        return False

    def _ask(self, function: str, lock: int) -> bool | None:
        import psycopg

        try:
            row = self._life.execute(f"SELECT {function}(%s, %s)", (self._sweep, lock)).fetchone()
        except psycopg.OperationalError as error:
            remedy = "start the same command again: it goes on with the trials that are not over"
            raise Refusal("--storage", "the database of the sweep", "a lost connection", remedy) from error
        return row[0] if row and isinstance(row[0], bool) else None


def sweep_storage(url: str | None, sweep: str, folder: Path) -> SweepStorage:
    if url is None:
        return FileStorage(folder)
    if not url.startswith("postgresql://"):
        raise Refusal("--storage", "postgresql://USER@HOST/DATABASE", url, "leave it out for a file on this machine")
    return PostgresStorage(url, sweep)


def _a_number() -> int:
    return 1 + secrets.randbelow(2**31 - 2)
