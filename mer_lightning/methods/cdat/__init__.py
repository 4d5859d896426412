"""CDaT: cross-modal dynamic transfer, with its losses, its confidence network and what it logs."""

from mer_lightning.methods.cdat.method import CDaT

__all__ = ["CDaT"]
