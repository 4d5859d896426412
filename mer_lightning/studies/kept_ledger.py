"""A ledger of many runs, kept in the user's cache: opening it again takes as long as looking at the files' dates."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import __version__
from mer_lightning.data.places import user_cache
from mer_lightning.studies.finished import Run
from mer_lightning.whole_files import whole, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

_FORM = 4  # raise it when the files have another form, or the rows other columns
_TOKEN = b"made together"  # the same in both files; another process may have replaced one of them in between


@dataclass(frozen=True)
class KeptLedger:
    """Two files: a line of three JSON values for each run (its folder, the state of its files, its facts), and the rows
    of all runs.
    """

    runs: Path
    rows: Path

    def load(self, states: Mapping[Path, str]) -> tuple[dict[Path, Run], list[pa.Table]]:
        """The runs whose files are as they were, and their rows."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import feather

        try:
            token, text = self.runs.read_text(encoding="utf-8").split("\n", 1)
            rows = feather.read_table(self.rows)
            if not token == _token(text) == rows.schema.metadata[_TOKEN].decode():
                return {}, []
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or one that was cut off
            return {}, []
        stored = [line.split("\t") for line in text.splitlines()]
        known = {}
        for name, state, facts in stored:
            folder = Path(json.loads(name))
            if states.get(folder) == json.loads(state):
                known[folder] = Run(folder, facts)
        if len(known) < len(stored):
            rows = rows.filter(pc.is_in(rows["run"], value_set=pa.array(list(map(str, known)))))
        return known, [rows] if known else []

    def save(self, runs: Iterable[Run], states: Mapping[Path, str], rows: pa.Table) -> None:
        from pyarrow import feather

        # Every character that ends a line or is a tab is escaped in JSON.
        values = ((str(run.folder), states[run.folder], vars(run.facts)) for run in runs)
        text = "\n".join("\t".join(map(json.dumps, each)) for each in values)
        token = _token(text)
        self.runs.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.rows) as temporary:
            feather.write_feather(rows.replace_schema_metadata({_TOKEN: token}), temporary)
        write_whole(self.runs, f"{token}\n{text}")


def _token(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def kept_ledger(folders: Iterable[Path]) -> KeptLedger:
    """That of all runs in or below ``folders``; another version of this package makes its own."""
    asked_for = "\n".join([__version__, str(_FORM), os.getcwd(), *map(str, folders)])
    name = _token(asked_for)[:16]
    place = user_cache() / "ledgers"
    return KeptLedger(place / f"{name}.jsonl", place / f"{name}.arrow")
