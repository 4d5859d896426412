"""The preset `official` of MulT, BBFN, ALMT and TAILOR against slow forward passes written from their descriptions.

One sample at a time, one head at a time, with the weights of the backbone; every weight is random, those of norms too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.almt import ALMT
from mer_lightning.backbones.base import Backbone
from mer_lightning.backbones.bbfn import BBFN
from mer_lightning.backbones.mult import MulT, released_positions
from mer_lightning.backbones.tailor import TAILOR
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES


def randomised(backbone: Backbone) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
    return backbone.double().eval()


def made_batch(alignment: str) -> Batch:
    batch = make_batch(alignment)
    return replace(batch, features={m: values.double() for m, values in batch.features.items()})


def state(backbone: Backbone, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


def attention(layer: Any, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """(T, d) of queries (T, d), what keys and values are made of (S, d), and which keys each query sees (T, S)."""
    inner = layer.query.weight.shape[0]
    q = layer.query(queries)
    k, v = layer.key_value(keys)[:, :inner], layer.key_value(values)[:, inner:]
    heads = []
    for start in range(0, inner, inner // layer.heads):
        part = slice(start, start + inner // layer.heads)
        scores = q[:, part] @ k[:, part].T / math.sqrt(inner // layer.heads)
        heads.append(scores.masked_fill(~seen, -math.inf).softmax(1) @ v[:, part])
    return layer.out(torch.cat(heads, dim=1))


def every(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.ones(len(queries), len(keys), dtype=torch.bool)


def norm(layer: Any, steps: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Layer norm, with the epsilon of the description and not that of the module."""
    return F.layer_norm(steps, steps.shape[-1:], layer.weight, layer.bias, epsilon)


# --- MulT


def mult_positions(steps: Tensor) -> Tensor:
    """Positions count from 1, rates fall geometrically from 1 to 1/10000, a step whose first channel is 0 has none."""
    half = steps.shape[1] // 2
    positions = torch.zeros_like(steps)
    for t in range(len(steps)):
        for i in range(half):
            if steps[t, 0] != 0:
                angle = (t + 1) / 10000 ** (i / (half - 1))
                positions[t, i], positions[t, half + i] = math.sin(angle), math.cos(angle)
    return positions


def mult_stack(stack: Any, target: Tensor, source: Tensor) -> Tensor:
    tokens, memory = (steps * math.sqrt(steps.shape[1]) + mult_positions(steps) for steps in (target, source))
    offset = abs(len(memory) - len(tokens))
    seen = torch.tensor([[s <= t + offset for s in range(len(memory))] for t in range(len(tokens))])
    itself = target is source
    for layer in stack.layers:
        keys = norm(layer.norm_attention, tokens if itself else memory)
        tokens = tokens + attention(layer.attention, norm(layer.norm_attention, tokens), keys, keys, seen)
        tokens = tokens + layer.feed[3](layer.feed[0](norm(layer.norm_feed, tokens)).relu())
    return norm(stack.norm, tokens)


def mult_reference(backbone: Any, features: dict[str, Tensor]) -> Tensor:
    sequences = {}
    for m, steps in features.items():
        if steps.shape[1] == backbone.vector_widths[m]:
            sequences[m] = steps
        else:
            weight = backbone.project[m].weight
            width = weight.shape[2]
            windows = [steps[t : t + width] for t in range(len(steps) - width + 1)]
            sequences[m] = torch.stack([sum(weight[:, :, k] @ window[k] for k in range(width)) for window in windows])
    lasts = []
    for m in MODALITIES:
        streams = [mult_stack(backbone.streams[f"{m}_{n}"], sequences[m], sequences[n]) for n in MODALITIES if n != m]
        joined = torch.cat(streams, dim=1)
        lasts.append(mult_stack(backbone.memories[m], joined, joined)[-1])
    joined = torch.cat(lasts)
    return joined + backbone.residual[3](backbone.residual[0](joined).relu())


