"""`python -m benchmarks gpu`: samples per second of training on a GPU, beside MMSA's loop and the limit of its memory.

Every measuring function takes the device, and tests/gpu/test_benchmark.py runs them on the CPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import yaml

from benchmarks.peers import MULT, PEERS, Peer, mmsa_is_here, our_epochs, their_epochs
from benchmarks.training import DIMS, adam, made_batch, step_of, weighted
from mer_lightning.backbones.base import all_backbones
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.optimizing import with_fused_kernels
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression

COPIED = 2**30  # bytes, far more than any cache holds
# Of a trained weight a step of Adam reads the value forwards, backwards and for its change, the gradient and two
# moments, and writes the gradient, the moments and the value.
READ_AND_WRITTEN = 10
# {name: mode of torch.compile}; "reduce-overhead" replays a step as a CUDA graph.
WAYS: dict[str, str | None] = {"eager": None, "torch.compile": "default", "CUDA graphs": "reduce-overhead"}


@dataclass(frozen=True)
class Speed:
    """Samples per second of one model, in epochs or in steps."""

    model: str
    what: str
    samples_per_second: float


def seconds_of(call: Callable[[], object], device: torch.device, rounds: int = 30, warm_up: int = 5) -> float:
    """The median over rounds, each from an idle device to an idle device."""
    seconds = []
    for _ in range(warm_up + rounds):
        wait_for(device)
        began = time.perf_counter()
        call()
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[warm_up:])


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device, size: int = COPIED) -> float:
    """Bytes per second that the memory gives and takes together, in a copy of ``size`` bytes."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device, rounds=10, warm_up=2)


def least_traffic(method: MERMethod, batch: Batch) -> int:
    """Bytes that a step moves at least: features once, and what Adam does with every weight that is trained."""
    features = sum(values.nbytes for values in batch.features.values())
    weights = sum(parameter.nbytes for parameter in method.parameters() if parameter.requires_grad)
    return features + READ_AND_WRITTEN * weights


def method_of(peer: Peer, device: torch.device) -> MERMethod:
    given = dict(option.split("=") for option in MULT) if peer.backbone == "mult" else {}
    backbone = partial(all_backbones()[peer.backbone], **{name: yaml.safe_load(value) for name, value in given.items()})
    method = Supervised(DIMS, Regression().card(), backbone).to(device)
    method.enter(method.phases()[0])
    return method


def steps_of(peer: Peer, device: torch.device, ways: dict[str, str | None], fastest: float) -> Iterator[Speed]:
    """Training steps on a batch that stays on the device; ``fastest`` is the bandwidth of its memory."""
    batch = made_batch(peer.batch).to(device)
    for name, mode in ways.items():
        method = method_of(peer, device)
        losses = partial(weighted, method, batch)
        if mode is not None:
            losses = torch.compile(losses, mode=mode)
        seconds = seconds_of(step_of(with_fused_kernels(adam(method)), losses), device)
        yield Speed(peer.name, f"our step, {name}", peer.batch / seconds)
    yield Speed(peer.name, "what memory allows a step", peer.batch * fastest / least_traffic(method, batch))


def epochs_of(peer: Peer, device: torch.device, folder: Path) -> Iterator[Speed]:
    """Whole epochs: training on all samples, validation on a sixth of them, and a checkpoint."""
    loops = {"our epoch": our_epochs(peer, folder, "mmsa", "--trainer.accelerator", device.type)}
    if mmsa_is_here():
        loops = {"MMSA's epoch": their_epochs(peer, folder, device.type)} | loops
    for name, started in loops.items():
        with started as epoch:
            epoch()  # the first one compiles, allocates and reads the file
            seconds = statistics.median(epoch()[0] for _ in range(peer.rounds))
        yield Speed(peer.name, name, peer.samples / seconds)


def speeds(
    peers: Iterable[Peer], device: torch.device, ways: dict[str, str | None] = WAYS, copied: int = COPIED
) -> Iterator[Speed]:
    fastest = bandwidth(device, copied)
    with tempfile.TemporaryDirectory() as place:
        for peer in peers:
            yield from epochs_of(peer, device, Path(place, f"{peer.alignment}-{peer.samples}-full"))
            yield from steps_of(peer, device, ways, fastest)


def main() -> int:
    if not torch.cuda.is_available():
        refusal = Refusal(
            "python -m benchmarks gpu", "a GPU that torch can use", "none", "run it on a machine with one"
        )
        print(refusal, file=sys.stderr)
        return 2
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}; every sample of full length\n")
    print("| model | what | samples per second |\n|---|---|---:|")
    for speed in speeds([peer for peer in PEERS if peer.alignment == "aligned"], device):
        print(f"| {speed.model} | {speed.what} | {speed.samples_per_second:.0f} |", flush=True)
    return 0
