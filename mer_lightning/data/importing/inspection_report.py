"""Prints the findings of `mer-lightning data inspect` as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mer_lightning.data.importing.contents import Contents
from mer_lightning.data.importing.inspection import Findings


def show(findings: Findings, console: Console) -> None:
    task = findings.task
    labels = ", ".join(_labels_of(task))
    console.print(f"[bold]{findings.path}[/]: {findings.format}, {findings.alignment}, {findings.samples} samples")
    console.print(f"{task['kind']} ({labels}); padding: {findings.padding}", highlight=False)
    if findings.known_as:
        console.print(f"[green]known file[/]: {findings.known_as}")
    for part in (_modalities(findings), _partitions(findings), _labels(findings)):
        console.print()
        console.print(part)
    for warning in _warnings(findings):
        console.print(f"[yellow]![/] {warning}", highlight=False)
    for note in findings.notes:
        console.print(f"[dim]note: {note}[/]", highlight=False)


def show_contents(contents: Contents, console: Console) -> None:
    """Names and texts of the file are not to be taken for markup."""
    console.print(Text(f"{contents.path}: {contents.kind}", "bold"))
    table = Table.grid(padding=(0, 2))
    for name, what in contents.parts:
        table.add_row(Text(_plain(name)), Text(_plain(what)))
    console.print(table)
    for name, why in contents.missing.items():
        console.print(Text(_plain(f"to be read as {name}: {why}"), "yellow"))


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _labels_of(task: dict[str, Any]) -> list[str]:
    """The classes, or the range of each target."""
    if "classes" in task:
        return list(task["classes"])
    if "limit" in task:
        return [f"-{task['limit']:g} to {task['limit']:g}"]
    ranges = zip(task["targets"], task["low"], task["high"], strict=True)
    return [f"{name} {low:g} to {high:g}" for name, low, high in ranges]


def _modalities(findings: Findings) -> RenderableType:
    table = Table("modality", title="features", title_justify="left")
    for column in ("width", "steps", "absent", "all zero", "constant\ncolumns", "not finite"):
        table.add_column(column, justify="right")
    for name, each in findings.modalities.items():
        bad = sum(sum(counts.values()) for counts in each.non_finite.values())
        steps = f"{each.shortest}-{each.longest} ({each.mean_length:.1f})"
        counts = (each.absent_samples, each.all_zero_samples, each.constant_columns, bad)
        table.add_row(name, str(each.width), steps, *map(str, counts))
    return table


def _partitions(findings: Findings) -> RenderableType:
    table = Table("partition", title="partitions", title_justify="left")
    for split in ("train", "valid", "test"):
        table.add_column(split, justify="right")
    for name, counts in findings.partitions.items():
        table.add_row(name, *(str(counts[split]) for split in ("train", "valid", "test")))
    return table


def _labels(findings: Findings) -> RenderableType:
    first = next(iter(findings.partitions), "")
    table = Table("label", title=f"labels of {first}", title_justify="left")
    for split in findings.labels:
        table.add_column(split, justify="right")
    for label in next(iter(findings.labels.values()), {}):
        table.add_row(label, *(str(counts[label]) for counts in findings.labels.values()))
    return table


def _warnings(findings: Findings) -> list[str]:
    warnings = []
    if findings.bad_labels:
        warnings.append(
            f"{findings.bad_labels} labels are not finite: an import refuses them (ratings: --allow_missing_labels)"
        )
    if findings.duplicate_ids:
        warnings.append(
            f"{len(findings.duplicate_ids)} ids occur more than once, the first is {findings.duplicate_ids[0]}"
        )
    for splits, groups in findings.shared_groups.items():
        warnings.append(f"{len(groups)} videos or dialogues are in {splits}, the first is {groups[0]}")
    for splits, speakers in findings.shared_speakers.items():
        warnings.append(
            f"{len(speakers)} speakers are in {splits}, the first is {speakers[0]}: scores may rest on who speaks"
        )
    for name, counts in findings.partitions.items():
        warnings += [f"split {split} of partition {name} is empty" for split, count in counts.items() if count == 0]
    for modality, each in findings.modalities.items():
        for split, counts in each.non_finite.items():
            values = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            warnings.append(
                f"{modality} of {split}: {values}; an import replaces them by training medians (--nonfinite)"
            )
    return warnings
