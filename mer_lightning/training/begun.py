"""What a run was begun with: a fit that goes on must find the same configuration and the same corpus."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.training.run_folder import BEGUN, CONFIG
from mer_lightning.whole_files import write_whole
from mer_lightning.yaml_text import from_yaml

# Where and how the fit goes on may differ from how it was begun; the numbers do not depend on it.
_FREE = {
    *("run_dir", "resume", "config", "name", "logger", "test_after_fit", "ckpt_path"),
    *(f"trainer.{name}" for name in ("accelerator", "devices", "strategy", "num_nodes", "logger", "profiler")),
    *(f"trainer.{name}" for name in ("enable_progress_bar", "enable_model_summary", "default_root_dir")),
    *("data.init_args.workers", "data.init_args.resident", "data.workers", "data.resident"),
}
_ANEW = "begin another run, without --resume"


def write_begun(folder: Path, config: str, corpus_sha256: str) -> None:
    """The configuration comes last: where it is, all else is."""
    begun = {"config_sha256": _sha256(config), "corpus_sha256": corpus_sha256}
    write_whole(folder / BEGUN, json.dumps(begun, indent=2) + "\n")
    write_whole(folder / CONFIG, config)


def refuse_changed_config(folder: Path) -> None:
    """Before it is read: one that was cut off or edited would silently be another experiment."""
    begun = _begun(folder)
    if begun and begun.get("config_sha256") != _sha256((folder / CONFIG).read_text(encoding="utf-8")):
        expected = f"the configuration that the fit was begun with, as {BEGUN} has its SHA-256"
        raise Refusal(folder / CONFIG, expected, "another content", f"put it back, or {_ANEW}")


def refuse_other_run(folder: Path, config: str, corpus: str, corpus_sha256: str) -> None:
    """``config``: what the command line and the run's own file make together."""
    begun = _begun(folder)
    if begun and begun.get("corpus_sha256") != corpus_sha256:
        expected, found = (f"SHA-256 {each[:16]}" for each in (str(begun.get("corpus_sha256")), corpus_sha256))
        raise Refusal(f"{folder}: {corpus}", f"the corpus that the fit was begun with, {expected}", found, _ANEW)
    before, now = (_options(from_yaml(text)) for text in ((folder / CONFIG).read_text(encoding="utf-8"), config))
    for name in sorted(before.keys() | now.keys()):
        if name not in _FREE and before.get(name) != now.get(name):
            found = f"{now.get(name)}"
            raise Refusal(f"--{name}", f"{before.get(name)}, as the fit in {folder} was begun", found, _ANEW)


def _begun(folder: Path) -> dict[str, Any]:
    """Nothing where the run was made by version 0.1.0."""
    path = folder / BEGUN
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise Refusal(path, "JSON, as fit wrote it", "something else", _ANEW) from error


def _options(config: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted name: value}."""
    if not isinstance(config, dict) or not config:
        return {prefix.removesuffix("."): config}
    options: dict[str, Any] = {}
    for name, value in config.items():
        options |= _options(value, f"{prefix}{name}.")
    return options


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
