"""The contract of a text encoder: from the ids of word pieces to one vector per word piece, before any backbone.

A corpus may carry token ids as its text: features of width 1, one step per word piece (float32 holds ids exactly).

Shapes: B batch, T word pieces, d width of the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from mer_lightning.discovery import classes_by_file
from mer_lightning.errors import Refusal
from mer_lightning.made_with import MadeWith

TOKENS = "tokens"  # how the name of a feature set of token ids begins
TOKEN_WIDTH = 1  # of such text features


class TextEncoder(MadeWith, nn.Module, ABC):
    """A subclass sets these three in its constructor."""

    vocabulary: int  # how many ids there are
    width: int  # d, what the backbone sees as the width of text
    lr: float  # learning rate of its own parameters

    @abstractmethod
    def forward(self, features: Tensor, key_mask: Tensor) -> Tensor:
        """(B, T, d) from ids (B, T, 1), right-padded, and key_mask (B, T) bool; zero at padding.

        What stands at padding, and in a sample without text, may be anything, NaN included.
        """


def refuse_other_text(who: str, dims: dict[str, int]) -> None:
    """Text must be there, and as wide as token ids are."""
    if dims.get("text") != TOKEN_WIDTH:
        found = f"text features {dims['text']} wide" if "text" in dims else "no text"
        raise Refusal(who, "token ids as text", found, "import the corpus with --features text=tokens")


def refuse_other_than_ids(where: str, values: Tensor, vocabulary: int) -> None:
    """(n, 1) text features of some word pieces must be ids that the encoder knows."""
    wrong = (values != values.round()) | (values < 0) | (values >= vocabulary)
    if wrong.any():
        remedy = "name the encoder whose tokenizer made the ids"
        raise Refusal(where, f"token ids from 0 to {vocabulary - 1}", f"{float(values[wrong][0]):g}", remedy)


TextEncoderFactory = Callable[[], TextEncoder]


def all_text_encoders() -> dict[str, type[TextEncoder]]:
    """{name: class} of every text encoder in this folder; the name is the name of its file."""
    return classes_by_file("mer_lightning.encoders", TextEncoder)
