"""Where every parameter of a model stands, from the bottom to the top: what rates and freezing go by.

0        what comes before the blocks: the embeddings
1 … n    the blocks; of an encoder-decoder those of the encoder, then those of the decoder
n + 1    what stands above the blocks: a last norm, a pooler, the scores of words where they are no embeddings
n + 2    the task's head
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import RecipeError

BOTTOM = 0
"""The place of the embeddings."""


@dataclass(frozen=True)
class Places:
    """of: the place of every parameter, by its name. blocks: n."""

    of: Mapping[str, int]
    blocks: int

    @property
    def above(self) -> int:
        """The place above the blocks."""
        return self.blocks + 1

    @property
    def head(self) -> int:
        """The place of the head."""
        return self.blocks + 2

    def names(self, places: Collection[int]) -> list[str]:
        """The parameters at some places."""
        return [name for name, place in self.of.items() if place in places]


def places(model: nn.Module) -> Places:
    """The place of every parameter, each once. What stands beside the blocks goes with the block that was registered
    before it (T5's norm after its encoder); what a method put into a block goes with the block.
    """
    heads = {id(p) for module in anatomy.head(model).values() for p in module.parameters()}
    blocks = list(anatomy.blocks(model).values())
    inside = {id(p): number for number, block in enumerate(blocks, 1) for p in block.parameters()}
    tables = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    found, last = {}, BOTTOM
    for name, parameter in model.named_parameters():
        if id(parameter) in heads:
            found[name] = len(blocks) + 2
        elif id(parameter) in inside:
            found[name] = last = inside[id(parameter)]
        elif id(parameter) in tables or last == BOTTOM:
            found[name] = BOTTOM
        else:
            found[name] = last if last < len(blocks) else len(blocks) + 1
    return Places(found, len(blocks))


def check_trained(model: nn.Module, schedule: str, acts: str) -> None:
    """Refuse a schedule on blocks of a model of which nothing but what stands above them trains: RecipeError."""
    found = places(model)
    if all(found.of[name] > found.blocks for name in surgery.trained(model)):
        raise RecipeError(
            f"{schedule} {acts} blocks, and the method trains none of them.",
            hint=f"Use a method that trains blocks, such as full or lora, or leave {schedule} out.",
        )
