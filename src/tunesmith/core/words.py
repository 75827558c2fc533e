"""Scores of words only where they are read, and losses over a vocabulary without the matrix of all scores.

A language model gives a score to every word at every position. Losses and metrics read few of these positions: those of
masked words, or of answers. `read` runs the model so that what stands after its blocks sees these positions alone, and
so that its output layer gives back its input, from which `summed_loss` makes what is asked for a portion at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.core import anatomy
from tunesmith.core.notes import note
from tunesmith.core.portions import exact, portions, rounded, summed_loss
from tunesmith.core.step import Step
from tunesmith.core.tokens import IGNORED

NEAR = 0.05
"""How far the scores of a position may be from those of a run over all of them, against the largest: in bfloat16, other
shapes give other roundings.
"""

Way = Literal["states", "positions", "all"]
_WAYS: WeakKeyDictionary[nn.Module, tuple[nn.Module | None, Way]] = WeakKeyDictionary()
"""How little of a model's scores can be computed, as long as its output layer is the one named."""


@dataclass(frozen=True)
class Words:
    """What tells the scores of words at the chosen positions of a batch.

    chosen [sequences, time]: the positions. states [places, in]: what the output layer reads at each of them, in their
    order. weight [words, in], bias [words]: the output layer's; where `weight` is None, states are the scores
    themselves [places, words]. kind: the type that scores are computed in.
    """

    chosen: Tensor
    states: Tensor
    weight: Tensor | None
    bias: Tensor | None
    kind: torch.dtype

    def at(self, chosen: Tensor) -> Words:
        """The same for some of the positions: [sequences, time]."""
        return Words(chosen, self.states[chosen[self.chosen]], self.weight, self.bias, self.kind)

    def scores(self) -> Iterator[tuple[slice, Tensor]]:
        """A portion of places after another, with their scores [places, words] in float32."""
        if self.weight is None:
            yield slice(None), exact(self.states)
            return
        weight, bias = self.weight.to(self.kind), None if self.bias is None else self.bias.to(self.kind)
        with torch.autocast(self.states.device.type, enabled=False):
            for part in portions(self.states, len(weight)):
                states = rounded(self.states[part]).to(self.kind)
                yield part, exact(functional.linear(states, weight, bias)[: part.stop - part.start])

    def loss(self, labels: Tensor) -> Tensor:
        """Summed -log p of the labels [places]: a scalar, with gradients."""
        if self.weight is None:
            return functional.cross_entropy(exact(self.states), labels, reduction="sum")
        return summed_loss(self.states, self.weight, labels, self.bias, kind=self.kind)


def word_loss(step: Step, labels: Tensor) -> Tensor:
    """Cross-entropy summed over the positions that have a label: a scalar, with gradients.

    Formula: L = -sum over (s, t) with a label of log softmax(W h_st + b)[y_st].
    Symbols: y the labels [sequences, time], IGNORED where there is none; h what the output layer (W, b) reads. The
    label of a position is what the model says there: a decoder's is the token that follows.
    """
    chosen = labels != IGNORED
    return read(step, chosen).loss(labels[chosen])


@torch.no_grad()
def word_losses(step: Step, labels: Tensor) -> Tensor:
    """Cross-entropy of every position, in float32 and without gradients: [sequences, time]; 0 without a label."""
    chosen = labels != IGNORED
    words, told = read(step, chosen), labels[chosen]
    found = torch.zeros(labels.shape, device=labels.device)
    losses = [functional.cross_entropy(scores, told[part], reduction="none") for part, scores in words.scores()]
    if losses:
        found[chosen] = torch.cat(losses).float()
    return found


def read(step: Step, chosen: Tensor) -> Words:
    """What tells the scores of words at the positions `chosen` [sequences, time].

    The model runs once a step, if the first to ask names all positions that will be asked for. Where the step has the
    outputs of the whole model already, where its `unread` is False, and where the model leaves no other way (see
    `way`), the scores are those of `step.outputs`.
    """
    if "outputs" in vars(step) or not step.unread:
        return _of_scores(step.outputs.logits[chosen], chosen)
    place = (__name__, torch.is_grad_enabled())  # what was made without gradients has none to give later
    known = step.kept.get(place)
    if known is not None and not bool((chosen & ~known.chosen).any()):
        return cast(Words, known).at(chosen)
    ahead = way(step.model)
    if ahead == "all":
        return _of_scores(step.outputs.logits[chosen], chosen)
    if ahead == "positions":
        words = _of_scores(_run(step.model, step.batch.inputs, chosen)[0], chosen)
    else:
        layer = _layer(step.model)
        caught = Caught(layer)
        _run(step.model, step.batch.inputs, chosen, caught)
        assert caught.states is not None and caught.kind is not None
        words = Words(chosen, caught.states.flatten(0, -2), layer.weight, layer.bias, caught.kind)
    step.kept[place] = words
    return words


