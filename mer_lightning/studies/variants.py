"""Variants: configurations up to their seed, and short names that tell them apart.

Runs of one variant may be averaged; others may not (rule 6).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

# Runs of one variant may differ in these: the seed, and where and how the run is kept.
_NOT_OF_THE_VARIANT = ("seed_everything", "run_dir", "name", "resume", "logger", "test_after_fit", "config")

Options = dict[str, Any]  # {dotted key: value}


def flat(config: dict[str, Any], prefix: str = "") -> Options:
    """{dotted key: value} of all options that make a variant."""
    options: Options = {}
    for key, value in config.items():
        if not prefix and key in _NOT_OF_THE_VARIANT:
            continue
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            options |= flat(value, f"{name}.")
        else:
            options[name] = value
    return options


def variant_of(options: Options) -> str:
    """A short hash of the configuration without the seed and the folder."""
    text = json.dumps(options, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def variant_labels(options: Mapping[str, Options]) -> dict[str, str]:
    """{variant: a short name}: the method, and the options in which it differs from others of the same method."""
    methods = {variant: _method(each) for variant, each in options.items()}
    differing = {
        method: differing_options([options[variant] for variant, of in methods.items() if of == method])
        for method in set(methods.values())
    }
    labels = {}
    for variant, mine in options.items():
        method = methods[variant]
        keys = [key for key in mine if key in differing[method]]
        named = ", ".join(f"{short_name(key)} {_shown(mine[key])}" for key in keys)
        labels[variant] = f"{method} ({named})" if named else method
    counts = Counter(labels.values())
    return {variant: label if counts[label] == 1 else f"{label} {variant}" for variant, label in labels.items()}


def differing_options(options: list[Options]) -> list[str]:
    """The options that do not have one value in all, by name; the corpus is shared by all runs of one table."""
    keys = {key for each in options for key in each}
    first = options[0]
    return [
        key
        for key in sorted(keys)
        if key != "model.class_path"  # named already
        and not key.startswith(("data.corpus", "data.alignment"))
        and any(each.get(key) != first.get(key) for each in options)
    ]


def _method(options: Options) -> str:
    """The method's name, or the name of its preset where it has one."""
    if "stored.name" in options:
        return f"{options['stored.name']} (not ours)"
    name = str(options["model.class_path"]).rsplit(".", 2)[-2]
    preset = options.get("model.init_args.preset")
    masks = str(options.get("data.masks.class_path") or "")
    if name == "supervised" and "Combinations" in masks:
        return "modality_dropout"
    return name if preset in (None, name) else str(preset)


def _shown(value: Any) -> str:
    return "default" if value is None else short_name(str(value))


def short_name(text: str) -> str:
    """The last word of a dotted name, and a number as it is."""
    return text.rsplit(".", 1)[-1] if text.count(".") and not text.replace(".", "").replace("-", "").isdigit() else text
