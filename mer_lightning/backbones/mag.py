"""Multimodal Adaptation Gate inside BERT: audio and vision shift the words between two of its layers.

With a word t and the audio a and vision v of the same step,

    g_m = ReLU(G_m [m; t] + b_m)                   how much of m this word wants
    h = g_a * (W_a a + c_a) + g_v * (W_v v + c_v)  the shift
    alpha = min(beta |t| / |h|, 1)                 which never outweighs the word
    t' = dropout(norm(t + alpha h))

and t' goes through the remaining layers. The paper has the gate after the embeddings in BERT (``gate_after`` 0).

Shapes: B batch, T word pieces, D width of audio or vision, d width of BERT.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.encoders.base import refuse_other_text
from mer_lightning.encoders.hugging_face import attended, freeze, pretrained, token_ids
from mer_lightning.errors import Refusal
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import masked_mean
from mer_lightning.modalities import MODALITIES

_TINY = 1e-6  # keeps the division by |h| finite where nothing shifts
_FAMILIES = ("bert", "roberta")  # a summary of the sentence, and layers that take a mask alone


class MAG(Backbone):
    """BERT, whose words audio and vision shift. Where text is absent, a learned word stands at every step.

    Args:
        dims: width of each modality's features; text is token ids, of width 1.
        path: folder with a BERT or RoBERTa, or its name on the Hugging Face hub.
        frozen_layers: 0 trains everything, n > 0 freezes the embeddings and the first n layers, -1 all of BERT.
        gate_after: how many layers stand before the gate.
        beta: how large the shift may be, relative to the word.
        dropout: on the shifted words.
    """

    aligned_only = True
    needs_tokens = True
    paper = "Rahman et al., ACL 2020"

    def __init__(
        self,
        dims: dict[str, int],
        path: str,
        frozen_layers: int = 0,
        gate_after: int = 0,
        beta: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        refuse_other_text("mag, which holds its own text encoder", dims)
        self.bert = pretrained(path)
        family, layers, width = self.bert.config.model_type, len(self.bert.encoder.layer), self.bert.config.hidden_size
        if family not in _FAMILIES:
            raise Refusal(path, f"one of {', '.join(_FAMILIES)}", family, "use it as text_encoder of another backbone")
        self.bert.set_attn_implementation("sdpa")  # which takes a mask of bools
        if not 0 <= gate_after <= layers:
            raise Refusal("gate_after", f"0 to {layers}", str(gate_after), f"{path} has {layers} layers")
        self.frozen = freeze(self.bert, frozen_layers, path)
        self.gate_after, self.beta = gate_after, beta
        self.state_width = width
        self.vocabulary = self.bert.config.vocab_size
        self.vector_widths = dict.fromkeys(dims, width)
        others = {m: dim for m, dim in dims.items() if m != "text"}
        self.gates = nn.ModuleDict({m: nn.Linear(dim + width, width) for m, dim in others.items()})
        self.shifts = nn.ModuleDict({m: nn.Linear(dim, width) for m, dim in others.items()})
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(dropout)
        # It begins as the mean of all words: BERT was never trained on anything far from them.
        self.absent = nn.Parameter(self.bert.embeddings.word_embeddings.weight.detach().mean(0))
        layers_before = [f"bert.encoder.layer.{number}" for number in range(gate_after)]
        self.encoder_parts = ("bert.embeddings", *layers_before, "shifts")
        self.train()

    def train(self, mode: bool = True) -> MAG:
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def encode(self, batch: Batch) -> Encoded:
        key_masks = {m: batch.key_mask(m) for m in ("text", *self.shifts)}
        words = self.bert.embeddings(token_ids(batch.features["text"], self.bert))
        words = self._through(slice(0, self.gate_after), words, key_masks["text"])
        sequences = {m: batch.features[m].where(key_masks[m].unsqueeze(2), 0.0) for m in self.shifts}
        vectors = {m: self.shifts[m](masked_mean(sequence, key_masks[m])) for m, sequence in sequences.items()}
        return Encoded(
            {"text": masked_mean(words, key_masks["text"]), **vectors}, {"text": words, **sequences}, key_masks
        )

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        given = {m: key_mask & present[:, MODALITIES.index(m), None] for m, key_mask in encoded.key_masks.items()}
        key_mask = torch.stack(torch.broadcast_tensors(*given.values())).any(0)
        words = encoded.sequences["text"]
        words = words.where(given["text"].unsqueeze(2), self._absent_words(key_mask).to(words.dtype))
        shifted = self.gated(words, {m: encoded.sequences[m] for m in self.shifts}, given)
        return self.bert.pooler(self._through(slice(self.gate_after, None), shifted, key_mask))

    def gated(self, words: Tensor, sequences: dict[str, Tensor], given: dict[str, Tensor]) -> Tensor:
        """(B, T, d) the words after the gate; only steps that are ``given`` (B, T) shift them."""
        shift = torch.zeros_like(words)
        for m, sequence in sequences.items():
            seen = given[m].unsqueeze(2)
            # Before any arithmetic, so that not even a gradient depends on what is absent.
            sequence = sequence.where(seen, 0.0).expand(-1, words.shape[1], -1)
            gate = self.gates[m](torch.cat([sequence, words], dim=2)).relu()
            shift = shift + (gate * self.shifts[m](sequence)).where(seen, 0.0)
        longest = self.beta * words.norm(dim=2, keepdim=True) / (shift.norm(dim=2, keepdim=True) + _TINY)
        return self.dropout(self.norm(words + longest.clamp(max=1.0) * shift))

    def _absent_words(self, key_mask: Tensor) -> Tensor:
        """(1, T, d) the learned word, embedded with its positions as any other."""
        return self.bert.embeddings(inputs_embeds=self.absent.expand(1, key_mask.shape[1], -1))

    def _through(self, layers: slice, words: Tensor, key_mask: Tensor) -> Tensor:
        mask = attended(key_mask)[:, None, None, :]
        for layer in self.bert.encoder.layer[layers]:
            words = layer(words, mask)
        return words
