"""The hooks by which a stack of blocks runs on one row of real tokens: into the row before the first block, out of it
after the last, and what a call asks for that only padded blocks give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.core.errors import ModelError
from tunesmith.core.layout import Layout
from tunesmith.core.surgery import Inserted
from tunesmith.core.unpadded_attention import BIASED, EXACT, PADDED, Cross

MASK, CROSS_MASK, CACHE = "attention_mask", "encoder_attention_mask", "past_key_values"
BIAS, CROSS_BIAS = "position_bias", "encoder_decoder_position_bias"
PER_TOKEN = ("position_embeddings", "position_ids")
"""What blocks get besides hidden states that has an entry a token."""
HARMLESS = ("transformers.utils.output_capturing", "transformers.modeling_utils")
"""Where hooks come from that act only where a call asks for hidden states (such a call stays padded), and the one that
lets gradients into frozen embeddings for activation checkpointing.
"""
ROW, TENSOR = "row", "tensor"
"""Keys of `Layout.kept`: the layout that blocks get, and the mask that padded blocks get."""


@dataclass
class Run:
    """What the call that is under way may do.

    padded: paths of the modules whose arguments ask for what only padded blocks give. unread: whether tokens that
    nothing reads may be left out. outside: every module in which a hook could read them. last: whether the last token
    of a sequence is one that is read. exact: whether dropout's draws must be torch's own.
    """

    padded: set[str] = field(default_factory=set)
    unread: bool = False
    outside: list[nn.Module] = field(default_factory=list)
    last: bool = False
    exact: bool = False


@dataclass
class Stack:
    """One list of blocks. names: the arguments of a block. reads: the token of each sequence that is read after the
    last block ("first", "last", "" for all), and `fill` what stands at the others. open: whether it runs on a row now;
    ran: whether it ever did.
    """

    run: Run
    blocks: nn.ModuleList
    names: list[str]
    reads: str = ""
    fill: float = 0.0
    open: bool = False
    ran: bool = False

    def fits(self, given: Mapping[str, Any], layout: Any) -> bool:
        """Whether this call can run on one row."""
        return (
            isinstance(layout, Layout)
            and not self.run.padded
            and given.get(CACHE) is None
            and given[self.names[0]].shape[:2] == layout.shape
            and not isinstance(given.get(CROSS_MASK), Tensor)
            and (not self._leaves_out() or self._read(layout) is not None)
        )

    def row(self, layout: Layout) -> Layout:
        """The layout that blocks get: with the tokens that are read."""
        if ROW not in layout.kept:
            if self.run.exact:
                layout.kept[EXACT] = True
            layout.kept[ROW] = replace(layout, read=self._read(layout)) if self._leaves_out() else layout
        found: Layout = layout.kept[ROW]
        return found

    def _leaves_out(self) -> bool:
        return bool(self.reads) and self.run.unread

    def _read(self, layout: Layout) -> Tensor | None:
        """The places in the row of the tokens that are read, in the order of the batch: [sequences]; None where one of
        them is no real token.
        """
        if len(layout.order) < layout.shape[0]:
            return None
        found = starts = layout.starts
        if self.reads == "last":
            found = torch.cat([starts[1:], starts.new_tensor([layout.tokens])]) - 1
        elif bool((layout.places[starts] % layout.shape[1]).any()):
            return None
        return torch.empty_like(found).index_copy_(0, layout.order, found)


class Enter:
    """Before a block: the first takes hidden states into the row, all get what goes with it."""

    def __init__(self, stack: Stack, first: bool) -> None:
        self.stack, self.first = stack, first

    def __call__(self, block: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        stack = self.stack
        given = {**dict(zip(stack.names, positional, strict=False)), **named}
        layout = given.get(MASK)
        if self.first:
            stack.open = stack.fits(given, layout)
            stack.ran |= stack.open
        if not stack.open:
            masks = {name: mask for name, mask in given.items() if isinstance(mask, Layout)}
            return replaced(stack.names, positional, named, {name: tensor(mask) for name, mask in masks.items()})
        if not isinstance(layout, Layout):
            raise ModelError(
                f"A block of {type(block).__name__} got an attention mask that the blocks before it did not get.",
                hint="Switch this shortcut off: speed.unpadded: false.",
            )
        changed: dict[str, Any] = {MASK: stack.row(layout)}
        if self.first:
            changed[stack.names[0]] = flat(given[stack.names[0]], layout)
            changed |= _biases(block, stack.names, given, layout)
        changed |= {name: _flat_kept(given[name], layout) for name in PER_TOKEN if given.get(name) is not None}
        if given.get("encoder_hidden_states") is not None:
            changed[CROSS_MASK] = Cross(layout, given.get(CROSS_MASK))
        return replaced(stack.names, positional, named, changed)


class Leave:
    """After the last block: the row goes back into the padded batch."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def __call__(self, block: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        given = {**dict(zip(self.stack.names, positional, strict=False)), **named}
        layout = given.get(MASK)
        if not isinstance(layout, Layout):
            return None
        self.stack.open = False
        if isinstance(output, tuple):
            return (back(output[0], layout, self.stack.fill), *output[1:])
        return back(output, layout, self.stack.fill)


