"""Quick products are as precise as before, or not taken; what a person set stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from mer_lightning.training import machine


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_float32_stays_float32() -> None:
    machine.quick_products()
    draw = torch.Generator().manual_seed(1)
    for rows, inner, columns in ((1, 7, 3), (50, 768, 129), (300, 64, 300)):
        left, right = torch.randn(rows, inner, generator=draw), torch.randn(inner, columns, generator=draw)
        exact = left.double() @ right.double()
        assert (left @ right - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has its own rules")
def test_what_is_less_precise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.quick_products()
    taken = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")

    def rounded(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float32:
            left, right = left.bfloat16().float(), right.bfloat16().float()
        return torch.matmul(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    machine.quick_products()
    assert torch.get_float32_matmul_precision() == "highest"
    assert taken in ("medium", "highest")


def test_a_choice_of_the_user_stays() -> None:
    torch.set_float32_matmul_precision("high")
    machine.quick_products()
    assert torch.get_float32_matmul_precision() == "high"


def _printed(code: str, how: str) -> str:
    """What a new process prints, which inherits nothing that this one's tests have set."""
    env = {name: value for name, value in os.environ.items() if name not in machine._PROGRAMS}
    command = [sys.executable, "-c", code, how]
    return subprocess.run(command, capture_output=True, check=True, timeout=120, env=env, text=True).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_memory_is_kept() -> None:
    code = (
        "import resource, statistics, sys, torch\n"
        "from mer_lightning.training.machine import keep_memory\n"
        "if sys.argv[1] == 'kept': keep_memory()\n"
        "def step(): return float(torch.ones(20_000_000).sum())\n"
        "for _ in range(10): step()  # the heap finds its size\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def of_a_step(): before = faults(); step(); return faults() - before\n"
        "print(int(statistics.median(of_a_step() for _ in range(20))))  # a heap may still grow once or twice\n"
    )
    faults = {how: int(_printed(code, how)) for how in ("kept", "given back")}
    assert faults["kept"] < 200 < faults["given back"], faults


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has its own rules")
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.slow
def test_programs_for_shapes_that_do_not_return_are_not_kept() -> None:
    code = (
        "import sys, torch\n"
        "from mer_lightning.training import machine\n"
        "if sys.argv[1] == 'all': machine._PROGRAMS.clear()\n"
        "machine.quick_products()\n"
        "shapes = 1 if sys.argv[1] == 'none' else 1500\n"
        "for n in range(shapes): torch.ones(1 + n, 32) @ torch.ones(32, 32)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))\n"
    )
    none, few, every = (int(_printed(code, how)) for how in ("none", "few", "all"))  # KiB
    if every - none < 50_000:
        pytest.skip("something else than oneDNN multiplies here")
    assert few - none < (every - none) / 2