@pytest.mark.parametrize("width", [8, 12, 5], ids=["all projected", "text as it is", "audio as it is, odd width"])
@torch.no_grad()
def test_mult(width: int) -> None:
    heads = 1 if width == 5 else 2
    backbone = randomised(MulT(DIMS, width, 2, heads, [3, 1, 2], preset="official"))
    batch = made_batch("unaligned")
    expected = [mult_reference(backbone, {m: batch.features[m][b] for m in DIMS}) for b in range(len(batch))]
    torch.testing.assert_close(state(backbone, batch), torch.stack(expected), rtol=0, atol=1e-6)


@torch.no_grad()
def test_positions_of_mult_in_numbers() -> None:
    expected = [
        [0.8414710, 0.0463992, 0.0021544, 0.0001, 0.5403023, 0.9989230, 0.9999977, 1.0, 0.0],
        [0.9092974, 0.0926985, 0.0043089, 0.0002, -0.4161468, 0.9956942, 0.9999907, 1.0, 0.0],
    ]
    found = released_positions(2, 9, torch.zeros(()))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


# --- BBFN


def bbfn_code(code: Any, steps: Tensor, number: int) -> Tensor:
    if number == 0:
        return code.linear(steps.mean(0))
    width = steps.shape[1]
    gru = nn.GRU(width, width, batch_first=True, bidirectional=True).double()
    backwards = {f"{name}_reverse": weight for name, weight in code.recurrence.backwards.state_dict().items()}
    gru.load_state_dict(code.recurrence.forwards.state_dict() | backwards)
    return gru(steps.unsqueeze(0))[0][0].mean(0).view(2, width).mean(0)


def bbfn_reference(backbone: Any, features: dict[str, Tensor]) -> Tensor:
    steps = {m: F.conv1d(x.T[None], backbone.convolve[m].weight, padding=1)[0].T for m, x in features.items()}
    heads = []
    for m, pair in backbone.pairs.items():
        sides = [steps["text"], steps[m]]
        for number, layers in enumerate(pair.looks):
            codes = torch.cat([bbfn_code(pair.codes[number][n], sides[n], number) for n in (0, 1)])
            new = []
            for n, layer in enumerate(layers):
                query, memory = sides[n], norm(layer.norm_query, sides[1 - n])
                found = attention(layer.attention, norm(layer.norm_query, query), memory, memory, every(query, memory))
                mixed = layer.keep(codes).sigmoid() * query + layer.take(codes).sigmoid() * found
                new.append(mixed + layer.feed[3](layer.feed[0](norm(layer.norm_feed, mixed)).relu()))
            sides = new
        heads += [side[0] for side in sides]
    joined = torch.cat(heads)
    return joined + backbone.residual[2](backbone.residual[0](joined).relu())


@torch.no_grad()
def test_bbfn() -> None:
    backbone, batch = randomised(BBFN(DIMS, width=10, depth=3, preset="official")), made_batch("unaligned")
    expected = [
        bbfn_reference(backbone, {m: batch.features[m][b, : batch.lengths[m][b]] for m in DIMS})
        for b in range(len(batch))
    ]
    torch.testing.assert_close(state(backbone, batch), torch.stack(expected), rtol=0, atol=1e-6)


# --- ALMT


def almt_layer(layer: Any, query: Tensor, memory: Tensor) -> Tensor:
    keys, values = norm(layer.norm_memory, memory), norm(layer.norm_values, memory)
    query = query + attention(layer.attention, norm(layer.norm_query, query), keys, values, every(query, memory))
    return query + layer.feed[3](F.gelu(layer.feed[0](norm(layer.norm_feed, query))))


