"""`python -m benchmarks gpu`, measured on the CPU: no number of it is published from there."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.peers import PEERS, mmsa_is_here
from benchmarks.training import made_batch

CPU = torch.device("cpu")
LMF = replace(next(peer for peer in PEERS if peer.backbone == "lmf"), batch=4, samples=12, rounds=1)


def test_seconds_are_those_of_one_call() -> None:
    assert 0.005 < gpu.seconds_of(lambda: time.sleep(0.005), CPU, rounds=3, warm_up=1) < 0.1


def test_a_copy_has_a_bandwidth() -> None:
    assert 1e6 < gpu.bandwidth(CPU, 2**24) < 1e13


def test_the_least_traffic_is_features_and_ten_numbers_for_each_weight() -> None:
    method, batch = gpu.method_of(LMF, CPU), made_batch(4)
    next(method.parameters()).requires_grad_(False)
    trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    assert gpu.least_traffic(method, batch) == 4 * 50 * (768 + 5 + 20) * 4 + 10 * 4 * trained


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.alignment == "aligned"], ids=lambda peer: peer.name)
def test_steps_of_every_model(peer: gpu.Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "seconds_of", lambda call, device: call() or 0.5)  # one step of two samples
    eager, limit = gpu.steps_of(replace(peer, batch=2), CPU, {"eager": None}, fastest=1e9)
    assert (eager.what, eager.samples_per_second) == ("our step, eager", 4.0)
    assert limit.samples_per_second == pytest.approx(2e9 / gpu.least_traffic(gpu.method_of(peer, CPU), made_batch(2)))


@pytest.mark.slow
def test_all_rows_of_one_model(tmp_path: Path) -> None:
    rows = [speed.what for speed in gpu.speeds([LMF], CPU, copied=2**24)]
    steps = ["our step, eager", "our step, torch.compile", "our step, CUDA graphs", "what memory allows a step"]
    assert rows == [*(["MMSA's epoch"] if mmsa_is_here() else []), "our epoch", *steps]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
