"""The Python of the documents runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (TOP / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["docs/how-to/python.md"])
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        exec(compile(block.replace("max_epochs=5", "max_epochs=3"), page, "exec"), names)
    assert names["run"].results.frame["condition"].nunique() == 9


def test_the_ten_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (block,) = [each for each in blocks("README.md") if "mer.fit" in each]
    assert len(block.strip().splitlines()) <= 10
    small = block.replace("synthetic=True", "synthetic=True, samples=80").replace("max_epochs=5", "max_epochs=3")
    import numpy as np

    names: dict[str, object] = {"features": np.zeros((50, 768), np.float32)}
    exec(compile(small, "README.md", "exec"), names)
    assert names["found"]["modalities"].tolist() == ["t"]
    assert Path("model.onnx").stat().st_size > 0