def almt_reference(backbone: Any, features: dict[str, Tensor]) -> Tensor:
    tokens = {}
    for m, reader in backbone.readers.items():
        together = torch.cat([reader.tokens, reader.project(features[m])])
        together = together + reader.positions.table[: len(together)]
        tokens[m] = almt_layer(reader.layer, together, together)[: len(reader.tokens)]
    text, hyper = tokens["text"] + backbone.places, backbone.hyper
    for number, gather in enumerate(backbone.gather):
        if number:
            text = almt_layer(backbone.language[number - 1], text, text)
        found = torch.zeros_like(hyper)
        heads, width = backbone.gather[0].heads, hyper.shape[1]
        queries = gather.query(norm(gather.norm_text, text))
        for m in ("audio", "vision"):
            keys, values = gather.key_value[m](norm(gather.norms[m], tokens[m])).split(width, dim=1)
            for part in (slice(h * width // heads, (h + 1) * width // heads) for h in range(heads)):
                scores = queries[:, part] @ keys[:, part].T / math.sqrt(width / heads)
                found[:, part] += scores.softmax(1) @ values[:, part]
        hyper = norm(gather.norm_hyper, hyper) + gather.out(found)
    text = torch.cat([backbone.summary, text]) + backbone.places_of_text
    hyper = torch.cat([backbone.summary, hyper]) + backbone.places_of_hyper
    for layer in backbone.fusion:
        text = almt_layer(layer, text, hyper)
    return text[0]


@torch.no_grad()
def test_almt() -> None:
    sizes: dict[str, Any] = {"width": 8, "tokens": 3, "heads": 2, "steps": [6, 9, 12]}
    backbone, batch = randomised(ALMT(DIMS, **sizes, preset="official")), made_batch("unaligned")
    expected = [almt_reference(backbone, {m: batch.features[m][b] for m in DIMS}) for b in range(len(batch))]
    torch.testing.assert_close(state(backbone, batch), torch.stack(expected), rtol=0, atol=1e-6)


def test_learned_positions_of_almt_end() -> None:
    backbone, batch = ALMT(DIMS, width=8, tokens=3, heads=2, steps=[6, 9, 10], preset="official"), make_batch()
    with pytest.raises(Refusal, match="at most 13 positions; found 14; raise `steps`"):
        backbone.encode(batch)


# --- TAILOR


def tailor_layers(layers: Any, steps: Tensor, keys: Tensor) -> Tensor:
    for layer in layers:
        found = attention(layer.attention, steps, steps, steps, keys.expand(len(steps), -1))
        steps = norm(layer.norm_attention, steps + found, 1e-12)
        steps = norm(layer.norm_feed, steps + layer.feed[3](F.gelu(layer.feed[0](steps))), 1e-12)
    return steps


def tailor_join(join: Any, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    steps = torch.cat([first[0] + join.types[0], second[0] + join.types[1]])
    keys = torch.cat([first[1], second[1]])
    steps = norm(join.norm, steps + join.positions.table[: len(steps)], 1e-12)
    return tailor_layers(join.layers, steps, keys), keys


def torch_attention(layer: nn.MultiheadAttention, queries: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
    d, heads = queries.shape[1], []
    weight, bias = layer.in_proj_weight, layer.in_proj_bias
    (w_q, w_k, w_v), (b_q, b_k, b_v) = weight.split(d), bias.split(d)
    q, k, v = queries @ w_q.T + b_q, memory @ w_k.T + b_k, memory @ w_v.T + b_v
    for part in (slice(h * d // layer.num_heads, (h + 1) * d // layer.num_heads) for h in range(layer.num_heads)):
        scores = q[:, part] @ k[:, part].T / math.sqrt(d / layer.num_heads)
        heads.append(scores.masked_fill(~keys, -math.inf).softmax(1) @ v[:, part])
    return layer.out_proj(torch.cat(heads, dim=1))


def tailor_reference(backbone: Any, features: dict[str, Tensor], real: Tensor) -> Tensor:
    """(Q,) the logits of labels; ``real`` (T,): which steps are no padding."""
    private, common = {}, {}
    for m, encoder in backbone.encoders.items():
        steps = encoder.project(norm(encoder.norm_features, features[m], 1e-12))
        steps = norm(encoder.norm, steps + encoder.positions.table[: len(steps)], 1e-12)
        steps = tailor_layers(encoder.layers, steps, real)
        private[m] = (backbone.private[m][0](steps).tanh(), real)
        common[m] = backbone.common[0](steps).tanh()
    joined = tailor_join(backbone.join_unspoken, private["audio"], private["vision"])
    joined = tailor_join(backbone.join_text, private["text"], joined)
    summed = common["text"] + common["audio"] + common["vision"], torch.ones_like(real)
    memory, keys = tailor_join(backbone.join_common, joined, summed)
    decoder = backbone.decoder
    queries = norm(backbone.norm_queries, backbone.queries, 1e-12)
    itself = torch.ones(len(queries), dtype=torch.bool)
    queries = norm(decoder.norm1, queries + torch_attention(decoder.self_attn, queries, queries, itself), 1e-12)
    queries = norm(decoder.norm2, queries + torch_attention(decoder.multihead_attn, queries, memory, keys), 1e-12)
    queries = norm(decoder.norm3, queries + decoder.linear2(F.gelu(decoder.linear1(queries))), 1e-12)
    return torch.stack([backbone.reader[0].weight[0] @ query + backbone.reader[0].bias[0] for query in queries])


TAILOR_SIZES: dict[str, Any] = {"width": 8, "heads": 2, "depth": [2, 1, 1], "cross_depth": 2, "queries": 3, "steps": 6}


@torch.no_grad()
def test_tailor() -> None:
    backbone, batch = randomised(TAILOR(DIMS, **TAILOR_SIZES, preset="official")), made_batch("aligned")
    for values in batch.features.values():
        values.mul_(1e-3)  # so that what is added to a variance shows
    expected = [
        tailor_reference(backbone, {m: batch.features[m][b] for m in DIMS}, batch.key_mask("text")[b])
        for b in range(len(batch))
    ]
    torch.testing.assert_close(state(backbone, batch), torch.stack(expected), rtol=0, atol=1e-6)


def test_tailor_adds_up_common_features_of_equal_length_only() -> None:
    sizes, batch = TAILOR_SIZES | {"steps": 11}, make_batch("unaligned")
    with pytest.raises(Refusal, match="found 6 of text, 9 of audio, 11 of vision"):
        state(TAILOR(DIMS, **sizes, preset="official"), batch)
    assert state(TAILOR(DIMS, **sizes, preset="official", summed_common=False), batch).isfinite().all()


@pytest.mark.parametrize(("preset", "epsilon"), [("official", 1e-12), ("fixed", 1e-5)])
def test_what_layer_norms_of_tailor_add_to_a_variance(preset: Any, epsilon: float) -> None:
    norms = [part for part in TAILOR(DIMS, **TAILOR_SIZES, preset=preset).modules() if isinstance(part, nn.LayerNorm)]
    assert {part.eps for part in norms} == {epsilon}


def test_size_of_tailor() -> None:
    """The tables of positions, for 60 steps, and one linear layer are all that the release has more."""
    official, fixed = (sum(p.numel() for p in TAILOR(DIMS, preset=each).parameters()) for each in ("official", "fixed"))
    assert official - fixed == (3 + 2 + 3 + 4) * 60 * 256 + 256 + 1


# --- what is absent stays without effect under official, too


@pytest.mark.parametrize(
    "backbone",
    [
        MulT(DIMS, 8, 1, 2, preset="official"),
        BBFN(DIMS, width=10, depth=2, preset="official"),
        ALMT(DIMS, width=8, tokens=3, heads=2, preset="official"),
        TAILOR(DIMS, **TAILOR_SIZES, preset="official"),
    ],
    ids=lambda backbone: type(backbone).__name__,
)
def test_what_is_absent_cannot_change_the_state(backbone: Backbone) -> None:
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 1]]).bool()
    batch = replace(make_batch("aligned"), present=present)
    spoilt = {
        m: values.where(present[:, number, None, None], float("nan"))
        for number, (m, values) in enumerate(batch.features.items())
    }
    before = state(backbone.eval(), batch)
    assert before.isfinite().all()
    assert torch.equal(before, state(backbone, replace(batch, features=spoilt)))
