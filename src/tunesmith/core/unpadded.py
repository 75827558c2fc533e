"""No padding: the blocks of an unmodified model of transformers run on one row of real tokens.

Found by structure: hooks on the first block of a stack turn hidden states [batch, time, hidden] into a row [1, total,
hidden], hooks on the last turn it back, and attention goes through transformers' interfaces (`unpadded_attention`).
Embeddings and heads see padded shapes as before. What is computed is the same within rounding; a probe checks that.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from tunesmith.core import anatomy, unpadded_attention, unpadded_probe
from tunesmith.core.unpadded_attention import PREFIX
from tunesmith.core.unpadded_hooks import MASK, Call, Enter, Leave, Run, Stack, foreign


@contextmanager
def unpadded(model: nn.Module, unread: bool = True, fast_dropout: bool = True) -> Iterator[str]:
    """Inside, the model's stacks of blocks run on real tokens alone; yields "", or a sentence that says why this model
    stays as it is. Blocks get hidden states [1, total, hidden] and a Layout as attention mask.

    unread: where after the last block only each sequence's first token is read, or only its last, layouts say so
    (`Layout.read`); the last block may then give those alone, [1, sequences, hidden]. What nothing reads is then NaN in
    the padded output, or zero where NaN would reach a gradient. A call that asks for hidden states, attentions or a
    cache of keys and values stays padded; without being asked, models keep no such cache here. fast_dropout: whether on
    a CPU attention drops out by the masks of `dropout.Masks`, or by torch's own. At exit everything is as before.
    """
    with ExitStack() as undo:
        why = "" if _inside(model) else _unfit(model) or _enter(model, Run(exact=not fast_dropout), unread, undo)
        if why:
            undo.close()
        yield why


def _inside(model: nn.Module) -> bool:
    return any((config._attn_implementation or "").startswith(PREFIX) for config in _configs(model))


def _unfit(model: nn.Module) -> str:
    """Why the model can't run without padding, as far as its structure tells it."""
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel) or not _stacks(model, Run()):
        return f"{name} has no stack of blocks with an attention mask."
    if not unpadded_probe.reads_text(model):
        return f"{name} reads no text with an attention mask."
    if anatomy.device_of(model).type == "meta":
        return f"{name} has no weights yet."
    for config in _configs(model):
        if not unpadded_attention.has_masks(config._attn_implementation or ""):
            return f"Its attention implementation '{config._attn_implementation}' makes masks of its own."
        for entry in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "attention_chunk_size"):
            if getattr(config, entry, None):
                return f"{name} has '{entry}', which needs padded blocks."
    if any(isinstance(part, PreTrainedModel) and not part._can_set_attn_implementation() for part in model.modules()):
        return f"The attention of {name} does not go through transformers' interface."
    if any(foreign(block) for block in anatomy.blocks(model).values()):
        return "A hook on a block reads padded states."
    return ""


def _enter(model: nn.Module, run: Run, unread: bool, undo: ExitStack) -> str:
    """Put hooks and attention in, to be taken out by `undo`; why not, where the probe shows a difference."""
    probe = unpadded_probe.Probe.of(model)
    if isinstance(probe, str):
        return probe
    found = _stacks(model, run)
    _attend(model, undo)
    _hook(model, found, run, undo)
    why = probe.differs()
    if not why and not any(stack.ran for stack in found):
        why = f"Every call of {type(model).__name__} asks for what only padded blocks give, such as a cache."
    if why or not unread:
        return why
    for stack in found:
        stack.reads, stack.fill = probe.read(stack.blocks[-1])
    run.last = any(stack.reads == "last" for stack in found)
    run.outside = _outside(model, found)
    return ""


def _outside(model: nn.Module, found: Sequence[Stack]) -> list[nn.Module]:
    """Every module but those of the blocks; of these only the last."""
    inside = {module for stack in found for block in stack.blocks for module in block.modules()}
    return [module for module in model.modules() if module not in inside] + [stack.blocks[-1] for stack in found]


def _stacks(model: nn.Module, run: Run) -> list[Stack]:
    found = []
    for blocks in anatomy.stacks(model).values():
        names = _arguments(blocks[0])
        if MASK in names:
            found.append(Stack(run, blocks, names))
    return found


def _arguments(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)[1:]  # without `self`


def _configs(model: nn.Module) -> list[Any]:
    """The configurations of the model and of the models in it, each once."""
    found = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    return list(found.values())


def _attend(model: nn.Module, undo: ExitStack) -> None:
    """Let attention go through our implementation."""
    for config in _configs(model):
        original = config._attn_implementation_internal
        undo.callback(setattr, config, "_attn_implementation_internal", original)
        config._attn_implementation_internal = unpadded_attention.register(original)


def _hook(model: nn.Module, found: Sequence[Stack], run: Run, undo: ExitStack) -> None:
    def note(handle: RemovableHandle) -> None:
        undo.callback(handle.remove)

    for path, owner in model.named_modules():
        if isinstance(owner, PreTrainedModel):
            call = Call(run, path, _arguments(owner))
            note(owner.register_forward_pre_hook(call.begin, with_kwargs=True))
            note(owner.register_forward_hook(call.end, always_call=True))
    for stack in found:
        for number, block in enumerate(stack.blocks):
            note(block.register_forward_pre_hook(Enter(stack, number == 0), with_kwargs=True))
        note(stack.blocks[-1].register_forward_hook(Leave(stack), with_kwargs=True, prepend=True))
