"""What a stored corpus holds is what its card says: the cheap part on opening, all of it with `data verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from mer_lightning.cli import main
from mer_lightning.data.corpus import open_corpus
from mer_lightning.errors import Refusal
from mer_lightning.studies.corpora import corpus_of, verified
from mer_lightning.studies.jobs import Job

Tensors = dict[str, torch.Tensor]


def change(folder: Path, how: Callable[[Tensors], object]) -> None:
    path = folder / "tensors.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    how(tensors)
    save_file(tensors, path)


def put(name: str, place: int, value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[name].__setitem__(place, value)


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "targets that are shifted": (lambda t: t.update(target=t["target"].roll(1)), "card.yaml was written for"),
    "a target that is no number": (put("target", 3, torch.nan), "finite targets"),
    "a NaN among the features": (put("text.values", 0, torch.nan), "card.yaml was written for"),
    "a negative offset": (put("audio.offsets", 1, -5), "offsets of audio that ascend"),
    "an offset beyond the values": (put("audio.offsets", 60, 10**6), "offsets of audio that ascend"),
    "a split that does not exist": (put("partition.official", 0, 7), "the samples"),
    "a sample in another split": (put("partition.official", 0, 2), "the samples"),
    "a tensor that is not there": (lambda t: t.pop("vision.offsets"), "none named vision.offsets"),
    "features of another width": (
        lambda t: t.update({"text.values": t["text.values"][:, 1:].contiguous()}),
        "width 12",
    ),
    "numbers of another kind": (lambda t: t.update(target=t["target"].double()), "targets torch.float32"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_opening_sees_what_is_cheap_to_see(name: str, tiny_corpus: Callable[..., Path]) -> None:
    folder, (how, expected) = tiny_corpus(), CHANGES[name]
    open_corpus(folder)
    change(folder, how)
    with pytest.raises(Refusal, match=expected):
        open_corpus(folder)


def in_the_middle(folder: Path, value: float) -> None:
    """Where opening does not look, in a corpus that is large enough to have such a place."""
    change(folder, lambda tensors: tensors["text.values"].view(-1).__setitem__(30_000, value))


@pytest.fixture
def large(tiny_corpus: Callable[..., Path]) -> Path:
    folder = tiny_corpus(samples=2400, alignment="aligned")
    assert open_corpus(folder).tensors["text.values"].numel() > 60_000
    return folder


@pytest.mark.parametrize("value", [7.0, torch.nan])
def test_verify_reads_everything(value: float, large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", str(large)]) == 0
    assert "2400 samples, as its card says" in capsys.readouterr().out
    in_the_middle(large, value)
    open_corpus(large)
    assert main(["data", "verify", str(large)]) == 2
    assert "tensors.safetensors: expected the SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["fewer", "an id twice", "no ids"])
def test_the_table_of_samples_is_looked_at(how: str, tiny_corpus: Callable[..., Path]) -> None:
    folder = tiny_corpus()
    table = pd.read_parquet(folder / "samples.parquet")
    changed = {
        "fewer": table.iloc[1:],
        "an id twice": table.assign(id=["x", *table["id"].iloc[:-1].where(table["id"] != table["id"].iloc[5], "x")]),
        "no ids": table.drop(columns="id"),
    }[how]
    changed.to_parquet(folder / "samples.parquet", index=False)
    assert main(["data", "verify", str(folder)]) == 2


def test_a_study_verifies_each_corpus_once_before_its_first_job(large: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{corpus: {large}}}\n")
    jobs = [
        Job(tmp_path / "1", ("--config", str(config))),
        Job(tmp_path / "2", ("--config", str(config), "--data.synthetic", "true")),
        Job(tmp_path / "3", (f"--data.corpus={large}",)),
        Job(tmp_path / "4", ("--data.corpus", "nowhere")),
    ]
    assert [corpus_of(job) for job in jobs] == [large, None, large, None]
    assert list(verified(jobs)) == jobs
    in_the_middle(large, 7.0)
    assert list(verified([jobs[1], jobs[3]])) == [jobs[1], jobs[3]]
    with pytest.raises(Refusal, match="SHA-256"):
        next(iter(verified(jobs)))
