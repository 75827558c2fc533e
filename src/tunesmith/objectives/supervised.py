"""Supervised training: the task's own loss, and for decoders, if wanted, that of the language besides."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Objective
from tunesmith.core.portions import summed_loss
from tunesmith.core.step import Batch, Step, Training, Update

EXAMPLES = "examples of the update"
SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of backbones that change the scores of words after the output layer."""
HINT = "Leave out objective.language_model, or name another model."


class Supervised(Objective):
    """Minimise the task's loss, averaged over the targets of the whole update.

    Formula: L = (sum over micro-batches and targets of the task's loss) / (targets in the update)
    + lambda (sum over examples of the mean of -log p(u_i | u_1 .. u_(i-1)) over the example's tokens) / (examples).
    Symbols: targets and examples are counted over all micro-batches before the first forward pass; lambda is
    `language_model`, u the tokens of an example (of all its sequences, where it has several), without padding;
    p(u_i | ...) = softmax(E h_(i-1)), with h the decoder's last states and E its word embeddings, or its own output
    layer where it has one. Shapes: a scalar a micro-batch.
    Paper: the first term is the standard one; a mean of micro-batch means, as many trainers had it until 2024, would
    weigh targets of short micro-batches more. The second is the auxiliary loss of Radford et al., "Improving Language
    Understanding by Generative Pre-Training", 2018, with lambda 0.5, as a mean a token beside a mean an example.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"targets"})

    language_model: float = Field(0.0, ge=0)
    """Weight lambda of the next-token loss on the task's own texts; decoders only (the paper: 0.5)."""

    _states: Tensor | None = PrivateAttr(default=None)
    _kind: torch.dtype | None = PrivateAttr(default=None)
    _model: nn.Module | None = PrivateAttr(default=None)

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Look at the backbone, and change nothing: one that can't predict its next word raises RecipeError."""
        if self.language_model:
            _check(model)

    def setup(self, training: Training) -> None:
        """Watch the backbone's last states. A task that packs raises RecipeError."""
        if not self.language_model:
            return
        if getattr(training.task, "pack", False):
            raise RecipeError(
                "objective.language_model does not go with task.pack: in a row of several examples, the last word of "
                "one would have to predict the first of the next.",
                hint="Leave one of the two out; a task that writes text learns the language by its own loss.",
            )
        self._model = training.model
        # Positions of virtual tokens are in these states, and are not in what the model gives.
        anatomy.backbone(training.model).register_forward_hook(self._catch)

    def batches(self, stream: Iterator[Update]) -> Iterator[Update]:
        """Give every micro-batch the number of examples in its update."""
        if not self.language_model:
            return stream
        return (_counted(update) for update in stream)

    def loss(self, step: Step) -> Tensor:
        """This micro-batch's part of the update's mean, or of both means."""
        supervised = step.task.loss(step) / step.targets
        if not self.language_model:
            return supervised
        states, self._states = self._states, None
        ids, mask = (step.batch.inputs.get(name) for name in ("input_ids", "attention_mask"))
        if self._model is None or states is None or ids is None or mask is None or mask.shape != ids.shape:
            raise RecipeError(
                f"objective.language_model: the batches of the task '{step.task.word()}' are no plain texts.", hint=HINT
            )
        added = next_token_loss(states, step.batch, *scoring(self._model), self._kind)
        return supervised + self.language_model * added / step.batch.fields[EXAMPLES]

    def _catch(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if module.training:
            self._states = output.last_hidden_state
            # The loss is made outside autocast, in which the model runs.
            device = output.last_hidden_state.device.type
            self._kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def next_token_loss(
    states: Tensor, batch: Batch, weight: Tensor, bias: Tensor | None = None, kind: torch.dtype | None = None
) -> Tensor:
    """The mean of -log p(next token) over each example's tokens, summed over the examples: a scalar. An example of a
    single token adds nothing.

    states [sequences, virtual + time, hidden], whose last `time` positions are the tokens' (padded on the right);
    weight [words, hidden] and bias [words] score the words; kind: see `portions.summed_loss`. Nothing is computed at
    positions of the padding.
    """
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()  # [sequences, time]
    real = mask[:, 1:]
    before = states[:, states.shape[1] - ids.shape[1] :][:, :-1][real]  # [tokens, hidden]
    owners = batch.fields.get("owners", torch.arange(len(ids), device=ids.device))[:, None].expand_as(real)[real]
    shares = 1 / owners.bincount(minlength=len(batch.rows))  # [examples]
    return summed_loss(before, weight, ids[:, 1:][real], bias, shares[owners], kind)


def scoring(model: nn.Module) -> tuple[Tensor, Tensor | None]:
    """What scores every word as the next: a weight [words, hidden] and a bias [words], those of the model's output
    layer, or where it has none, its word embeddings.
    """
    layer: Any = anatomy.output_layer(model)
    if layer is not None:
        return layer.weight, layer.bias
    return model.get_input_embeddings().weight, None  # type: ignore[operator]


def _counted(update: Update) -> Update:
    count = torch.tensor(float(sum(len(batch.rows) for batch in update.batches)))
    return replace(
        update, batches=[replace(batch, fields={**batch.fields, EXAMPLES: count}) for batch in update.batches]
    )


def _check(model: nn.Module) -> None:
    config: Any = model.config
    name = type(model).__name__
    if getattr(config, "is_encoder_decoder", False) or not _is_causal(model):
        raise RecipeError(
            f"objective.language_model: {name} is no decoder: it sees the words that it would have to predict.",
            hint=HINT,
        )
    if anatomy.output_layer(model) is None and not getattr(config, "tie_word_embeddings", True):
        raise RecipeError(
            f"objective.language_model: {name} scores words by a layer that is not loaded under the head of a "
            "task, and not by its word embeddings.",
            hint=HINT,
        )
    scaled = [setting for setting in SCALED if getattr(config, setting, None) not in (None, 1, 1.0)]
    if scaled:
        raise RecipeError(
            f"objective.language_model: {name} changes the scores of words after its output layer ({scaled[0]}).",
            hint=HINT,
        )


@torch.no_grad()
def _is_causal(model: nn.Module) -> bool:
    """Whether the model reads words, and the first one's state stays as it is when the second changes."""
    body, device = anatomy.backbone(model), anatomy.device_of(model)
    if "input_ids" not in inspect.signature(type(body).forward).parameters:
        return False
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        ids = torch.tensor([[3, 4], [3, 5]], device=device)
        states = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    finally:
        for module, training in modes.items():
            module.training = training
    return bool(torch.allclose(states[0, 0], states[1, 0], atol=1e-5))
