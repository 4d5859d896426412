"""MCUR: contrast over combinations and categories, with its memory and its uncertainty weights."""

from mer_lightning.methods.mcur.method import MCUR

__all__ = ["MCUR"]
