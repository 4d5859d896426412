"""`mer-lightning ablate`: the full method against itself without each part; the results confirm the numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from mer_lightning.cli import main

FULL = """# A tiny CDaT.
model:
  class_path: cdat
  init_args: {weight: 1.0, confidence_hidden: 8, backbone: {class_path: early, init_args: {width: 8}}}
data: {corpus: mosi, samples: 60, synthetic: true}
trainer: {max_epochs: 1, accelerator: cpu}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "full.yaml").write_text(FULL)
    return tmp_path


def write(folder: Path, **content) -> str:
    content = {"full": "full.yaml", "repeat": {"seed_everything": [1, 2]}} | content
    (folder / "parts.yaml").write_text(yaml.safe_dump(content))
    return "parts.yaml"


def test_differences_are_those_of_the_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {
        "transfer": {"model.preset": "baseline", "model.weight": 0.0},
        "confidence": {"model.preset": "static"},
    }
    file = write(folder, without=parts)
    assert main(["ablate", file, "--workers", "2", "--model.optimizer.lr", "0.01"]) == 0
    table = pd.read_csv(folder / "runs/ablations/parts/differences.csv").set_index(["without", "condition"])
    for part in ("transfer", "confidence"):
        for condition in ("tav", "mean-7"):
            means = {}
            for variant in ("full", part):
                paths = sorted((folder / "runs/ablations/parts" / variant).rglob("results.csv"))
                assert len(paths) == 2
                rows = pd.concat(map(pd.read_csv, paths)).query("condition == @condition and metric == 'mae'")
                means[variant] = -rows["value"].mean()
            row = table.loc[(part, condition)]
            assert row["full"] == pytest.approx(means["full"], abs=1.1e-5)
            assert row["gain"] == pytest.approx(means["full"] - means[part], abs=1.1e-5)
    for run in folder.rglob("config.yaml"):  # what was given on the command line reached every run
        assert yaml.safe_load(run.read_text())["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01
    assert "p (Holm)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"full": "other.yaml", "without": {}}, "other.yaml"),
        ({"wihtout": {}}, "full, without"),
        ({}, "full, without"),
        ({"without": None}, "options for each part"),
        ({"without": {"transfer": None}}, "options for each part"),
        ({"without": {}, "repeat": {"seed_everything": 1}}, "a list of values"),
        ({"without": {"half": {"data.partition": "fold-2"}}}, "same test samples"),
        ({"without": {}, "repeat": {"data.partition": ["fold-1", "fold-2"]}}, "same test samples"),
        ({"without": {"samples": {"data.samples": 40}}, "repeat": {"seed_everything": [1]}}, "corpus_sha256"),
    ],
)
def test_mistakes_are_named(folder: Path, content: dict, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", write(folder, **content)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"model.presett": "ce"}, [], "transfer/0: --model.presett: expected an option"),
        ({"model.preset": "ce"}, ["--data.synthetic", "false"], "full/0: "),
    ],
)
def test_a_mistake_starts_no_run(options: dict, more: list[str], message: str, folder: Path, capsys) -> None:
    assert main(["ablate", write(folder, without={"transfer": options}), *more]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.rglob("*.log"))


def test_the_reason_of_a_failed_run_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder, without={"transfer": {"model.preset": "baseline"}}, repeat={"seed_everything": [1]})
    assert main(["ablate", file, "--workers", "1"]) == 1
    assert "the baseline does not transfer" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("experiments/ablations/*.yaml")), ids=lambda p: p.stem
)
def test_every_part_of_a_shipped_ablation_changes_the_training(path: Path, folder: Path) -> None:
    """No variant trains the weights of another one, as it would if an option had no effect."""
    import torch

    from mer_lightning.studies.ablation import read_ablation
    from mer_lightning.studies.jobs import by_group

    quick = "--data.synthetic true --data.samples 60 --data.batch_size 8 --trainer.max_epochs 1"
    quick += " --trainer.accelerator cpu --test_after_fit false"
    trained: dict[str, dict[str, torch.Tensor]] = {}
    for name, jobs in by_group(read_ablation(path).jobs(folder / "jobs", quick.split())).items():
        assert main(["fit", *jobs[0].arguments, "--run_dir", str(folder / name)]) == 0, name
        weights = torch.load(folder / name / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        for other, theirs in trained.items():
            same = weights.keys() == theirs.keys() and all(torch.equal(weights[key], theirs[key]) for key in weights)
            assert not same, f"'{name}' is '{other}'"
        trained[name] = weights
