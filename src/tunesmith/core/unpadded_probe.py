"""A look at what a model computes, on a few short texts: the same with and without padding? And which tokens are read
after the last block?
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from tunesmith.core import anatomy
from tunesmith.core.layout import Layout
from tunesmith.core.quantised import Quantised
from tunesmith.core.unpadded_attention import real

LENGTHS, DECODED = (7, 2, 4), (3, 5, 2)
"""Tokens of the texts, and of what a decoder gets besides."""
WORDS = 12
FAULTS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What a model raises where it is called in a way that it was not written for."""


def reads_text(model: nn.Module) -> bool:
    """Whether the model takes token ids and a mask."""
    return {"input_ids", "attention_mask"} <= set(inspect.signature(type(model).forward).parameters)


@dataclass
class Probe:
    """A model, inputs for it, and what it gave for them while its blocks were padded."""

    model: nn.Module
    inputs: dict[str, Tensor]
    expected: list[Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Probe | str:
        """Run the padded model; a sentence where it can't be run on texts alone."""
        fault: Exception | None = None
        for inputs in _inputs(model):
            try:
                return cls(model, inputs, _outputs(model, inputs))
            except FAULTS as raised:
                fault = raised
        return f"{type(model).__name__} could not be tried: {_line(fault)}."

    def differs(self) -> str:
        """Run the model again: "" where it gives the same, else a sentence."""
        name = type(self.model).__name__
        try:
            found = _outputs(self.model, self.inputs)
        except FAULTS as raised:
            return f"{name} needs padded blocks: {_line(raised)}."
        close = _tolerance(self.model)
        if len(found) != len(self.expected):
            return f"{name} gives other outputs without padding."
        for one, other in zip(found, self.expected, strict=True):
            worst = float((one - other).abs().max()) / max(1e-6, float(other.abs().max()))
            if not worst <= close:
                return f"{name} gives other numbers without padding: {worst:.1e} of the largest."
        return ""

    def read(self, last: nn.Module) -> tuple[str, float]:
        """Which token of each sequence is read after the block `last`: ("first" or "last", what may stand at the
        others), or ("", 0) where more is read. NaN may stand there where it reaches no gradient, else zero.
        """
        try:
            return self._read(last)
        except FAULTS:
            return "", 0.0

    def _read(self, last: nn.Module) -> tuple[str, float]:
        seen = _Seen()
        given = self._gradients(last, seen)
        if seen.count != 1 or given is None:
            return "", 0.0
        moved = given[0].abs().sum(-1) > 0  # [sequences, time]
        word = "" if seen.layout is None else _word(moved, real(seen.layout))
        if not word:
            return "", 0.0
        hidden = _Seen(moved)
        given = self._gradients(last, hidden)
        same = all(torch.equal(one, other) for one, other in zip(hidden.outputs, seen.outputs, strict=True))
        if given is None or not same:
            return "", 0.0
        return word, math.nan if all(bool(one.isfinite().all()) for one in given) else 0.0

    def _gradients(self, last: nn.Module, seen: _Seen) -> list[Tensor] | None:
        """Gradients of a random sum of the outputs: by the states after the last block, then by weights behind it."""
        handle = last.register_forward_hook(seen, with_kwargs=True)
        try:
            with torch.inference_mode(False):
                seen.outputs = _outputs(self.model, self.inputs, gradients=True)
                weights = torch.Generator().manual_seed(0)
                total = sum((one * torch.randn(one.shape, generator=weights).to(one)).sum() for one in seen.outputs)
                if seen.states is None or not isinstance(total, Tensor) or not total.requires_grad:
                    return None
                behind = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
                given = torch.autograd.grad(total, [seen.states, *behind], allow_unused=True)
        finally:
            handle.remove()
        return None if given[0] is None else [one for one in given if one is not None]


@dataclass
class _Seen:
    """A hook on a last block: cuts the graph there, and puts NaN where a token is not in `keep` [sequences, time]."""

    keep: Tensor | None = None
    states: Tensor | None = None
    layout: Layout | None = None
    count: int = 0
    outputs: list[Tensor] = field(default_factory=list)

    def __call__(self, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        self.layout = next((one for one in (*given, *named.values()) if isinstance(one, Layout)), None)
        states: Tensor = (output[0] if isinstance(output, tuple) else output).detach()
        if self.keep is not None:
            states = states.masked_fill(~self.keep[..., None], math.nan)
        self.states = states.requires_grad_()
        self.count += 1
        return (self.states, *output[1:]) if isinstance(output, tuple) else self.states


def _word(moved: Tensor, there: Tensor) -> str:
    """Which token of each sequence moves the outputs; both [sequences, time], `there` true where there is a token."""
    places = torch.arange(moved.shape[1], device=moved.device).expand_as(moved)
    last = (places * there).amax(1, keepdim=True)
    words = (word for word, wanted in (("first", places == 0), ("last", places == last)) if torch.equal(moved, wanted))
    return next(words, "")


def _inputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Texts padded on the right; then the same with a decoder's own."""
    config: Any = model.config
    device = anatomy.device_of(model)
    text = config.get_text_config()
    special = {getattr(text, f"{name}_token_id", None) for name in ("pad", "eos", "bos", "sep", "cls", "unk", "mask")}
    words = list(itertools.islice((word for word in range(text.vocab_size) if word not in special), WORDS))

    def padded(lengths: tuple[int, ...], end: int | None) -> tuple[Tensor, Tensor]:
        ids = torch.full((len(lengths), max(lengths)), text.pad_token_id or 0)
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        for row, length in enumerate(lengths):
            ids[row, :length] = torch.tensor([words[(row + n) % len(words)] for n in range(length)])
            if end is not None:
                ids[row, length - 1] = end
        return ids.to(device), mask.long().to(device)

    eos = getattr(text, "eos_token_id", None)
    ids, mask = padded(LENGTHS, eos if isinstance(eos, int) and eos != text.pad_token_id else None)
    yield {"input_ids": ids, "attention_mask": mask}
    if "decoder_input_ids" in inspect.signature(type(model).forward).parameters:
        own, own_mask = padded(DECODED, None)
        yield {
            "input_ids": ids, "attention_mask": mask, "decoder_input_ids": own, "decoder_attention_mask": own_mask,
        }  # fmt: skip


def _masks(inputs: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """The masks [sequences, time] of the inputs, by time."""
    return {mask.shape[1]: mask.bool() for name, mask in inputs.items() if name.endswith("attention_mask")}


def _outputs(model: nn.Module, inputs: Mapping[str, Tensor], gradients: bool = False) -> list[Tensor]:
    """What the model gives, in evaluation and full precision, without what stands at padding."""
    device = anatomy.device_of(model)
    with _evaluating(model), torch.set_grad_enabled(gradients), torch.autocast(device.type, enabled=False):
        output = model(**inputs)
    found = list(_tensors(output.to_tuple() if isinstance(output, ModelOutput) else output))
    return [_without_padding(one, _masks(inputs)).float() for one in found]


def _without_padding(output: Tensor, masks: Mapping[int, Tensor]) -> Tensor:
    """Of an output with an entry a token, [sequences, time, ...], those of real tokens; another as it is."""
    if output.dim() < 2 or len(output) != len(LENGTHS):
        return output
    time = output.shape[1]
    if time not in masks and output.dim() > 2 and time > max(masks):  # virtual tokens stand in front
        mask = masks[max(masks)]
        return output[torch.nn.functional.pad(mask, (time - mask.shape[1], 0), value=True)]
    return output[masks[time]] if time in masks else output


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, tuple | list):
        for one in output:
            yield from _tensors(one)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation; afterwards all is as before, the random numbers too."""
    device = anatomy.device_of(model)
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode(False):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _tolerance(model: nn.Module) -> float:
    """How far numbers may be apart: rounding of the coarsest type that takes part."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    coarse = bool(kinds - {torch.float32, torch.float64}) or any(isinstance(m, Quantised) for m in model.modules())
    return 3e-2 if coarse else 1e-4


def _line(fault: Exception | None) -> str:
    return f"{type(fault).__name__}: {str(fault).strip().splitlines()[0] if str(fault).strip() else ''}".rstrip(".: ")
