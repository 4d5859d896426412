"""The models of the PyPI package MMSA 2.2.1, one at a time, where it is installed.

Importing the whole package drags in what it needs to train (and fails on a machine without a GPU), so only the module
of one model is imported: its parent packages stand empty, and the text encoder that its helpers import is a stub.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from pathlib import Path
from typing import Any

import pytest


def mmsa_class(module: str, name: str) -> Any:
    """E.g. ``mmsa_class("models.singleTask.TFN", "TFN")``; skips the test where MMSA is not installed."""
    try:
        distribution = importlib.metadata.distribution("MMSA")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("MMSA is not installed: pip install --no-deps MMSA==2.2.1")
    root = Path(str(distribution.locate_file("MMSA")))
    for package in ("", ".models", ".models.singleTask", ".models.subNets"):
        stand_in = types.ModuleType(f"MMSA{package}")
        stand_in.__path__ = [str(root / package[1:].replace(".", "/"))]
        sys.modules.setdefault(f"MMSA{package}", stand_in)
    networks = importlib.import_module("MMSA.models.subNets.FeatureNets")
    helpers: Any = sys.modules["MMSA.models.subNets"]
    helpers.SubNet, helpers.TextSubNet = networks.SubNet, networks.TextSubNet
    helpers.BertTextEncoder = helpers.AlignSubNet = None
    return getattr(importlib.import_module(f"MMSA.{module}"), name)
