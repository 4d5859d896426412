"""Files that come with the package: experiments, and the pages of its documentation."""

from __future__ import annotations

from pathlib import Path

from mer_lightning.errors import Refusal, did_you_mean, first_names

EXPERIMENTS = "experiments"
KINDS = ("", "backbones", "ablations", "sweeps")  # folders of experiments


def shipped(folder: str) -> Path:
    """`experiments` or `docs`: in an installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "shipped" / folder
    return inside if inside.is_dir() else Path(__file__).parents[1] / folder


def configuration(text: str) -> Path | None:
    """The file that `--config` names; None where the configuration itself is written in its place."""
    written = any(mark in text for mark in ("{", "\n", ": "))
    return None if written else experiment_file(text, option="--config ")


def experiment_file(name: str | Path, kinds: tuple[str, ...] = KINDS, option: str = "") -> Path:
    """The file itself, or the shipped one of that name: `cdat_mosi` and `experiments/cdat_mosi.yaml` are the same."""
    if (given := Path(name)).is_file():
        return given
    inside = given.relative_to(EXPERIMENTS) if given.is_relative_to(EXPERIMENTS) else given
    for kind in kinds:
        path = shipped(EXPERIMENTS) / kind / inside.with_suffix(".yaml")
        if path.is_file() and path.resolve().is_relative_to(shipped(EXPERIMENTS).resolve()):
            return path
    known = sorted(path.stem for kind in kinds for path in (shipped(EXPERIMENTS) / kind).glob("*.yaml"))
    expected = f"a file, or the name of one that is shipped: {first_names(known)}"
    raise Refusal(f"{option}{name}", expected, "neither", did_you_mean(given.stem, known, "check the path"))
