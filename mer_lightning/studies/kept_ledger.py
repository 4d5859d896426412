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
from mer_lightning.studies.finished import Facts, Run
from mer_lightning.whole_files import whole, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = 2  # raise it when rows have other columns
_TOKEN = b"made together"  # the same in both files; another process may have replaced one of them in between


@dataclass(frozen=True)
class KeptLedger:
    """Two files: a line of JSON for each run, with the state that its files had, and the rows of all runs."""

    runs: Path
    rows: Path

    def load(self, states: Mapping[Path, str]) -> tuple[dict[Path, Run], list[pa.Table]]:
        """The runs whose files are as they were, and their rows."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import feather

        try:
            token, *lines = self.runs.read_text(encoding="utf-8").splitlines()
            rows = feather.read_table(self.rows)
            if rows.schema.metadata[_TOKEN].decode() != token:
                return {}, []
            stored = [json.loads(line) for line in lines]
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or one that was cut off
            return {}, []
        by_folder = [(Path(each["folder"]), each) for each in stored]
        same = [(folder, each) for folder, each in by_folder if states.get(folder) == each["state"]]
        known = {folder: Run(folder, Facts(**each["facts"])) for folder, each in same}
        if len(same) < len(stored):
            rows = rows.filter(pc.is_in(rows["run"], value_set=pa.array([each["folder"] for _, each in same])))
        return known, [rows] if known else []

    def save(self, runs: Iterable[Run], states: Mapping[Path, str], rows: pa.Table) -> None:
        from pyarrow import feather

        lines = [
            json.dumps({"folder": str(run.folder), "state": states[run.folder], "facts": vars(run.facts)})
            for run in runs
        ]
        token = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        self.runs.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.rows) as temporary:
            feather.write_feather(rows.replace_schema_metadata({_TOKEN: token}), temporary)
        write_whole(self.runs, "\n".join([token, *lines]))


def kept_ledger(folders: Iterable[Path]) -> KeptLedger:
    """That of all runs in or below ``folders``; another version of this package makes its own."""
    name = hashlib.sha256(
        "\n".join([__version__, str(_COLUMNS), os.getcwd(), *map(str, folders)]).encode()
    ).hexdigest()[:16]
    place = user_cache() / "ledgers"
    return KeptLedger(place / f"{name}.jsonl", place / f"{name}.arrow")
