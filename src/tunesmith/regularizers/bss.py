"""BSS: batch spectral shrinkage, against features that carry over nothing but harm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Part
from tunesmith.core.step import Batch, Step, Training


def smallest_squared(features: Tensor, count: int) -> Tensor:
    """The sum of the squares of the `count` smallest singular values of features [examples, hidden]: a scalar."""
    # In float32 and without autocast: singular values of a matrix in half precision are rounding.
    with torch.autocast(features.device.type, enabled=False):
        values = torch.linalg.svdvals(features.float())  # [min(examples, hidden)], the largest first
    penalty: Tensor = (values[-count:] ** 2).sum()
    return penalty


class Bss(Part):
    """Shrink the smallest singular values of a batch's features, which hold what does not transfer.

    Formula: strength * sum over the k smallest of s_i^2.
    Symbols: s_i the singular values of the features F [examples, hidden] that enter the head's last linear; k is
    `count`. Shapes: a scalar a micro-batch, in its share of the update.
    Paper: Chen et al., "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer
    Learning", 2019 (k = 1, strength 0.001). The features of a micro-batch stand for those of a batch.
    """

    by_hand: ClassVar[bool] = False

    strength: float = Field(0.001, ge=0)
    """Weight of the penalty."""
    count: int = Field(1, ge=1)
    """How many of the smallest singular values shrink."""

    _features: Tensor | None = PrivateAttr(default=None)

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Look at the head, and change nothing: a model without one raises RecipeError."""
        if self.strength and _last(model) is None:
            raise RecipeError(
                f"bss reads what enters a task's head, and {type(model).__name__} has none.",
                hint="Leave it out; it is for tasks with one answer a text, such as classify.",
            )

    def setup(self, training: Training) -> None:
        """Watch what enters the head's last linear."""
        last = _last(training.model)
        if self.strength and last is not None:
            last.register_forward_pre_hook(self._catch)

    def loss(self, step: Step) -> Tensor | None:
        """The penalty. A head that gives an answer a token raises RecipeError."""
        features, self._features = self._features, None
        if not self.strength or features is None:
            return None
        vectors = one_each(features, step.batch, step.outputs.logits)
        if vectors is None:
            raise RecipeError(
                f"bss needs one vector an example; the head of the task '{step.task.word()}' gets "
                f"{tuple(features.shape)} for {len(step.batch.rows)} examples.",
                hint="Leave it out.",
            )
        return step.share * self.strength * smallest_squared(vectors, self.count)

    def _catch(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        if module.training:
            self._features = given[0]


def one_each(features: Tensor, batch: Batch, logits: Tensor) -> Tensor | None:
    """One vector an example, [examples, hidden]: the features where they are that already; of [examples, time, hidden]
    those of the last real token, which a decoder's head reads. None where the head answers more than once an example:
    logits are not [examples, classes].
    """
    count, mask = len(batch.rows), batch.inputs.get("attention_mask")
    if logits.dim() != 2 or features.shape[0] != count or len(logits) != count:
        return None
    if features.dim() == 2 or mask is None:
        return features if features.dim() == 2 else None
    places = torch.arange(mask.shape[1], device=mask.device)
    return features[torch.arange(count, device=mask.device), (places * mask).argmax(1)]


def _last(model: nn.Module) -> nn.Linear | None:
    linears = [
        module for top in anatomy.head(model).values() for module in top.modules() if isinstance(module, nn.Linear)
    ]
    return linears[-1] if linears else None
