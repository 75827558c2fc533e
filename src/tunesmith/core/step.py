"""What one step carries: the batch, the update it belongs to, and the state of the training around it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith.core import groups
from tunesmith.core.seeding import generator
from tunesmith.core.start import Start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.core.part import Part, Task
    from tunesmith.core.world import World


@dataclass(frozen=True)
class Batch:
    """Examples that go through the model at once.

    inputs: what the model's forward takes ([batch, time] for token ids and masks).
    fields: what losses and metrics take, by name (`targets`: [batch, …]).
    rows: the row number of each example in its split.
    cut: how many examples lost text to the length limit.
    of: which of several tasks that train together it belongs to (`Training.sides`).
    """

    inputs: Mapping[str, Tensor]
    fields: Mapping[str, Tensor]
    rows: Sequence[int] = ()
    cut: int = 0
    of: int = 0

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        fields = {name: tensor.to(device) for name, tensor in self.fields.items()}
        return replace(self, inputs=inputs, fields=fields)


@dataclass(frozen=True)
class Update:
    """The micro-batches whose gradients make one optimizer step; `epoch` is where it ends, as a fraction."""

    batches: Sequence[Batch]
    epoch: float


@dataclass
class Step:
    """One micro-batch on its way through the model.

    targets: the number of targets in the whole update, over all its micro-batches; losses that sum over targets are
    divided
        by it, so that accumulation changes nothing.
    share: this micro-batch's part of those targets; a penalty that does not depend on the batch is multiplied by it.
    unread: whether scores that no loss and no metric reads are left out. kept: what was computed for this step.
    """

    model: nn.Module
    task: Task
    batch: Batch
    targets: float = 1.0
    share: float = 1.0
    unread: bool = True
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def outputs(self) -> Any:
        """What the model gives for the batch, computed once, when a loss first asks."""
        return self.model(**self.batch.inputs)


@dataclass
class Training:
    """The state of a training, as parts see it.

    step: updates done so far, of `total_steps`. stop: why the training ends early (empty: it goes on).
    keep: True when the last evaluation was the best so far and its weights are to be kept and restored at the end.
    trained: names of the parameters that train, or did before a part froze them: what a checkpoint holds.
    tokenizer: the backbone's, for parts that start from words. updates_an_epoch: how many updates see every row once.
    start_kept: how the weights from which the training began are kept, for parts that ask for them. world: what there
    is besides. sides: of several tasks that train together, each one's model and the task itself; the models share one
    body, and the first is `model`, which has the other heads beside its own.
    """

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    total_steps: int
    seed: int
    step: int = 0
    stop: str = ""
    keep: bool = False
    trained: Collection[str] = ()
    tokenizer: PreTrainedTokenizerBase | None = None
    updates_an_epoch: int = 1
    start_kept: str = "float32"
    world: World | None = None
    sides: Sequence[tuple[nn.Module, Task]] = ()

    @cached_property
    def start(self) -> Start:
        """The weights from which the training began, kept once for all parts that ask in `setup`."""
        return Start.of(self.model, self.start_kept)

    def freeze(self, names: Collection[str]) -> None:
        """Let these parameters train no more: no gradient is computed for them, and they leave the optimizer with
        their state.
        """
        self.settle()
        named = dict(self.model.named_parameters())
        for name in names:
            named[name].requires_grad_(False)
            named[name].grad = None
        groups.take_out(self.optimizer, set(names))

    def thaw(self, names: Collection[str]) -> None:
        """Let these parameters, which `freeze` froze, train again, with a fresh state of the optimizer."""
        named = dict(self.model.named_parameters())
        for name in names:
            named[name].requires_grad_(True)
        groups.put_back(self.optimizer, {name: named[name] for name in names})

    def gradient(self, parameter: nn.Parameter) -> Tensor | None:
        """The gradient of a parameter, None where there is none. Of word embeddings of which only the rows that batches
        touched have one it is that of these rows, [rows, hidden], in the order in which they were first touched.
        """
        rows = getattr(self.optimizer, "gradient", None)
        found: Tensor | None = parameter.grad if rows is None else rows(parameter)
        return found

    def settle(self) -> None:
        """Let every weight be what it is, with nothing that the optimizer has put off: it may be read or replaced."""
        flush = getattr(self.optimizer, "flush", None)
        if flush is not None:
            flush()

    def scale_rates(self, factor: float) -> None:
        """Set every group's rate to `factor` times its peak, times the shares that parts have set."""
        groups.scale(self.optimizer, factor)

    def generator_of(self, part: Part) -> torch.Generator:
        """The part's own stream of random numbers."""
        return generator(self.seed, part.word())
