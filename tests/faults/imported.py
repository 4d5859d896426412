"""What commands import on their way; `forking.py` forks from a process that has it."""

import importlib

import optuna

from mer_lightning.backbones.base import all_backbones
from mer_lightning.methods.base import all_methods

for name in ("h5py", "pandas", "pyarrow.parquet", "rich.live", "tests.faults.suite"):
    importlib.import_module(name)
for name in ("commands.ablate", "commands.fit", "commands.reproduce", "commands.sweep", "studies.comparing"):
    importlib.import_module(f"mer_lightning.{name}")
for name in ("studies.pool", "studies.pooled_folds", "studies.report.of_studies", "training.starting"):
    importlib.import_module(f"mer_lightning.{name}")
importlib.import_module("mer_lightning.training.lightning_cli")
all_backbones()
all_methods()
optuna.storages.RDBStorage("sqlite://")  # imports what the storage of a sweep needs
