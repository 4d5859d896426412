"""Pretrained text encoders small enough for a test, as folders on disk, and batches and corpora of token ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_lightning.batch import Batch
from mer_lightning.data.raw import PackedSequences, RawCorpus

VOCABULARY, WIDTH, LAYERS, POSITIONS = 60, 16, 3, 40


def tiny_encoder(folder: Path, family: str = "bert", **more: object) -> Path:
    """A random encoder of three layers, whose weights depend on the family alone."""
    transformers = pytest.importorskip("transformers")
    options = {"pos_att_type": ["p2c", "c2p"], "relative_attention": True} if family == "deberta-v2" else {}
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,  # not .02: what depends on what should show
        **options,
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def with_tokens(batch: Batch) -> Batch:
    """The same batch with token ids as its text, small enough to be doubled."""
    shape = batch.features["text"].shape[:2]
    ids = torch.randint(3, VOCABULARY // 2, shape, generator=torch.Generator().manual_seed(7)).float()
    ids = ids.where(batch.key_mask("text"), 0.0)
    return replace(batch, features=batch.features | {"text": ids.unsqueeze(2)})


def tokens_for_text(raw: RawCorpus) -> RawCorpus:
    """The same corpus with token ids as its text; the first word piece says the sign of the label."""
    lengths = raw.features["text"].lengths
    ids = np.random.default_rng(3).integers(10, VOCABULARY, (int(lengths.sum()), 1)).astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    ids[starts, 0] = np.where(raw.target > 0, 5, 6)
    text = {"text": PackedSequences(ids, lengths)}
    return replace(raw, features={**raw.features, **text}, feature_set=raw.feature_set | {"text": "tokens tiny"})
