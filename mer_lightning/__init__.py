"""mer_lightning: honest, fast, repeatable experiments in multimodal emotion recognition."""

__version__ = "0.1.0"
