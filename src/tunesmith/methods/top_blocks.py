"""Top blocks: the lower part of the backbone is a fixed feature extractor."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method


class TopBlocks(Method):
    """Train the top blocks, what stands above them, and the head; the embeddings and the lower blocks stay.

    Formula: y = U f(g(x)) + c; f, U and c train, g does not.
    Symbols: g, the embeddings and the lower blocks (of an encoder-decoder: the encoder and the decoder's lower blocks);
    f, the top `count` blocks and what stands above them: a final norm, a pooler, an output layer that is not tied to
    the embeddings (one that is stays frozen with them); U and c, the head. Shapes: g(x) [batch, time, hidden].
    Parameters: those of f and of the head.
    Paper: Lee, Tang, Lin, "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", 2019. They try every
    number of blocks and find that a fourth of them gives nine tenths of the gain; we take two, and full fine-tuning's
    rate.
    """

    learning_rate = 5e-5
    delta = True

    count: int = Field(2, ge=1)
    """How many blocks train, counted from the top; of an encoder-decoder, the decoder's."""

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the embeddings and the lower blocks; more blocks than there are raise ModelError."""
        chosen = self._chosen(model)
        surgery.freeze_backbone(model, but=chosen.values())

    def expected(self, model: nn.Module) -> int:
        """The parameters of the top blocks, of what stands above them, and of the head."""
        return sum(parameter.numel() for parameter in self._chosen(model).values()) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The top blocks' weights and those above, by the model's own names."""
        return {**self._chosen(model)}

    def _chosen(self, model: nn.Module) -> dict[str, nn.Parameter]:
        blocks = {id(p) for block in top(model, self.count, "method.count") for p in block.parameters()}
        heads = {id(p) for head in anatomy.head(model).values() for p in head.parameters()}
        wanted = blocks | (_above(model) - _embedded(model) - heads)
        return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}


def top(model: nn.Module, count: int, setting: str) -> list[nn.Module]:
    """The top `count` blocks; of an encoder-decoder, the decoder's. Raises ModelError, with the name of the setting,
    where there are fewer, and where the blocks can't be told.
    """
    blocks = _stack(model)[1]
    if count > len(blocks):
        raise ModelError(
            f"{setting}: {count} blocks are asked for, but {type(model).__name__} has {len(blocks)}.",
            hint=f"Set it to at most {len(blocks)}.",
        )
    return list(blocks)[len(blocks) - count :]


def _stack(model: nn.Module) -> tuple[list[str], nn.ModuleList]:
    """Path of every list of blocks, the last being that which the head stands on, and that one."""
    body = anatomy.backbone(model)
    found = anatomy.stacks(body)
    double = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    if len(found) != 1 + double:
        wanted = "an encoder and a decoder" if double else "one list of blocks"
        raise ModelError(
            f"{type(model).__name__} has {len(found)} lists of blocks instead of {wanted}: its top can't be told.",
            hint="Use another method: full or lora.",
        )
    paths = {module: path for path, module in model.named_modules()}
    return [paths[stack] for stack in found.values()], list(found.values())[-1]


def _above(model: nn.Module) -> set[int]:
    """The parameters (their ids) that stand beside the blocks: of every norm, and of what comes after the blocks.

    A norm counts wherever it is registered, as some decoders name their final one before their blocks; but not where
    its path tells that it belongs to embeddings.
    """
    *others, path = _stack(model)[0]
    below = tuple(f"{other.rpartition('.')[0]}." for other in others)  # the encoder, with its own norms
    norms, passed, found = anatomy.norms(model), False, set()
    for name, module in model.named_modules():
        inside = name == path or name.startswith(f"{path}.")
        passed = passed or inside
        lower = inside or name.startswith(below) or "emb" in name.lower()
        if not lower and (passed or name in norms):
            found |= {id(parameter) for parameter in module.parameters(recurse=False)}
    return found


def _embedded(model: nn.Module) -> set[int]:
    """The parameters (their ids) of embeddings, and of an output layer that shares theirs."""
    found = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    words = anatomy.output_layer(model)
    own = {id(parameter) for parameter in words.parameters()} if words is not None else set()
    return found | own if found & own else found
