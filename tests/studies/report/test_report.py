"""A report: every number again from the stored predictions with scikit-learn and scipy, and a page that works."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, wilcoxon
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, recall_score

from mer_lightning.cli import main
from mer_lightning.methods.mcur import MCUR
from mer_lightning.methods.mcur.figures import state_map
from mer_lightning.numerals import spread
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.ledger import open_ledger
from mer_lightning.studies.report.page import page
from mer_lightning.studies.report.settings import settings_of

QUICK = ["--model.backbone", "early", "--model.backbone.width", "8", "--data.synthetic", "true", "--data.samples", "90"]
QUICK += ["--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
QUICK += ["--protocol", "[fixed-7, rate-cpm]"]
LABELS = {"cdat": "cdat", "supervised": "supervised"}
COMBINATIONS = ["t", "a", "v", "ta", "tv", "av", "tav"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods by two seeds on two corpora, and their report."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", str(folder / "data"))
        patch.chdir(folder)
        for corpus in ("mosi", "iemocap4"):
            for method in LABELS:
                for seed in (1, 2):
                    given = ["fit", "--model", method, *QUICK, "--data.corpus", corpus, "--seed_everything", str(seed)]
                    assert main([*given, "--run_dir", f"runs/{corpus}/{method}/{seed}"]) == 0
        assert main(["report", "runs", "--output", "out"]) == 0
    return folder


def predictions(folder: Path, corpus: str, method: str) -> list[pd.DataFrame]:
    return [pd.read_parquet(path) for path in sorted((folder / "runs" / corpus / method).rglob("predictions.parquet"))]


def expected(table: pd.DataFrame, metric: str) -> float:
    """From what people read in the predictions: no code of ours."""
    true, predicted = table["target"], table["prediction"]
    match metric:
        case "mae":
            return mean_absolute_error(true, predicted)
        case "corr":
            return pearsonr(true, predicted).statistic
        case "acc2_non0":
            return accuracy_score(true[true != 0] > 0, predicted[true != 0] > 0)
        case "wa":
            return accuracy_score(true, predicted)
        case "ua":
            return recall_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
        case "wf1":
            return f1_score(true, predicted, average="weighted", zero_division=0)
    raise ValueError(metric)


@pytest.mark.parametrize(
    ("corpus", "metrics"), [("mosi", ["mae", "corr", "acc2_non0"]), ("iemocap4", ["wa", "ua", "wf1"])]
)
def test_every_score_again(folder: Path, corpus: str, metrics: list[str]) -> None:
    scores = pd.read_csv(folder / "out" / "scores.csv")
    scores = scores[scores["setting"].str.startswith(corpus)].set_index(["label", "condition", "metric"]).sort_index()
    names = [name for name in metrics if name in set(scores.index.get_level_values("metric"))]
    assert len(names) >= 2
    for method in LABELS:
        tables = predictions(folder, corpus, method)
        for metric in names:
            per_seed = {
                condition: [expected(t[t["condition"] == condition], metric) for t in tables]
                for condition in tables[0]["condition"].unique()
            }
            per_seed["mean-7"] = list(np.mean([per_seed[c] for c in COMBINATIONS], axis=0))
            for condition, values in per_seed.items():
                row = scores.loc[(method, condition, metric)]
                assert row["mean"] == pytest.approx(np.mean(values), abs=1e-5, nan_ok=True)
                assert row["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-5, nan_ok=True)
                assert row["seeds"] == 2


def test_every_difference_again(folder: Path) -> None:
    differences = pd.read_csv(folder / "out" / "differences.csv")
    differences = differences[differences["setting"].str.startswith("mosi")].set_index(["label", "condition"])
    errors = {}
    for method in LABELS:
        tables = predictions(folder, "mosi", method)
        for condition, group in (("tav", ["tav"]), ("mean-7", COMBINATIONS)):
            parts = [t[t["condition"] == c] for t in tables for c in group]
            errors[method, condition] = np.mean(
                [np.abs(p["target"] - p["prediction"]).to_numpy() for p in parts], axis=0
            )
    for condition in ("tav", "mean-7"):
        ours, base = errors["cdat", condition], errors["supervised", condition]
        row = differences.loc[("cdat", condition)]
        assert row["difference"] == pytest.approx(base.mean() - ours.mean(), abs=1e-6)
        assert row["wilcoxon_p"] == pytest.approx(wilcoxon(ours, base).pvalue, rel=0.05)
        assert row["low"] <= row["difference"] <= row["high"]


def test_settings_are_kept_apart(folder: Path) -> None:
    text = (folder / "out" / "report.md").read_text()
    assert len(re.findall("^## ", text, re.M)) == 2
    assert "(synthetic)" in text
    ledger = pd.read_parquet(folder / "out" / "ledger.parquet")
    assert ledger["run"].nunique() == 8
    assert {"corpus_sha256", "mask_hash", "selection", "seconds", "peak_megabytes"} <= set(ledger.columns)


def test_texts_have_the_numbers(folder: Path) -> None:
    scores = pd.read_csv(folder / "out" / "scores.csv")
    markdown, latex = ((folder / "out" / name).read_text() for name in ("report.md", "report.tex"))
    page = (folder / "out" / "report.html").read_text()
    for _, row in scores.iterrows():
        cell = spread(row["mean"], row["std"])
        assert cell in markdown
        assert cell in page
        assert cell.replace("±", r"$\pm$") in latex
    for table in re.findall(r"\\begin\{tabular\}\{(l[r]+)\}(.*?)\\end\{tabular\}", latex, re.S):
        rows = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert {line.count("&") for line in rows} == {len(table[0]) - 1}
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_floors_and_the_best_possible_stand_beside_the_scores(folder: Path) -> None:
    markdown = (folder / "out" / "report.md").read_text()
    assert markdown.count("| constant predictor |") > 2
    assert markdown.count("| best possible |") > 2


def test_unequal_budgets_are_noted(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_DATA", str(folder / "data"))
    given = ["fit", "--model", "supervised", *QUICK, "--data.corpus", "mosi", "--trainer.max_epochs", "3"]
    assert main([*given, "--run_dir", str(tmp_path / "longer")]) == 0
    out = str(tmp_path / "out")
    assert main(["report", str(folder / "runs" / "mosi"), str(tmp_path / "longer"), "--output", out]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Budgets differ" in text
    assert "different numbers of seeds" in text


def test_unknown_things_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "results.csv" in capsys.readouterr().err
    assert main(["report", str(folder / "runs"), "--baseline", "cdta", "--output", str(tmp_path / "x")]) == 2
    assert "cdat" in capsys.readouterr().err
    only = str(folder / "runs" / "mosi" / "cdat")
    assert main(["report", only, "--baseline", "supervised", "--output", str(tmp_path / "x")]) == 2
    assert "supervised" in capsys.readouterr().err
    assert main(["report", only, "--output", str(tmp_path / "x")]) == 0  # the default is no demand


def test_a_map_of_states(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MCUR draws it from its checkpoint, and leaves it out where the checkpoint is gone."""
    monkeypatch.setenv("MER_DATA", str(folder / "data"))
    given = ["fit", "--model", "mcur", *QUICK, "--data.corpus", "iemocap4", "--run_dir", str(tmp_path / "mcur")]
    assert main(given) == 0
    assert main(["report", str(tmp_path / "mcur"), "--output", str(tmp_path / "out")]) == 0
    assert "two principal components" in (tmp_path / "out" / "report.html").read_text()
    run = open_ledger([tmp_path / "mcur"]).runs[0]
    states = state_map(run)
    assert states is not None
    assert len(states.category) == run.predictions()["condition"].value_counts()["tav"]  # the whole split: it is small
    assert states.points.shape == (7, len(states.category), 2)
    assert states.points.mean((0, 1)).tolist() == pytest.approx([0, 0], abs=1e-5)
    deviation = states.points.flatten(0, 1).std(0)
    assert deviation[0] >= deviation[1] > 0
    (figure,) = MCUR.figures(Contender((run,))).values()
    for points, dots in zip(states.points, figure.axes[0].collections, strict=True):
        assert dots.get_offsets().tolist() == [pytest.approx(point, abs=1e-6) for point in points.tolist()]
        assert dots.get_array().tolist() == states.category.tolist()
    assert [dots.get_label() for dots in figure.axes[0].collections] == COMBINATIONS
    (tmp_path / "mcur" / "checkpoints" / "best.ckpt").unlink()
    assert MCUR.figures(Contender((run,))) == {}


