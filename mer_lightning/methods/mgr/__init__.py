"""MGR: modality-guided refinement, with its losses, its codes and its probe."""

from mer_lightning.methods.mgr.method import MGR

__all__ = ["MGR"]
