"""Calling a method's class in Python: `CDaT(data=data, backbone="tfn")`, with names or objects as options."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Mapping
from typing import Any

from mer_lightning.discovery import import_path
from mer_lightning.made_with import MadeWith, plain


class CalledInPython(ABCMeta):
    """A class whose call takes what a configuration would say, beside what its constructor takes.

    With ``data``, the widths of the features and the task come from there. A parser that has turned names into
    factories, and a subclass that calls its base, reach the constructor as ever.
    """

    def __call__(cls, *args: Any, data: Any = None, **options: Any) -> Any:
        if data is None and not isinstance(options.get("backbone"), str | Mapping | MadeWith):
            return super().__call__(*args, **options)
        from mer_lightning.methods.building import build_method

        known = {} if data is None else {"dims": data.dims, "task_card": data.task_card}
        return build_method(import_path(cls), {**known, **{name: plain(value) for name, value in options.items()}})
