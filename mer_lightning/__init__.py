"""mer_lightning: honest, fast, repeatable experiments in multimodal emotion recognition.

    import mer_lightning as mer

    data = mer.data("mosi", synthetic=True)
    model = mer.method("cdat", data, backbone="tfn")
    run = mer.fit(model, data, max_epochs=5)
    run.test("fixed-7")

Everything is imported when it is first used: `import mer_lightning` itself takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mer_lightning.api.making import fit as fit
    from mer_lightning.api.making import load as load
    from mer_lightning.api.making import method as method
    from mer_lightning.api.run import Results as Results
    from mer_lightning.api.run import Run as Run
    from mer_lightning.backbones.base import Backbone as Backbone
    from mer_lightning.backbones.base import Encoded as Encoded
    from mer_lightning.batch import Batch as Batch
    from mer_lightning.data.datamodule import MERData as MERData
    from mer_lightning.data.in_python import data as data
    from mer_lightning.errors import Diverged as Diverged
    from mer_lightning.errors import Refusal as Refusal
    from mer_lightning.masks.training import TrainingMasks as TrainingMasks
    from mer_lightning.methods.base import MERMethod as MERMethod
    from mer_lightning.methods.phase import Phase as Phase

__version__ = "0.1.0"

_WHERE = {
    "Backbone": "backbones.base",
    "Batch": "batch",
    "Diverged": "errors",
    "Encoded": "backbones.base",
    "MERData": "data.datamodule",
    "MERMethod": "methods.base",
    "Phase": "methods.phase",
    "Refusal": "errors",
    "Results": "api.run",
    "Run": "api.run",
    "TrainingMasks": "masks.training",
    "fit": "api.making",
    "load": "api.making",
    "method": "api.making",
}
__all__ = [*_WHERE, "data"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    if name == "data":  # a folder that can be called
        return importlib.import_module(f"{__name__}.data")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
