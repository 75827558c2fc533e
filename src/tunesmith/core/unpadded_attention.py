"""Attention where the real tokens of a batch run as one row, through transformers' two interfaces: one makes masks, the
other attends.

The layout of a batch travels in place of its attention mask. Where tokens can't run as one row (a cache with a past,
a mask of pairs), the mask is the original implementation's, and so is the attention. A name is registered for every
original implementation: "unpadded_sdpa" falls back on "sdpa".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    causal_mask_function,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.core import attention as by_hand
from tunesmith.core.layout import QUANTUM, Chunk, Layout

PREFIX = "unpadded_"
"""What the name of an implementation begins with, before the original's."""
POSITIONS, THERE, WHOLE = "positions", "there", "whole"
PADDED, WINDOW, BIASED, EXACT = "padded", "window", "biased", "exact"
"""Keys of `Layout.kept`: a function that gives the original mask; who sees whom beyond causality, by two tensors of
positions; whether a bias of positions [1, heads, time, time] goes with the layout; whether dropout's draws must be
torch's own."""
MEANINGFUL = ("softcap", "s_aux", "sinks")
"""Arguments of an attention that change its numbers, and that ours does not know."""


@dataclass(frozen=True)
class Cross:
    """The mask of an attention from the tokens of one row to padded keys [sequences, time]; keys None: all are real."""

    queries: Layout
    keys: Layout | None


def register(original: str) -> str:
    """The name of the implementation that falls back on `original`, known to transformers from now on."""
    name = f"{PREFIX}{original}"
    AttentionInterface.register(name, Attention(original))
    AttentionMaskInterface.register(name, partial(mask, original))
    return name


def has_masks(original: str) -> bool:
    """Whether an implementation makes masks by transformers' interface, so that we can stand in for it."""
    return original in ALL_MASK_ATTENTION_FUNCTIONS


def mask(original: str, **given: Any) -> Any:
    """What a block gets as attention mask, from what transformers' mask functions get: a Layout, or the original's."""
    padded = partial(ALL_MASK_ATTENTION_FUNCTIONS[original], **given)
    layout = _layout(given)
    if layout is None or not layout.lengths:
        return padded()
    layout.kept[PADDED] = padded
    return layout


def _layout(given: dict[str, Any]) -> Layout | None:
    function, keys = given["mask_function"], given["kv_length"]
    window = None
    if function is bidirectional_mask_function or function is causal_mask_function:
        causal = function is causal_mask_function
    elif _is_window(given):
        causal = bool(given.get("allow_is_causal_skip"))
        window = function if keys > given["local_size"] else None
    else:
        return None
    if any(type(given.get(name, 0)) is not int or given.get(name, 0) for name in ("q_offset", "kv_offset")):
        return None  # a cache with a past
    if given["q_length"] != keys and (causal or window is not None):
        return None
    shape, real = (given["batch_size"], keys), given.get("attention_mask")
    if real is None:
        real = torch.ones(shape, dtype=torch.bool, device=given.get("device", "cpu"))
    if real.shape != shape:
        return None
    layout = Layout.of(real.bool(), causal, QUANTUM if real.device.type == "cpu" else 1)
    if window is not None:
        layout.kept[WINDOW] = window
    return layout


def _is_window(given: dict[str, Any]) -> bool:
    """Whether the mask is a window of `local_size` tokens and nothing else: transformers then lets it be left out where
    the text is shorter.
    """
    skip = given.get("allow_is_causal_skip") or given.get("allow_is_bidirectional_skip")
    return bool(given.get("local_size") and skip and not given.get("use_vmap"))


class Attention:
    """Attention as transformers asks for it, over a Layout, a Cross, or what the implementation `original` knows."""

    def __init__(self, original: str) -> None:
        self.original = original

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **given: Any
    ) -> tuple[Tensor, Any]:
        """query [1, heads, total, size], key and value the same (with fewer heads where several queries share one) or,
        for a Cross, [sequences, heads, time, size]; the result [1, total, heads, size], zero beyond the real tokens.
        ValueError where the model asks for what only its original implementation knows.
        """
        if not isinstance(attention_mask, Layout | Cross):
            standard = _original(self.original, module)
            return cast("tuple[Tensor, Any]", standard(module, query, key, value, attention_mask, **given))
        for name in MEANINGFUL:
            if given.get(name) is not None:
                raise ValueError(f"its attention uses '{name}'")
        if torch.is_autocast_enabled(query.device.type):  # turning by position leaves queries and keys in float32
            query, key, value = (x.to(torch.get_autocast_dtype(query.device.type)) for x in (query, key, value))
        dropout, scale, bias = given.get("dropout", 0.0), given.get("scaling"), given.get("position_bias")
        attend = partial(_attend, dropout, scale)
        if isinstance(attention_mask, Cross):
            return _across(attend, query, key, value, attention_mask), None
        if bias is not None and BIASED not in attention_mask.kept:
            raise ValueError("its attention makes a bias of positions of its own in every block")
        plain = bias is None and WINDOW not in attention_mask.kept and value.shape[-1] == query.shape[-1]
        if plain and query.device.type == "cpu" and not (dropout and EXACT in attention_mask.kept):
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            return by_hand.attention(query, key, value, attention_mask, scale, dropout), None
        return _within(attend, query, key, value, (attention_mask, bias)), None


def _attend(
    dropout: float, scale: float | None, given: tuple[Tensor, ...], seen: Tensor | None, causal: bool
) -> Tensor:
    """torch's own attention of query, key and value, each [sequences, heads, time, size]; `seen` says who sees whom."""
    query, key, value = given
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and seen is not None:  # with a mask, only the slowest kernel shares heads by itself
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(
        query, key, value, seen, dropout, causal, scale=scale, enable_gqa=groups > 1 and seen is None
    )


