"""The plan of a reproduction: which experiments, with which seeds, in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.errors import Refusal
from mer_lightning.studies.reproduction import Experiment, find_experiments, plan

FOLDER = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize(
    ("budget", "seeds", "epochs", "process"),
    [("quick", [1111, 1112, 1113], "12", "contradiction"), ("paper", [1111, 1112, 1113, 1114, 1115], "40", None)],
)
def test_every_experiment_with_every_seed(budget: str, seeds: list[int], epochs: str, process: str | None) -> None:
    experiments = [Experiment(Path("one.yaml"), synthetic=False), Experiment(Path("two.yaml"), synthetic=True)]
    jobs = plan(experiments, budget, Path("runs"))
    groups = ("one", "two-synthetic")
    assert [job.folder for job in jobs] == [
        Path("runs") / budget / group / f"seed-{seed}" for seed in seeds for group in groups
    ]
    assert [job.group for job in jobs] == [*groups] * len(seeds)
    for job, seed in zip(jobs, [seed for seed in seeds for _ in groups], strict=True):
        options = dict(zip(job.arguments[::2], job.arguments[1::2], strict=True))
        expected = {"--config": str(job.configs[0]), "--seed_everything": str(seed), "--trainer.max_epochs": epochs}
        expected["--model.select_under"] = "combinations"
        if budget == "quick":
            expected |= {"--model.backbone": "early", "--model.optimizer.lr": "1e-3"}
        if job.group == "two-synthetic":
            expected |= {"--data.synthetic": "true"} | ({"--data.process": process} if process else {})
        assert options == expected


def test_the_quick_budget_leaves_out_what_is_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path))
    quick, paper = (find_experiments([], FOLDER, budget) for budget in ("quick", "paper"))
    assert {path.stem for path in FOLDER.glob("*.yaml")} - {experiment.path.stem for experiment in paper} == {
        f"{method}_meld" for method in ("supervised", "modality_dropout", "cdat", "mcur", "mgr")
    }
    left_out = {experiment.path.stem for experiment in paper} - {experiment.path.stem for experiment in quick}
    assert "cdat_mosi_unaligned" in left_out
    assert "cdat_iemocap" in left_out
    assert "cdat_mosei_emotions" in left_out
    assert {"cdat_mosi", "cdat_iemocap4", "mgr_mosi", "supervised_iemocap4"} <= {
        experiment.path.stem for experiment in quick
    }
    assert all(experiment.synthetic for experiment in quick)


def test_a_corpus_without_a_twin_is_there_or_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path))
    with pytest.raises(Refusal, match=r"the corpus meld; found no such corpus here, .* data list meld"):
        find_experiments(["supervised_meld"], FOLDER, "quick")
    (tmp_path / "meld-utterance").mkdir()
    (tmp_path / "meld-utterance" / "card.yaml").touch()
    quick = {experiment.path.stem: experiment.synthetic for experiment in find_experiments([], FOLDER, "quick")}
    assert quick["supervised_meld"] is False
    assert quick["supervised_mosi"] is True
