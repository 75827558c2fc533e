"""What other tasks' models have beside the body that they share with the model that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import nn


class Beside(nn.Module):
    """The modules of models that run over one body: children of the first of them, whose optimizer, device and mode
    they share.

    models: by the name of their task. children: of each, the modules beside its body, by name. heads: those of them
    that are a task's head, by their paths below this module.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        children: Mapping[str, Mapping[str, nn.Module]],
        heads: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        for name, own in children.items():
            holder = nn.Module()
            for child, module in own.items():
                holder.add_module(child, module)
            self.add_module(name, holder)
        self.heads = dict(heads)
        # In a tuple, as they are no modules of this one: they hold the body.
        self.models = tuple(models.values())

    def train(self, mode: bool = True) -> Self:
        """The mode of these modules, and of the models that they belong to."""
        super().train(mode)
        for model in self.models:
            model.training = mode
        return self
