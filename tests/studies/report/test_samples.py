"""Single samples and settings on the page: what each method says, what flips, and which options differ."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.options import common, differing
from mer_lightning.studies.report.page import page
from mer_lightning.studies.report.page_tables import sample_table, settings_table
from mer_lightning.studies.report.samples import MOST, Answer, samples_of
from mer_lightning.studies.report.settings import Setting
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task
from tests.studies.report_fakes import FakeRun, contender, predictions, setting

HAPPY, SAD = [1.0, 0.0], [0.0, 1.0]
CLASSES = SingleLabel(("happy", "sad"))


class KnownRun(FakeRun):
    """With sentences of its samples."""

    def samples(self) -> pd.DataFrame:
        return pd.DataFrame({"id": ["one", "two"], "sentence": ["So <b>nice</b>!", "x" * 200]})


def with_ids(table: pd.DataFrame, *ids: str) -> pd.DataFrame:
    return table.assign(id=list(ids) * table["condition"].nunique())


def two_methods() -> Setting:
    """`a` is right of both and `two` flips without text; `b` says sad, whatever is there."""
    of_a = {"tav": [HAPPY, SAD], "ta": [HAPPY, SAD], "tv": [HAPPY, SAD], "av": [HAPPY, HAPPY]}
    targets = ["happy", "sad"]
    tables = {
        "a": with_ids(predictions(targets, of_a), "one", "two"),
        "b": with_ids(predictions(targets, dict.fromkeys(of_a, [SAD, SAD])), "one", "two"),  # noqa: RUF024
    }
    methods = {label: contender(CLASSES, [table]) for label, table in tables.items()}
    return setting(methods, {"wf1": {label: {"tav": [0.5]} for label in methods}})


def test_answers_and_what_flips_when_a_modality_goes() -> None:
    found = samples_of(two_methods())
    assert found is not None
    assert found.methods == ["a", "b"]
    assert [(row.id, row.truth) for row in found.rows] == [("two", "sad"), ("one", "happy")]  # most flips first
    assert found.rows[0].answers == [Answer("sad", True, ("t",)), Answer("sad", True, ())]
    assert found.rows[1].answers == [Answer("happy", True, ()), Answer("sad", False, ())]
    table = sample_table(found)
    assert table.head == ["id", "truth", "a", "b"]
    assert [(cell.text, cell.mark, cell.small) for cell in table.rows[0].cells] == [
        ("two", "", ""),
        ("sad", "", ""),
        ("sad", "right", " not without t"),
        ("sad", "right", ""),
    ]
    assert table.rows[1].cells[3].mark == "wrong"


def test_sentences_where_the_run_has_them() -> None:
    shown = two_methods()
    (run,) = shown.contenders["a"].runs
    assert isinstance(run, FakeRun)
    known = Contender((KnownRun(run.folder, run.facts, run.predicts, run.table),))
    shown = replace(shown, contenders=shown.contenders | {"a": known})
    found = samples_of(shown)
    assert found is not None
    assert {row.id: row.sentence for row in found.rows} == {"one": "So <b>nice</b>!", "two": "x" * 160 + "…"}
    assert sample_table(found).head == ["id", "sentence", "truth", "a", "b"]
    assert "So &lt;b&gt;nice&lt;/b&gt;!" in page([shown], [pd.DataFrame()])


@pytest.mark.parametrize(
    ("task", "targets", "logits", "truth", "answer", "right"),
    [
        (Regression(), [1.25], [[-0.5]], "1.25", "-.50", False),
        (Regression(), [0.0], [[-0.5]], ".00", "-.50", None),  # no sign to be right about
        (MultiLabel(("happy", "sad")), ["happy+sad"], [[2.0, 2.0]], "happy+sad", "happy+sad", True),
        (MultiLabel(("happy", "sad")), ["happy"], [[-2.0, -2.0]], "happy", "none", False),
    ],
)
def test_labels_of_every_task(
    task: Task, targets: list[object], logits: list[list[float]], truth: str, answer: str, right: bool | None
) -> None:
    one = contender(task, [with_ids(predictions(targets, {"tav": logits}), "one")])
    found = samples_of(setting({"a": one}, {task.score[0]: {"a": {"tav": [0.5]}}}))
    assert found is not None
    assert (found.rows[0].truth, found.rows[0].answers) == (truth, [Answer(answer, right, ())])


def test_a_page_holds_so_many_samples_and_says_of_how_many() -> None:
    """The first of those that are equal, after the one that flips."""
    count = MOST + 20
    logits = {"tav": [SAD] * count, "av": [SAD] * (count - 1) + [HAPPY]}
    table = with_ids(predictions(["sad"] * count, logits), *map(str, range(count)))
    shown = setting({"a": contender(CLASSES, [table])}, {"wf1": {"a": {"tav": [0.5]}}})
    found = samples_of(shown)
    assert found is not None
    assert [row.id for row in found.rows] == [str(count - 1), *map(str, range(MOST - 1))]
    assert f"Of {count} samples, the {MOST} on which" in page([shown], [pd.DataFrame()])


def test_no_samples_without_the_complete_input_or_ids() -> None:
    table = predictions(["sad"], {"tav": [SAD]})
    assert samples_of(setting({"a": contender(CLASSES, [table])}, {"wf1": {"a": {"tav": [0.5]}}})) is None
    table = with_ids(predictions(["sad"], {"rate-cpm-0.1": [SAD]}), "one")
    assert samples_of(setting({"a": contender(CLASSES, [table])}, {"wf1": {"a": {"tav": [0.5]}}})) is None


def test_settings_are_a_difference() -> None:
    """An option of one method alone is no difference; a class is its last word, a number has no digits to spare."""
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001, "betas": [0.9, 0.999]}}
    other = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    options = {
        "a": {"optimizer": optimizer, "width": 64.0, "own": 1},
        "b": {"optimizer": other, "width": 64.0, "off": None},
    }
    table = predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})
    methods = {label: contender(Regression(), [table], options=each) for label, each in options.items()}
    shown = setting(methods, {"mae": {label: {"tav": [0.5]} for label in methods}})
    shown = replace(
        shown, rows=shown.rows.assign(training_masks=shown.rows["label"].map({"a": "Complete()", "b": "Some()"}))
    )
    assert differing(shown) == {
        "training masks": ["Complete()", "Some()"],
        "optimizer": ["AdamW", "SGD"],
        "optimizer.lr": ["0.001", "0.1"],
    }
    assert common(shown) == {"backbone": "same", "checkpoints chosen by": "same", "width": "64"}
    table = settings_table(shown)
    assert table.head == ["method", "training masks", "optimizer", "optimizer.lr"]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["a", "Complete()", "AdamW", "0.001"],
        ["b", "Some()", "SGD", "0.1"],
    ]
    html = page([shown], [pd.DataFrame()])
    assert "torch.optim" not in html
    assert "<dt>width</dt><dd>64</dd>" in html
