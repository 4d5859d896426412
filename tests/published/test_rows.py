"""Published results: every file by its schema, numbers checked by hand, and no number that was not checked."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml

from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.published.rows import differs, published, rows_of

FILES = [path for path in files("mer_lightning.published").iterdir() if path.name.endswith(".yaml")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_schema(path) -> None:
    content = yaml.safe_load(path.read_text())
    rows = rows_of(path.name, content)
    assert rows
    assert all(row.source and row.feature_set and row.protocol and row.selection for row in rows)
    if any("in %" in row.variant for row in rows):
        assert all(0 <= row.value <= 100 for row in rows)


@pytest.mark.parametrize(
    ("table", "method", "condition", "metric", "value"),
    [
        ("primd_mosei_fixed", "GCNet", "av", "non0_acc2", 71.49),
        ("primd_mosei_fixed", "PriMD", "mean-6", "non0_f1", 79.57),
        ("guard_mosei_fixed", "CorrKD", "v", "non0_f1", 62.5),
        ("guard_mosei_fixed", "MCTN", "mean-7", "non0_acc2", 74.6),
        ("primd_iemocap6_fixed", "MoMKE", "ta", "ua", 61.94),
        ("mplmm_mosi_fixed", "modality dropout", "a", "non0_acc2", 48.79),
        ("comp_mosi_rates", "ComP", "rate-cpm-0.7", "non0_f1", 73.33),
        ("comp_iemocap4_rates", "GCNet", "rate-cpm-0.2", "wa", 75.87),
        ("hrlf_mosi_fixed", "HRLF", "tav", "f1", 84.15),
        ("mmsa_mosi_complete", "MISA", "tav", "mae", 0.7765),
        ("almt_mosi_complete", "ALMT", "tav", "acc5", 56.41),
        ("almt_mosei_complete", "CHFN", "tav", "non0_f1", 86.1),
        ("various_mosei_complete", "DLF", "tav", "acc5", 55.7),
        ("various_mosi_complete", "ConFEDE", "tav", "has0_acc2", 84.17),
        ("cmbert_mosi_complete", "MCTN", "tav", "corr", 0.676),
        ("gsit_mosei_complete", "ALMT", "tav", "mae", 0.583),
        ("pmr_iemocap_complete", "PMR", "tav", "angry_f1", 71.3),
        ("recap_mosi_frames", "LNLN", "mean-rmfm_same", "has0_acc2", 72.05),
        ("lnln_mosei_frames", "LNLN", "mean-rmfm_lnln", "acc7", 45.42),
        ("tcmr_mosei_frames", "TCMR", "mean-rmfm_same", "mae", 0.661),
        ("tmdc_iemocap4_fixed", "MoMKE", "mean-7", "ua", 72.78),
        ("semmsa_mosei_fixed", "SemMSA", "tav", "f1", 86.32),
    ],
)
def test_by_hand(table: str, method: str, condition: str, metric: str, value: float) -> None:
    key = (table, method, condition, metric)
    assert [r.value for r in published() if (r.table, r.method, r.condition, r.metric) == key] == [value]


def test_unchecked_numbers_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    stored = yaml.safe_load(next(p for p in FILES if p.name == "dicmor_mosi_fixed.yaml").read_text())
    assert stored["evidence"] == "M"
    assert all(row.evidence in ("C", "C2") for row in published())
    assert main(["published", "mosi"]) == 0
    printed = capsys.readouterr().out
    assert "Recalled" not in printed
    assert "MPLMM, Table 1" in printed


def test_a_mean_is_the_mean_of_its_conditions() -> None:
    """Where a table gives all combinations and a mean of them: equal up to rounding."""
    rows = {(r.table, r.method, r.metric, r.condition): r.value for r in published()}
    compared = 0
    for (table, method, metric, condition), value in rows.items():
        single = ["t", "a", "v", "ta", "tv", "av"] + (["tav"] if condition == "mean-7" else [])
        parts = [rows.get((table, method, metric, each)) for each in single]
        if condition in ("mean-6", "mean-7") and None not in parts:
            compared += 1
            assert value == pytest.approx(sum(parts) / len(parts), abs=0.06), (table, method, metric)
    assert compared > 80


def test_each_row_of_a_table_of_several_sources_has_its_own() -> None:
    rows = {row.method: row.source for row in published("mosei", "tav") if row.table == "various_mosei_complete"}
    assert rows["ConFEDE"] == "quoted by Semi-IIN"
    assert rows["HyCon"] == "quoted by MAESTRO"


def test_lnln_on_mosei_is_under_its_own_way_of_removing_frames() -> None:
    assert {row.method for row in published("mosei", "rmfm_lnln")} == {"LNLN"}
    assert "LNLN" not in {row.method for row in published("mosei", "rmfm_same") if row.table == "recap_mosei_frames"}


def test_rows_that_are_quoted_are_kept_apart() -> None:
    assert {row.table for row in published("mosi", "rate-cpm")} == {"comp_mosi_rates"}
    assert "DiCMoR" not in {row.method for row in published("mosi", "rate-cpm")}


def test_reasons_not_to_compare() -> None:
    row = published("mosei", "fixed-7")[0]
    assert differs(row, row.feature_set, "fixed-7", row.selection) == []
    reasons = differs(row, "other features", "fixed-6", "min validation mae")
    assert len(reasons) == 3
    assert row.feature_set in reasons[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"source": None}, "source"), ({"evidence": "X"}, "evidence"), ({"rows": {"A": [[1.0]]}}, "A")],
)
def test_mistakes_are_named(change: dict, message: str) -> None:
    content = yaml.safe_load(FILES[0].read_text()) | change
    content = {key: value for key, value in content.items() if value is not None}
    with pytest.raises(Refusal, match=message):
        rows_of("wrong", content)


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # the terminal of the person who runs the tests may be wider
    assert main(["published", "mosei", "--protocol", "fixed-7"]) == 0
    printed = capsys.readouterr().out
    assert "IMDer" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert main(["published", "mosie"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["published", "mosei", "--protocol", "fixed-9"]) == 2
    assert "fixed-7" in capsys.readouterr().err
