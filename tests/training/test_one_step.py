"""One training step of two processes is that of one process on both of their batches, for every method and phase."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mer_lightning.backbones.early import Early
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.store import write_corpus
from mer_lightning.layers.dropout import Dropout
from mer_lightning.masks.training import UniformCombinations
from mer_lightning.methods.base import MERMethod, all_methods
from mer_lightning.training.processes import processes_of_one_run
from tests.conftest import make_raw

pytestmark = pytest.mark.slow

SAMPLES = 16  # of the step, on one process or on two
# A case is (method, options that are not its defaults). Every method is there with its defaults, too.
MORE: list[tuple[str, dict[str, Any]]] = [
    ("cdat", {"confidence_targets": "out_of_fold", "confidence_on_masked": True}),
    ("cdat", {"preset": "cdat_r1"}),
    ("cdat", {"preset": "ce"}),
    ("cdat", {"weighting": "noise_level", "confidence_from": "frozen"}),
    ("mcur", {"views": 1}),
    ("mcur", {"views": 7, "consistency_weight": 1.0, "unimodal_weight": 1.0}),
    ("mcur", {"views": 2, "estimator": "predictive", "direction": "emphasize", "consistency_weight": 1.0}),
    ("mcur", {"views": 7, "estimator": "bank", "memory": 64}),
    ("mcur", {"estimator": "none", "mode": "graded", "bins": 7}),
]
CONTROL = "mcur fit gather=False"
CASES = [(name, {}) for name in all_methods()] + MORE + [("mcur", {"gather": False})]
ALWAYS: dict[str, dict[str, Any]] = {"mcur": {"warm_up": 0.0}}  # its weights act from the first step


def method_of(name: str, options: dict[str, Any], data: MERData) -> MERMethod:
    """Without dropout, which differs between processes, and away from its start, where some parts do nothing yet."""
    torch.manual_seed(1)
    method: MERMethod = all_methods()[name](
        dims=data.dims,
        task_card=data.task_card,
        backbone=partial(Early, width=8),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01),
        **ALWAYS.get(name, {}),
        **options,
    )
    for module in method.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return method


def steps_of_all_phases(corpus: Path, processes: int) -> dict[str, dict[str, Tensor]]:
    """{case and phase: weights and buffers after one step}."""
    found = {}
    for name, options in CASES:
        data = MERData(str(corpus), batch_size=SAMPLES // processes, masks=UniformCombinations())
        for number in range(len(method_of(name, options, data).phases())):
            method = method_of(name, options, data)
            # Adam makes steps of one length also from gradients that are rounding errors.
            phase = replace(method.phases()[number], optimizer=None)
            method.enter(phase)
            trainer = Trainer(
                max_steps=1,
                accelerator="cpu",
                devices=processes,
                strategy="auto" if processes == 1 else "ddp",
                use_distributed_sampler=False,
                limit_val_batches=0,
                **dict.fromkeys(
                    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
                ),
            )
            trainer.fit(method, datamodule=data)
            key = " ".join([name, phase.name, *(f"{option}={value}" for option, value in options.items())])
            found[key] = {name: value.detach().clone() for name, value in method.state_dict().items()}
    return found


def as_rank(rank: int, port: int, corpus: Path) -> dict[str, dict[str, Tensor]]:
    """What torchrun tells its processes; the first one is this process."""
    with processes_of_one_run():
        os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return steps_of_all_phases(corpus, processes=2)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The steps of one process, and of two."""
    folder = tmp_path_factory.mktemp("one-step")
    write_corpus(make_raw(samples=66), folder / "corpus", "tiny")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    other = multiprocessing.get_context("spawn").Process(target=as_rank, args=(1, port, folder / "corpus"), daemon=True)
    other.start()
    alone = steps_of_all_phases(folder / "corpus", processes=1)
    two = as_rank(0, port, folder / "corpus")
    other.join(60)
    assert other.exitcode == 0
    return alone, two


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """What remembers rows keeps the same ones in another order, and is left out."""
    names = [name for name in first if not name.startswith(("memory.", "referee.bank", "referee.filled"))]
    return max(float((first[name].double() - second[name].double()).abs().nan_to_num().max()) for name in names)


def test_every_phase_of_every_method_was_there(both) -> None:
    alone, two = both
    assert alone.keys() == two.keys()
    assert {key.split()[0] for key in alone} == set(all_methods())
    assert {"cdat fusion", "cdat confidence", "cdat transfer", CONTROL} <= alone.keys()


def test_one_step_of_two_processes_is_that_of_one(both) -> None:
    alone, two = both
    distances = {case: furthest(alone[case], two[case]) for case in alone if case != CONTROL}
    assert {case: distance for case, distance in distances.items() if not distance <= 1e-6} == {}


def test_samples_that_are_compared_in_one_process_alone_make_another_step(both) -> None:
    alone, two = both
    assert furthest(alone[CONTROL], two[CONTROL]) > 1e-5