class Call:
    """Around a model, or a model in it: whether its arguments ask for what only padded blocks give."""

    def __init__(self, run: Run, path: str, names: list[str]) -> None:
        self.run, self.path, self.names = run, path, names

    def begin(self, owner: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Note what is asked for; a cache that nobody asks for is not kept."""
        given = {**dict(zip(self.names, positional, strict=False)), **named}
        config: Any = owner.config
        states = any(
            given.get(name, getattr(config, name, False)) for name in ("output_hidden_states", "output_attentions")
        )
        self.run.padded.discard(self.path)
        if states or given.get(CACHE) is not None or given.get("use_cache"):
            self.run.padded.add(self.path)
        if not self.path:
            self.run.unread = not any(foreign(module) for module in self.run.outside)
            self.run.unread &= not self.run.last or _ends_as_masked(config, given)
        # Positions without a mask may tell of several texts in a row; transformers looks at that only without a cache.
        told = given.get("position_ids") is None or given.get(MASK) is not None
        if told and given.get(CACHE) is None and given.get("use_cache") is None and "use_cache" in self.names:
            return replaced(self.names, positional, named, {"use_cache": False})
        return None

    def end(self, owner: nn.Module, positional: tuple[Any, ...], output: Any) -> None:
        """Forget it."""
        self.run.padded.discard(self.path)
        if not self.path:
            self.run.unread = False


def foreign(module: nn.Module) -> bool:
    """Whether somebody else's hook on the module may look at states."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return not all(_known(hook) for hook in hooks)


def _known(hook: Any) -> bool:
    owner = getattr(hook, "__self__", hook)
    ours = isinstance(owner, Inserted | Enter | Leave | Call) or getattr(hook, "__module__", "") in HARMLESS
    return ours or not getattr(owner, "reads_states", True)


def _ends_as_masked(config: Any, given: Mapping[str, Any]) -> bool:
    """Whether the last token by the mask is the last by its id, which is what classifiers of decoders read."""
    ids, real = given.get("input_ids"), given.get(MASK)
    padding = config.get_text_config().pad_token_id
    if ids is None or padding is None:
        return False
    places = torch.arange(ids.shape[-1], device=ids.device)
    by_id = (places * (ids != padding)).amax(-1)
    by_mask = ids.shape[-1] - 1 if real is None else (places * real.bool()).amax(-1)
    return bool((by_id == by_mask).all())


def replaced(
    names: Sequence[str], positional: tuple[Any, ...], named: dict[str, Any], changed: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with some of them changed, each in the place where it was given."""
    listed, rest = list(positional), dict(named)
    for name, value in changed.items():
        place = names.index(name) if name in names else len(listed)
        if place < len(listed):
            listed[place] = value
        else:
            rest[name] = value
    return tuple(listed), rest


def tensor(layout: Layout) -> Any:
    """The mask that the original implementation would have made."""
    if TENSOR not in layout.kept:
        layout.kept[TENSOR] = layout.kept[PADDED]()
    return layout.kept[TENSOR]


def flat(padded: Tensor, layout: Layout) -> Tensor:
    """Into the row, filled up: [batch or 1, time, ...] -> [1, total, ...]."""
    if not any(padded.stride()):
        # One number everywhere, which stands for what nothing reads: no copy.
        return padded[:1, :1].expand(1, layout.total, *padded.shape[2:])
    if padded.shape[0] == layout.shape[0]:
        return padded.flatten(0, 1).index_select(0, layout.taken)[None]
    return padded[0].index_select(0, layout.taken % layout.shape[1])[None]


def back(row: Tensor, layout: Layout, fill: float) -> Tensor:
    """Out of the row: [1, total, hidden], or [1, sequences, hidden] of the tokens that are read -> [batch, time,
    hidden], zero at the padding; where only some tokens are read, `fill` at all others.
    """
    rows, places, others = row[0], layout.places, 0.0
    if layout.read is None:
        rows = rows[: layout.tokens]
    else:
        places, others = places[layout.read], fill
        rows = rows if len(rows) == len(places) else rows.index_select(0, layout.read)
    batch, time = layout.shape
    padded = rows.new_full((batch * time, rows.shape[-1]), others)
    return padded.index_copy_(0, places, rows).view(batch, time, -1)


def _flat_kept(given: Any, layout: Layout) -> Any:
    """What goes with every token, in the row; once for all blocks."""
    if isinstance(given, tuple):
        return tuple(_flat_kept(one, layout) for one in given)
    if not isinstance(given, Tensor) or given.dim() < 2 or given.shape[:2] not in (layout.shape, (1, layout.shape[1])):
        return given
    key = ("flat", id(given))
    if key not in layout.kept:
        layout.kept[key] = (given, flat(given, layout))  # the original too: its id must stay its own
    return layout.kept[key][1]


def _biases(block: nn.Module, names: Sequence[str], given: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """T5's kind of biases by the distance of two tokens: made for the padded batch's positions, before the block would
    make them for the row's. An attention from the decoder to the encoder has none.
    """
    if BIAS not in names or given.get(BIAS) is not None:
        return {}
    source: Any = next((module for module in block.modules() if hasattr(module, "relative_attention_bias")), None)
    if source is None or not hasattr(source, "compute_bias"):
        return {}
    layout.kept[BIASED] = True
    time = max(layout.shape[1], layout.chunks[-1].time)  # a chunk may be filled up beyond the batch's longest
    changed = {BIAS: source.compute_bias(time, time)}
    if CROSS_BIAS in names:
        changed[CROSS_BIAS] = torch.zeros(1, 1, 1, 1, device=layout.places.device)
    return changed