def _original(name: str, module: nn.Module) -> Callable[..., Any]:
    """The implementation that the model would use without us; "eager" stands beside the model's own code."""
    home = sys.modules[type(module).__module__]
    found: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get(name, getattr(home, "eager_attention_forward", None))
    return found


def _within(
    attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, known: tuple[Layout, Tensor | None]
) -> Tensor:
    """Self-attention, chunk by chunk: [1, total, heads, size]."""
    layout, bias = known
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # [total, heads, size]
    found = []
    for chunk in layout.chunks:
        seen = _pairs(layout, chunk, bias)
        out = attend(tuple(_repadded(row, chunk) for row in rows), seen, layout.causal and seen is None)
        found.append(_flat(out, chunk))
    return _filled(found, layout)


def _across(attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, mask: Cross) -> Tensor:
    """Attention of one row's tokens to padded keys, chunk by chunk of the queries: [1, total, heads, size]."""
    layout, row, found = mask.queries, query[0].transpose(0, 1), []
    there = None if mask.keys is None else real(mask.keys)  # [sequences, time]
    for chunk in layout.chunks:
        own = layout.order[chunk.first : chunk.last]
        seen = None if there is None else there[own][:, None, None]
        out = attend((_repadded(row, chunk), key[own], value[own]), seen, False)
        found.append(_flat(out, chunk))
    return _filled(found, layout)


def _repadded(row: Tensor, chunk: Chunk) -> Tensor:
    """A chunk's tokens, padded: [total, heads, size] -> [sequences, heads, time, size]."""
    part = row[chunk.start : chunk.stop]
    part = part if chunk.out is None else part.index_select(0, chunk.out)
    return part.reshape(chunk.last - chunk.first, chunk.time, *part.shape[1:]).transpose(1, 2)


def _flat(padded: Tensor, chunk: Chunk) -> Tensor:
    """The way back: [sequences, heads, time, size] -> [tokens, heads, size]."""
    rows = padded.transpose(1, 2).flatten(0, 1)
    return rows if chunk.into is None else rows.index_select(0, chunk.into)


def _filled(found: list[Tensor], layout: Layout) -> Tensor:
    """The chunks' results one after another, zero beyond the real tokens: [1, total, heads, size]."""
    beyond = layout.total - layout.tokens
    if beyond:
        found = [*found, found[0].new_zeros(beyond, *found[0].shape[1:])]
    return (found[0] if len(found) == 1 else torch.cat(found))[None]


def _pairs(layout: Layout, chunk: Chunk, bias: Tensor | None) -> Tensor | None:
    """Who sees whom in a chunk, [sequences, 1 or heads, time, time]; None where nothing but causality says it: padding
    stands on the right, where no token that is causal sees it.
    """
    there = None if chunk.closed is None else chunk.closed == 0  # [sequences, 1, 1, time]
    window = layout.kept.get(WINDOW)
    if bias is None and window is None:
        return None if layout.causal else there
    positions = _positions(layout)[chunk.start : chunk.stop]
    positions = positions if chunk.out is None else positions.index_select(0, chunk.out)
    positions = positions.view(chunk.last - chunk.first, chunk.time)
    queries, keys = positions[:, None, :, None], positions[:, None, None, :]
    seen = torch.ones_like(queries == keys) if there is None else there.expand(-1, 1, chunk.time, -1)
    if layout.causal:
        seen = seen & (keys <= queries)
    if window is not None:
        seen = seen & window(0, 0, queries, keys)
    if there is not None:
        seen = seen | ~there.transpose(2, 3)  # what stands in for padding sees all, so that its result is a number
    if bias is None:
        return seen
    return _biased(bias, seen, layout, positions)


def _biased(bias: Tensor, seen: Tensor, layout: Layout, positions: Tensor) -> Tensor:
    """A bias of positions [1, heads, time, time] where a key is seen, far below it where not: [sequences, heads, time,
    time]. It depends on the distance of two tokens alone: where no hole is in a sequence, one square serves all.
    """
    if _whole(layout):
        time = positions.shape[1]
        pairs = bias[:, :, :time, :time]
    else:
        pairs = bias[0][:, positions[:, :, None], positions[:, None, :]].transpose(0, 1)
    return pairs.masked_fill(~seen, torch.finfo(pairs.dtype).min)


def _whole(layout: Layout) -> bool:
    """Whether the tokens of every sequence stand next to each other."""
    if WHOLE not in layout.kept:
        positions, starts = _positions(layout), layout.starts
        lengths = starts.new_tensor(layout.lengths)
        reach = positions[starts + lengths - 1] - positions[starts] + 1
        layout.kept[WHOLE] = bool((reach == lengths).all())
    return bool(layout.kept[WHOLE])


def _positions(layout: Layout) -> Tensor:
    """Where each token of the row stands in its padded sequence: [tokens]."""
    if POSITIONS not in layout.kept:
        layout.kept[POSITIONS] = layout.places % layout.shape[1]
    found: Tensor = layout.kept[POSITIONS]
    return found


def real(layout: Layout) -> Tensor:
    """The padded batch's mask: [sequences, time], true where there is a token."""
    if THERE not in layout.kept:
        flat = torch.zeros(layout.shape[0] * layout.shape[1], dtype=torch.bool, device=layout.places.device)
        layout.kept[THERE] = flat.index_fill_(0, layout.places, True).view(layout.shape)
    found: Tensor = layout.kept[THERE]
    return found
