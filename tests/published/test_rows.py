"""Published results: every file by its schema, numbers checked by hand, and nothing that was only recalled."""

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
    ],
)
def test_by_hand(table: str, method: str, condition: str, metric: str, value: float) -> None:
    key = (table, method, condition, metric)
    assert [r.value for r in published() if (r.table, r.method, r.condition, r.metric) == key] == [value]


def test_what_was_only_recalled_is_never_given(capsys: pytest.CaptureFixture[str]) -> None:
    stored = yaml.safe_load(next(p for p in FILES if p.name == "dicmor_mosi_fixed.yaml").read_text())
    assert stored["evidence"] == "M"
    assert all(row.evidence in ("C", "C2") for row in published())
    assert main(["published", "mosi"]) == 0
    said = capsys.readouterr().out
    assert "Recalled" not in said
    assert "MPLMM, Table 1" in said


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
    ("change", "said"), [({"source": None}, "source"), ({"evidence": "X"}, "evidence"), ({"rows": {"A": [[1.0]]}}, "A")]
)
def test_mistakes_are_named(change: dict, said: str) -> None:
    content = yaml.safe_load(FILES[0].read_text()) | change
    content = {key: value for key, value in content.items() if value is not None}
    with pytest.raises(Refusal, match=said):
        rows_of("wrong", content)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "mosei", "--protocol", "fixed-7"]) == 0
    said = capsys.readouterr().out
    assert "IMDer" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    assert main(["published", "mosie"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["published", "mosei", "--protocol", "fixed-9"]) == 2
    assert "fixed-7" in capsys.readouterr().err
