"""Pretrained text encoders of the package transformers: BERT, RoBERTa, DeBERTa and their like.

transformers is an optional extra, imported only when such an encoder is built. Weights are read from safetensors
files alone: the older format is a pickle.

Shapes: B batch, T word pieces, d width of the encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mer_lightning.encoders.base import TextEncoder
from mer_lightning.errors import Refusal


class HuggingFace(TextEncoder):
    """A pretrained encoder, fine-tuned with a learning rate of its own.

    Args:
        path: folder with config.json and model.safetensors, or a name on the Hugging Face hub.
        frozen_layers: 0 trains everything, n > 0 freezes the embeddings and the first n layers, -1 everything.
        lr: its learning rate at the top of the schedule.
    """

    def __init__(self, path: str, frozen_layers: int = 0, lr: float = 2e-5) -> None:
        super().__init__()
        self.lr = lr
        self.model = pretrained(path)
        # Nothing reads its summary of a sentence, and DDP wants every parameter to be used.
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        self.frozen = freeze(self.model, frozen_layers, path)
        self.vocabulary: int = self.model.config.vocab_size
        self.width: int = self.model.config.hidden_size
        self.train()

    def forward(self, features: Tensor, key_mask: Tensor) -> Tensor:
        words = self.model(input_ids=token_ids(features, self.model), attention_mask=attended(key_mask).long())
        return words.last_hidden_state.where(key_mask.unsqueeze(2), 0.0)

    def train(self, mode: bool = True) -> HuggingFace:
        super().train(mode)
        for part in self.frozen:
            part.eval()  # its dropout would only add noise to what cannot learn from it
        return self


def pretrained(path: str) -> Any:
    """The encoder without any head, in float32."""
    try:
        import transformers
    except ImportError as error:
        remedy = "pip install 'mer-lightning[text]'"
        raise Refusal("text encoder", "the package transformers", "none", remedy) from error

    is_folder = Path(path).is_dir()
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()  # it lists the heads that the file has beyond what is asked for
    if is_folder:
        transformers.logging.disable_progress_bar()
    try:
        model, report = transformers.AutoModel.from_pretrained(
            path,
            local_files_only=is_folder,
            use_safetensors=True,
            trust_remote_code=False,  # else a folder with code of its own makes transformers ask whether to run it
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        expected = "a folder with config.json and model.safetensors, or a name on the Hugging Face hub"
        raise Refusal(path, expected, f"{type(error).__name__}: {error}", "check the path") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
    if not hasattr(model, "embeddings") or not hasattr(getattr(model, "encoder", None), "layer"):
        expected = "an encoder built like BERT: embeddings and a stack of layers"
        raise Refusal(path, expected, model.config.model_type, "use a BERT, RoBERTa or DeBERTa")
    # The pooler is not part of every pretraining, and it is small; layers drawn at random would ruin the rest.
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        found = f"none for {len(missing)} of its parameters, the first {missing[0]}"
        raise Refusal(path, "weights for the whole encoder", found, "check how the folder was made")
    return model


def freeze(model: Any, layers: int, path: str) -> list[nn.Module]:
    """Freeze the embeddings and the first ``layers`` layers, or everything for -1; the frozen modules."""
    deepest = len(model.encoder.layer)
    if not -1 <= layers <= deepest:
        raise Refusal("frozen_layers", f"-1 to {deepest}, as {path} has {deepest} layers", str(layers), "choose fewer")
    if layers == 0:
        return []
    frozen: list[nn.Module] = [model]
    if layers > 0:
        # What stands beside the layers feeds all of them (DeBERTa's relative positions): it freezes with the first.
        beside = [part for name, part in model.encoder.named_children() if name != "layer"]
        frozen = [model.embeddings, *model.encoder.layer[:layers], *beside]
    for part in frozen:
        part.requires_grad_(False)
    return frozen


def token_ids(features: Tensor, model: Any) -> Tensor:
    """(B, T) whole numbers inside the vocabulary, from (B, T, 1)."""
    if features.shape[2] != 1 or features.dtype not in (torch.float32, torch.float64):
        expected = "token ids: features of width 1 in float32, which holds them exactly"
        found = f"width {features.shape[2]} in {str(features.dtype).removeprefix('torch.')}"
        remedy = "import the corpus with --features text=tokens, and train with 32-true, 16-mixed or bf16-mixed"
        raise Refusal("text", expected, found, remedy)
    steps = longest(model)
    if steps is not None and features.shape[1] > steps:
        remedy = "cut the texts, or use another encoder"
        raise Refusal("text", f"at most {steps} word pieces", str(features.shape[1]), remedy)
    # Padding and absent texts may hold anything, and an id outside of the vocabulary would stop an accelerator.
    return features.squeeze(2).nan_to_num().clamp(0, model.config.vocab_size - 1).long()


def longest(model: Any) -> int | None:
    """How many positions the encoder has; None where they are relative only."""
    table = getattr(model.embeddings, "position_embeddings", None)
    if table is None:
        return None
    # RoBERTa counts its positions from the one after the padding's.
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def attended(key_mask: Tensor) -> Tensor:
    """``key_mask`` with the first step of a sample that has none: attention over nothing is undefined."""
    first = torch.arange(key_mask.shape[1], device=key_mask.device) == 0
    return key_mask | (first & ~key_mask.any(1, keepdim=True))
