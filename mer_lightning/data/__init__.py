"""Corpora: importing them, opening them, and batches of them.

In Python, `mer_lightning.data(...)` is the way to open one, and `mer_lightning.data` is this folder, too. So the folder
can be called; :func:`mer_lightning.data.in_python.data` says with what.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from mer_lightning.data.in_python import data

        return data(*args, **options)


sys.modules[__name__].__class__ = _Callable
