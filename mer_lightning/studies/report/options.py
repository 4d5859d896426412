"""The settings of runs as a difference: what is not the same in all methods, and what is."""

from __future__ import annotations

from typing import Any

from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.variants import Options, short_name

_ABSENT = "-"
_FACTS = {"backbone": "backbone", "checkpoints chosen by": "selection", "training masks": "training_masks"}
# Where and how a run was made and kept; and what the facts say in words already.
_NOT_SHOWN: tuple[str, ...] = (
    "data.corpus",
    "data.alignment",
    "data.masks",
    "trainer.enable_",
    "ckpt_path",
    "weights_only",
)
_NOT_SHOWN += ("model.class_path", "model.backbone.class_path", "model.init_args.backbone.class_path")
# Of Lightning's many options, those that change what is learnt.
_OF_THE_TRAINER = ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")


def differing(setting: Setting) -> dict[str, list[str]]:
    """{option: its value in each method that is shown}: what two methods or more have, and not with one value.

    An option that one method alone has is its own affair, and no difference between methods.
    """
    of = _options(setting)
    rows = _facts(setting)
    names = list(dict.fromkeys(name for options in of for name in options))
    for name in names:
        values = [options[name] for options in of if name in options]
        if len(values) > 1 and any(value != values[0] for value in values):
            rows[_title(name)] = [option_text(options[name]) if name in options else _ABSENT for options in of]
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def common(setting: Setting) -> dict[str, str]:
    """{option: value} of what all methods share; what is not set is left out."""
    of = _options(setting)
    rows = {name: values[0] for name, values in _facts(setting).items() if len(set(values)) == 1}
    for name, value in of[0].items():
        part, _, option = name.rpartition(".")
        if part == "trainer" and option not in _OF_THE_TRAINER:
            continue
        if value is not None and value != {} and all(options.get(name) == value for options in of):
            rows[_title(name)] = option_text(value)
    return rows


def _facts(setting: Setting) -> dict[str, list[str]]:
    first = setting.rows.drop_duplicates("label").set_index("label")
    return {name: [str(first.loc[label, column]) for label in setting.shown] for name, column in _FACTS.items()}


def _options(setting: Setting) -> list[Options]:
    return [
        {name: value for name, value in contender.runs[0].options.items() if not name.startswith(_NOT_SHOWN)}
        for contender in setting.shown.values()
    ]


def _title(name: str) -> str:
    """`model.init_args.optimizer.init_args.lr` as `optimizer.lr`."""
    parts = [part for part in name.split(".") if part not in ("init_args", "class_path")]
    return ".".join(parts[1:] if parts[0] in ("model", "trainer") and len(parts) > 1 else parts)


def option_text(value: Any) -> str:
    """A value as people write it: the last word of a class's path, a number without digits that say nothing."""
    if isinstance(value, float):
        return f"{value:g}"
    return short_name(str(value)) if isinstance(value, str) else _ABSENT if value is None else str(value)
