"""Processes by name, and with constants of one's own: `contradiction,cue=2`, `default,private=0.1:0.1:0.1`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from mer_lightning.data.synthetic.process import Process
from mer_lightning.errors import Refusal, did_you_mean

DEFAULT = "default"


@dataclass(frozen=True)
class NamedProcess:
    """Constants under the name that results carry."""

    name: str
    constants: Process
    samples: int | None = None  # of a corpus, if none are asked for; None: as many as the shape has

    @property
    def base(self) -> str:
        """The name without constants of one's own."""
        return self.name.partition(",")[0]


PROCESSES = {
    process.name: process
    for process in (
        NamedProcess(DEFAULT, Process()),
        # Often and clearly announced: who learns to see the cue knows whom to distrust.
        NamedProcess("contradiction", Process(contradicting=0.30, cue=3.0), samples=5136),
        # Nearly everything is in every modality: two of them may be missing at little cost. None contradicts.
        NamedProcess(
            "redundant",
            Process(shared=0.86, private=(0.02, 0.02, 0.02), shared_noise=(0.35, 0.45, 0.55), contradicting=0.0),
        ),
        # Nearly everything is in one modality alone, a third in each: none can stand in for another. None contradicts.
        NamedProcess(
            "complementary",
            Process(
                shared=0.05,
                private=(0.29, 0.29, 0.29),
                shared_noise=(0.5, 0.5, 0.5),
                private_noise=(0.3, 0.3, 0.3),
                contradicting=0.0,
            ),
        ),
    )
}
_CONSTANTS = {field.name: field.type for field in fields(Process)}


def process_named(text: str) -> NamedProcess:
    """A name of ``PROCESSES``, and after commas constants that differ from it; three numbers are joined by colons."""
    name, *changes = text.replace(" ", "").split(",")
    if name not in PROCESSES:
        remedy = did_you_mean(name, PROCESSES, "choose one of them")
        raise Refusal("process", f"one of {', '.join(PROCESSES)}", f"'{name}'", remedy)
    process = PROCESSES[name]
    changed = dict(_constant(change) for change in changes)
    constants = replace(process.constants, **changed)  # type: ignore[arg-type]
    differing = [key for key in _CONSTANTS if getattr(constants, key) != getattr(process.constants, key)]
    own = [f"{key}={_written(getattr(constants, key))}" for key in differing]
    return NamedProcess(",".join([name, *own]), constants, process.samples)


def _constant(change: str) -> tuple[str, float | tuple[float, ...]]:
    """`cue=2` -> ("cue", 2.0); `private=0.1:0.1:0.1` -> ("private", (0.1, 0.1, 0.1))"""
    key, _, value = change.partition("=")
    if key not in _CONSTANTS:
        remedy = did_you_mean(key, _CONSTANTS, "choose one of them")
        raise Refusal("process", f"a constant among {', '.join(_CONSTANTS)}", f"'{key}'", remedy)
    count = 3 if _CONSTANTS[key] == "Triple" else 1
    try:
        numbers = tuple(float(part) for part in value.split(":"))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        example = f"{key}={_written(getattr(PROCESSES[DEFAULT].constants, key))}"
        raise Refusal(
            f"process, {key}", "three numbers" if count == 3 else "a number", f"'{value}'", f"write {example}"
        )
    return key, numbers if count == 3 else numbers[0]


def _written(value: float | tuple[float, ...]) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