MINE = """
from matplotlib.figure import Figure

from mer_lightning.methods.supervised import Supervised


class Mine(Supervised):
    @staticmethod
    def figures(runs):
        figure = Figure()
        figure.subplots().plot(runs.runs[0].metrics_over_time()["valid/score"].dropna())
        return {f"scores while training, {len(runs.runs)} runs": figure}
"""


def test_a_method_of_ones_own_draws_figures(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as its package is imported; a report imports nothing that a run folder names."""
    for seed in ("1", "2"):
        shutil.copytree(folder / "runs" / "mosi" / "supervised" / seed, tmp_path / "runs" / seed)
        config = tmp_path / "runs" / seed / "config.yaml"
        config.write_text(config.read_text().replace("mer_lightning.methods.supervised.Supervised", "my_project.Mine"))
    (tmp_path / "my_project.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    caption = "<figcaption>my_project: scores while training, 2 runs</figcaption>"

    assert main(["report", str(tmp_path / "runs"), "--output", str(tmp_path / "without")]) == 0
    assert "my_project" not in sys.modules
    assert caption not in (tmp_path / "without" / "report.html").read_text()

    monkeypatch.setitem(sys.modules, "my_project", importlib.import_module("my_project"))
    assert main(["report", str(tmp_path / "runs"), "--output", str(tmp_path / "with")]) == 0
    assert caption in (tmp_path / "with" / "report.html").read_text()


def test_the_best_of_every_column_is_marked(folder: Path) -> None:
    """From the page alone: the lowest error, the highest of everything else; what prints alike shares the mark.

    CDaT trains for more epochs than `supervised`, so nothing is marked until both are taken to have one budget.
    """
    assert 'class="best"' not in (folder / "out" / "report.html").read_text()
    settings = settings_of(open_ledger([folder / "runs"]))
    even = [replace(setting, rows=setting.rows.assign(budget=1.0)) for setting in settings]
    html = page(even, [pd.DataFrame()] * len(even))
    tables = re.findall(r'<div data-metric="(\w+)">(.*?)</table>', html, re.S)
    assert {"mae", "corr", "wf1", "ua"} <= {metric for metric, _ in tables}
    decided = dict.fromkeys((metric for metric, _ in tables), 0)
    for metric, table in tables:
        rows = [re.findall(r"<td([^>]*)>(.*?)</td>", row) for row in re.findall("<tr>(<td.*?)</tr>", table)]
        assert len(rows) == len(LABELS)
        for column in list(zip(*rows, strict=True))[1:]:
            values = [float(re.search(r'data-value="([^"]+)"', cell)[1]) for cell, _ in column]
            if np.isnan(values).any():
                continue
            best = values.index(min(values) if metric == "mae" else max(values))
            digits = len(re.search(r"\.(\d*)±|$", column[best][1])[1] or "")
            alike = [f"{value:.{digits}f}" == f"{values[best]:.{digits}f}" for value in values]
            assert ['class="best"' in cell for cell, _ in column] == alike, (metric, column)
            decided[metric] += not all(alike)
    assert min(decided["mae"], decided["wf1"]) > 0


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(folder: Path, width: int) -> None:
    """No sideways scrolling, no overlap, no error; tables sort, filter and change their metric."""
    driver = pytest.importorskip("playwright.sync_api", reason="pip install playwright for the test in a browser")
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((folder / "out" / "report.html").as_uri())
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        overlaps = page.evaluate(
            """() => [...document.querySelectorAll('section')].flatMap((section) => {
              const boxes = [...section.children].filter((e) => e.offsetHeight).map((e) => e.getBoundingClientRect());
              return boxes.slice(1).filter((box, i) => box.top < boxes[i].bottom - 1);
            }).length"""
        )
        assert overlaps == 0
        first = "section:nth-of-type(2) [data-metric]:not([hidden])"
        names = f"{first} tbody tr:not(.reference) td:first-child"

        def column(number: int) -> list[float]:
            cells = page.locator(f"{first} tbody tr:not(.reference) td:nth-child({number})")
            return [float(value) for value in cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]

        number = next(n for n in range(2, 18) if len(set(column(n))) == 2)  # tiny models sometimes say the same
        for descending in (False, True):
            page.click(f"{first} th:nth-child({number})")
            assert column(number) == sorted(column(number), reverse=descending)
        page.fill("section:nth-of-type(2) input", "cda")
        assert [row.inner_text() for row in page.locator(names).all() if row.is_visible()] == ["cdat"]
        page.select_option("section:nth-of-type(2) select", index=1)
        assert page.locator("section:nth-of-type(2) [data-metric]:visible").count() == 1
        samples = page.locator("section:nth-of-type(2) .samples tbody tr")
        every = samples.count()
        page.fill("section:nth-of-type(2) [data-filter=samples]", samples.first.locator("td").first.inner_text())
        assert 1 <= sum(row.is_visible() for row in samples.all()) < every
        panels = page.locator("section:nth-of-type(2) figure[data-method]:visible figcaption")
        assert {each.inner_text() for each in panels.all()} == {"cdat"}  # as the rows
        browser.close()
    assert errors == []
