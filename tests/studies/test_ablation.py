"""The jobs of an ablation: every variant with every repetition, in an order in which they can be compared early."""

from __future__ import annotations

import json
from pathlib import Path

from mer_lightning.studies.ablation import read_ablation

FILE = """full: full.yaml
repeat: {seed_everything: [1, 2], data.batch_size: [8]}
without:
  transfer: {model.weight: 0.0}
"""


def test_one_repetition_of_every_variant_comes_before_the_next(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text("")
    (tmp_path / "parts.yaml").write_text(FILE)
    jobs = read_ablation(tmp_path / "parts.yaml").jobs(tmp_path / "runs", ["--data.synthetic", "true"])
    assert [job.label for job in jobs] == ["full/0", "transfer/0", "full/1", "transfer/1"]
    assert [job.folder for job in jobs] == [tmp_path / "runs" / job.label for job in jobs]
    assert [json.loads(job.configs[1].read_text()) for job in jobs] == [
        {"seed_everything": 1, "data.batch_size": 8},
        {"seed_everything": 1, "data.batch_size": 8, "model.weight": 0.0},
        {"seed_everything": 2, "data.batch_size": 8},
        {"seed_everything": 2, "data.batch_size": 8, "model.weight": 0.0},
    ]
    for job in jobs:
        full, overrides = job.configs
        assert full == tmp_path / "full.yaml"
        assert job.arguments == ("--config", str(full), "--config", str(overrides), "--data.synthetic", "true")