def way(model: nn.Module) -> Way:
    """How little of the model's scores can be computed, tried out once for a model and its output layer.

    states: the output layer's input at the positions that are read, and scores a portion at a time. positions: the
    scores of these positions, by the model itself: where it changes them after its output layer, or where that is no
    plain linear. all: the scores of all positions. The last two are said.
    """
    layer = anatomy.output_layer(model)
    known = _WAYS.get(model)
    if known is not None and known[0] is layer:
        return known[1]
    found, why = _tried(model)
    if why:
        note(f"{type(model).__name__} {why}.")
    _WAYS[model] = (layer, found)
    return found


class Caught:
    """Stands in for the forward of an output layer: keeps what the layer would read, and gives the scores of no
    position.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.states: Tensor | None = None
        self.kind: torch.dtype | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """[sequences, places, in] -> [sequences, 0, words]."""
        device = states.device.type
        lower = torch.is_autocast_enabled(device)
        self.states, self.kind = states, torch.get_autocast_dtype(device) if lower else self.layer.weight.dtype
        return states.new_empty(*states.shape[:-2], 0, self.layer.out_features)


def _of_scores(scores: Tensor, chosen: Tensor) -> Words:
    return Words(chosen, scores.flatten(0, -2), None, None, scores.dtype)


def _layer(model: nn.Module) -> nn.Linear:
    return cast(nn.Linear, anatomy.output_layer(model))


@dataclass
class _Run:
    """One run of a model whose last states are reduced to chosen positions [sequences, time] before its head."""

    chosen: Tensor
    logits: list[Tensor] = field(default_factory=list)

    def reduce(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        """[sequences, virtual + time, hidden] -> [1, places, hidden]; virtual tokens stand before a text's own."""
        states = output.last_hidden_state
        states = states[:, states.shape[1] - self.chosen.shape[1] :]
        places = self.chosen.flatten().nonzero()[:, 0]
        output["last_hidden_state"] = states.flatten(0, 1).index_select(0, places)[None]

    def note(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        """The scores that the model's own forward gives."""
        self.logits.append(output.logits)


def _run(model: nn.Module, inputs: Mapping[str, Tensor], chosen: Tensor, layer_forward: Any = None) -> Tensor:
    """The model's scores at the chosen positions alone: [1, places, words]; `layer_forward` in place of its output
    layer's own, where given.
    """
    run = _Run(chosen)
    with ExitStack() as stack:
        # Before all other hooks: these may take virtual tokens off, which are gone already.
        handles = [model.register_forward_hook(run.note, prepend=True), _body(model).register_forward_hook(run.reduce)]
        for handle in handles:
            stack.callback(handle.remove)
        if layer_forward is not None:
            stack.enter_context(_replaced(_layer(model), layer_forward))
        model(**inputs)
    return run.logits[0]


@contextmanager
def _replaced(layer: nn.Module, forward: Any) -> Iterator[None]:
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        del layer.__dict__["forward"]


def _body(model: nn.Module) -> nn.Module:
    """The module whose last states the head reads: the body, or the decoder of a class that holds its body itself."""
    body = anatomy.backbone(model)
    if body is not model:
        return body
    decoder = getattr(model, "get_decoder", lambda: model)()
    return cast(nn.Module, decoder)


@torch.no_grad()
def _tried(model: nn.Module) -> tuple[Way, str]:
    """The way, and what is to be said of it; tried on made-up tokens, as in a prediction."""
    layer, device = anatomy.output_layer(model), anatomy.device_of(model)
    refused = "does not let its head read single positions: scores of words are computed at all of them"
    if layer is None:
        return "all", refused
    ids = torch.arange(10, device=device).view(2, 5)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    chosen = ids % 3 == 1
    with _measuring(model):
        whole = exact(model(**inputs).logits[chosen])  # [places, words]
        try:
            alone = exact(_run(model, inputs, chosen).flatten(0, -2))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return "all", refused
        # Only gross differences: those of kernels for other shapes are no reason.
        if alone.shape != whole.shape or (alone - whole).abs().max() > NEAR * whole.abs().max():
            return "all", refused
        if not _is_plain(layer, alone.shape[-1]):
            return "positions", "has an output layer that is no plain linear: its scores are not computed in portions"
        # In place of scores numbers that no cap and no scale leaves as they are.
        weight = cast(nn.Linear, layer).weight
        numbers = torch.linspace(-99, 99, alone.numel(), device=device, dtype=weight.dtype).view(1, *alone.shape)
        if not torch.equal(exact(_run(model, inputs, chosen, lambda states: numbers)), exact(numbers)):
            return "positions", "changes scores after its output layer: they are not computed in portions"
    return "states", ""


def _is_plain(layer: nn.Module, words: int) -> bool:
    """Whether this is a linear that gives the scores of so many words, and does nothing else."""
    if type(layer) is not nn.Linear or layer.out_features != words:
        return False
    return not ("forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks)


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
