"""Settings of the process before a run starts: fast matrix products, and freed memory that is kept for reuse."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

_PRECISE = 1e-5  # relative to the largest entry; float32 has 1e-6 here, and bfloat16 1e-3
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of malloc.h
# oneDNN keeps up to 1024 compiled programs, and torch as many beside it, one for each shape of a product. With
# sequences of varying length most shapes never come again, and their programs fill a gigabyte. Packed recurrences need
# about two hundred programs: one for each number of samples in a step.
_PROGRAMS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "64"}


def make_ready() -> None:
    quick_products()
    keep_memory()


def quick_products() -> None:
    """Lets oneDNN multiply float32 matrices on a CPU, where it is as precise as before.

    torch leaves float32 products to MKL, which on processors of AMD uses half of the vector width. "medium" hands them
    to oneDNN, and would allow it bfloat16 where a processor has it in its matrix units: there it is taken back.
    """
    if torch.cuda.is_available() or torch.get_float32_matmul_precision() != "highest":
        return
    for name, number in _PROGRAMS.items():
        os.environ.setdefault(name, number)
    torch.set_float32_matmul_precision("medium")
    if not _precise():
        torch.set_float32_matmul_precision("highest")


def _precise() -> bool:
    draw = torch.Generator().manual_seed(0)
    for shape in ((256, 256), (4, 64, 64)):
        left, right = (torch.randn(shape, generator=draw) for _ in range(2))
        for first in (left, left.mT):
            exact = first.double() @ right.double()
            if not (first @ right - exact).abs().max() <= _PRECISE * exact.abs().max():
                return False
    return True


def keep_memory() -> None:
    """Keeps freed memory for the next step: glibc gives large pieces back, and each step pays for them again."""
    asked = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or asked:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_MAX, 0)
