"""What a reader of a setting must know: its answer in a few sentences, warnings, and notes on how to compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mer_lightning.evaluation.metrics import describe
from mer_lightning.evaluation.results import remarks
from mer_lightning.evaluation.significance import SURE
from mer_lightning.methods.materiality import immaterial
from mer_lightning.modalities import complete_among
from mer_lightning.numerals import interval, number, spread
from mer_lightning.studies.report.of_studies import Trials
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import REFERENCES, best_cells, metrics_shown, scores

if TYPE_CHECKING:
    import pandas as pd

HARDLY = (
    0.05  # of the way from the best constant to a perfect score: a model that goes less far has learnt hardly anything
)

_FEW = 3  # methods that are always named one by one


def answers(setting: Setting, tests: pd.DataFrame) -> list[str]:
    """The best method on the complete input beside the references, and which differences are sure."""
    return [*_best(setting), *_differences(tests), *map(_winner, setting.sweeps)]


def warnings(setting: Setting) -> list[str]:
    """What makes a score say little: it is hardly better than a constant's, or not better than a linear model's."""
    return [*_hardly_better(setting), *_below_linear(setting)]


def notes(setting: Setting) -> list[str]:
    """Unequal numbers of seeds, budgets or selection rules, and what some conditions are measured on."""
    found = []
    of_label = setting.rows.groupby("label", sort=False)
    if of_label["selection"].first().nunique() > 1:
        found.append("Checkpoints of the methods were chosen by different rules; see the settings.")
    if of_label["training_masks"].first().nunique() > 1:
        found.append("Methods were trained under different masks; see the settings.")
    if len(setting.shown) < len(setting.contenders):
        found.append(
            f"Of {len(setting.contenders)} methods, figures and tests have the {len(setting.shown)} best on validation."
        )
    counts = {label: len(contender.runs) for label, contender in setting.contenders.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        found.append(f"Methods have different numbers of seeds: {listed}.")
    if not setting.equal_budgets:
        listed = ", ".join(
            f"{label} {budget:.0f}" if budget else f"{label} unknown" for label, budget in setting.budgets.items()
        )
        found.append(f"Budgets differ (epochs, of all phases), so no best score is marked: {listed}.")
    if setting.rows["fold_mean"].notna().any():
        found.append("Scores are of all folds' predictions together; in brackets, mean ± deviation over folds.")
    found += [f"{line}." for line in remarks(setting.rows)]
    for label, shares in setting.gradient_shares.groupby("label", sort=False):
        if line := immaterial(dict(zip(shares["loss"], shares["share"], strict=True))):
            found.append(f"{label}: {line}. A claim about it says next to nothing.")
    return found


def _best(setting: Setting) -> list[str]:
    complete, metric = complete_among(setting.conditions), metrics_shown(setting)[0]
    best = [label for label, condition in sorted(best_cells(setting, metric)) if condition == complete]
    if not best:
        return []
    table = scores(setting, metric.name)
    at_complete = table[table["condition"] == complete].sort_values("mean", ascending=metric.lower_is_better)
    title = describe(setting.task)[metric.name].title
    value = spread(at_complete["mean"].iloc[0], at_complete["std"].iloc[0])
    references = [
        f"{name} {number(at_complete[column].iloc[0])}"
        for name, column in REFERENCES.items()
        if at_complete[column].notna().any()
    ]
    beside = f" Beside it: {', '.join(references)}." if references else ""
    return [f"Best {title} under {complete}: {value} by {_listed(best)}.{beside}"]


def _differences(tests: pd.DataFrame) -> list[str]:
    """Of each group of conditions, the methods that differ from the baseline for sure."""
    lines = []
    for condition, group in tests.groupby("condition", sort=False) if len(tests) else ():
        sure = group[group["bootstrap_p_holm"] <= SURE]
        baseline, where = group["baseline"].iloc[0], _in_words(str(condition))
        if not len(sure):
            lines.append(f"{where} no difference from {baseline} is sure.")
        for word, chosen in (("better", sure[sure["difference"] > 0]), ("worse", sure[sure["difference"] < 0])):
            if len(chosen):
                each = [
                    f"{row['label']} ({number(row['difference'], '+')}, {interval(row['low'], row['high'])})"
                    for row in chosen.to_dict("records")
                ]
                lines.append(f"{where} surely {word} than {baseline}: {', '.join(each)}.")
    return lines


def _in_words(condition: str) -> str:
    mean, _, count = condition.partition("-")
    return f"Over the {count} combinations," if mean == "mean" and count.isdigit() else f"Under {condition},"


def _winner(sweep: Trials) -> str:
    count = len(sweep.trials)
    return (
        f"Sweep {sweep.study.name}: of {count} trials, {sweep.label} has the best {sweep.study.metric} on validation, "
        f"{number(sweep.mean(sweep.label))}. Test scores are shown for it alone."
    )


def _hardly_better(setting: Setting) -> list[str]:
    """By the share of the way from the best constant to a perfect score."""
    means = _beside(setting, "floor")
    perfect = 0.0 if setting.task.score[1] == "min" else 1.0
    way = (means["value"] - means["floor"]) / (perfect - means["floor"])
    poor = means.loc[~(way >= HARDLY), "value"]  # a score that is no number is poor, too
    if not len(poor):
        return []
    listed = _with_scores(poor, len(means))
    return [f"Hardly better than a constant, which has {_reference(setting, means['floor'])}: {listed}."]


def _below_linear(setting: Setting) -> list[str]:
    """The methods that a linear model of mean features equals or beats (rule 12)."""
    means = _beside(setting, "linear")
    lower_is_better = setting.task.score[1] == "min"
    worse = means["value"] >= means["linear"] if lower_is_better else means["value"] <= means["linear"]
    if not worse.any():
        return []
    listed = _with_scores(means.loc[worse, "value"], len(means))
    return [f"A linear model of mean features has {_reference(setting, means['linear'])}; not better: {listed}."]


def _beside(setting: Setting, reference: str) -> pd.DataFrame:
    """The score on the complete input and that of a reference, of each method; no rows where there is none."""
    metric, complete = setting.task.score[0], complete_among(setting.conditions)
    rows = setting.rows[(setting.rows["metric"] == metric) & (setting.rows["condition"] == complete)]
    known = rows if rows[reference].notna().any() else rows[:0]
    return known.groupby("label", sort=False, observed=True)[["value", reference]].mean()


def _reference(setting: Setting, values: pd.Series[float]) -> str:
    title = describe(setting.task)[setting.task.score[0]].title
    return f"{title} {number(values.iloc[0])} under {complete_among(setting.conditions)}"


def _with_scores(values: pd.Series[float], of: int) -> str:
    """Each method with its score; of many, where it is all of them, only from which to which."""
    if len(values) == of > _FEW:
        return f"all {of} methods, {number(values.min())} to {number(values.max())}"
    return ", ".join(f"{label} {number(value)}" for label, value in values.items())


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
