"""The lowest part of a backbone: what it runs before its blocks, and its first blocks. Found by one run on one example.

Whether it trains, whether it is still the same, and whether anything but the backbone's own modules acts in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tunesmith.core import anatomy
from tunesmith.core.surgery import Inserted, Wrapper

OURS = ("tunesmith.core.", "tunesmith.train.", "transformers.")
"""Hooks that are made there change nothing but by modules and arguments that are looked at as well."""


@dataclass(frozen=True)
class Lower:
    """What a backbone runs first.

    before: every module that is done when the first block begins, and what was put into those around the blocks.
    around: the modules that the blocks stand in. blocks: the stack that runs first; inner: the modules of each block.
    maker: the module whose output is the first block's input, None where there is none; its type and width, and
    `beside`, the others of `before`. linked: why no block can be left out; empty where each gets what the one before
    gave, a tensor, and nothing else does. added: what was put into any of these modules. structure: what differs when
    one of these modules is replaced.
    """

    before: list[nn.Module]
    around: list[nn.Module]
    blocks: list[nn.Module]
    inner: list[list[nn.Module]]
    maker: nn.Module | None
    dtype: torch.dtype
    width: int
    beside: list[nn.Module]
    linked: str
    added: list[Wrapper | Inserted]
    structure: tuple[int, ...]

    def same(self) -> bool:
        """Whether the modules are still the ones that were found."""
        return self.structure == _structure(self.around, self.before, *self.inner)

    def depth(self) -> int:
        """How many of the lowest blocks don't train, with all that stands before them; 0 where that trains."""
        if _trains(self.before) or _trains(self.around):
            return 0
        return next((number for number, inner in enumerate(self.inner) if _trains(inner)), len(self.blocks))

    def modules(self, depth: int) -> list[nn.Module]:
        """Every module before the blocks and in the lowest `depth` of them."""
        return [*self.before, *self.inside(depth)]

    def inside(self, depth: int) -> list[nn.Module]:
        """Every module of the lowest `depth` blocks."""
        return [module for inner in self.inner[:depth] for module in inner]

    def switches(self) -> bytes:
        """Which of the things that were put in act now."""
        return bytes(module.active for module in self.added)

    def stranger(self, depth: int) -> str:
        """Whose hook acts in those modules, or before what stands around them: its name; empty where there is none."""
        modules = self.modules(depth)
        hooks = [hook for module in modules for hook in module._forward_pre_hooks.values()]
        hooks += [hook for module in modules for hook in module._forward_hooks.values()]
        hooks += [hook for module in self.around for hook in module._forward_pre_hooks.values()]
        origins = (_origin(hook) for hook in hooks)
        return next((origin for origin in origins if not origin.startswith(OURS)), "")


def find(backbone: nn.Module, inputs: Mapping[str, Any]) -> Lower | str:
    """The lower part of a backbone, from a run on the first example of `inputs`; or a sentence why it can't be told."""
    calls = _calls(backbone, _first(inputs))
    name = type(backbone).__name__
    stacks = [list(stack) for stack in anatomy.stacks(backbone).values()]
    blocks = next((stack for call in calls if call.begins for stack in stacks if call.module in stack), None)
    if blocks is None:
        return f"{name} runs none of its blocks."
    runs = [call for call in calls if call.module in blocks]
    if [call.module for call in runs if call.begins] != blocks:
        return f"{name} does not run its blocks once each, one after the other."
    return _lower(backbone, blocks, calls[: calls.index(runs[0])], runs)


def weights(modules: Iterable[nn.Module]) -> tuple[tuple[int, int], ...]:
    """What differs when a weight of these modules is another one, or has changed."""
    tensors = (
        tensor for module in modules for kept in (module._parameters, module._buffers) for tensor in kept.values()
    )
    return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors if tensor is not None)


def hush(modules: Iterable[nn.Module]) -> Callable[[], None]:
    """Put each of these modules as at evaluation; what is returned puts them back."""
    changed = [module for module in modules if module.training]
    _set(changed, False)
    return partial(_set, changed, True)


def stand_in(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Call `forward` in the place of the module's own, which it gets first; what is returned undoes it."""
    own = module.__dict__.get("forward")
    module.forward = partial(forward, module.forward)
    return partial(_put_back, module, own)


def _put_back(module: nn.Module, own: Callable[..., Any] | None) -> None:
    if own is None:
        del module.forward
    else:
        module.forward = own


@dataclass(frozen=True, eq=False)
class _Call:
    """A block begins, with its hidden states; or a module is done, with its output."""

    module: nn.Module
    begins: bool
    value: Any


def _calls(backbone: nn.Module, inputs: Mapping[str, Any]) -> list[_Call]:
    """What runs on these inputs, in order: blocks as they begin and are done, and every module outside of blocks as it
    is done. Nothing drops out, and no random number is drawn.
    """
    calls: list[_Call] = []
    blocks = list(anatomy.blocks(backbone).values())
    inside = {module for block in blocks for module in block.modules()}
    watched = [*blocks, *(module for module in backbone.modules() if module not in inside)]

    def begins(module: nn.Module, given: tuple[Any, ...], by_name: dict[str, Any]) -> None:
        calls.append(_Call(module, True, given[0] if given else by_name.get("hidden_states")))

    def done(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        calls.append(_Call(module, False, output))

    # Before other hooks, which may put something else in the place of what the block before gave.
    handles: list[RemovableHandle] = [
        block.register_forward_pre_hook(begins, prepend=True, with_kwargs=True) for block in blocks
    ]
    handles += [module.register_forward_hook(done) for module in watched]
    device = anatomy.device_of(backbone)
    undo = hush(backbone.modules())
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            backbone(**inputs)
    finally:
        undo()
        for handle in handles:
            handle.remove()
    return calls


def _first(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first of a batch of examples."""
    many = [len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()]

    def of_batch(value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0 and len(value) == many[0]

    return {name: value[:1] if of_batch(value) else value for name, value in inputs.items()}


def _lower(backbone: nn.Module, blocks: list[nn.Module], earlier: list[_Call], runs: list[_Call]) -> Lower:
    """What was found, from what was done before the first block began and from what the blocks got and gave."""
    inner = [list(block.modules()) for block in blocks]
    around = [m for m in backbone.modules() if m is not blocks[0] and blocks[0] in set(m.modules())]
    put_in = [child for module in around for child in module.children() if isinstance(child, Inserted)]
    before = dict.fromkeys(m for top in [*(call.module for call in earlier), *put_in] for m in top.modules())
    entering = runs[0].value
    maker = next((call.module for call in reversed(earlier) if call.value is entering), None)
    chained = all(one.value is next_one.value for one, next_one in pairwise(runs) if next_one.begins)
    states = isinstance(entering, Tensor) and entering.dim() == 3 and chained  # [batch, time, hidden]
    made = set(maker.modules()) if maker is not None else set()
    every = [*before, *(module for modules in inner for module in modules)]
    return Lower(
        before=list(before),
        around=around,
        blocks=blocks,
        inner=inner,
        maker=maker,
        dtype=entering.dtype if states else torch.float32,
        width=entering.shape[-1] if states else 0,
        beside=[module for module in before if module not in made],
        linked="" if states else f"the blocks of {type(backbone).__name__} hand on more than one tensor",
        added=[module for module in every if isinstance(module, Wrapper | Inserted)],
        structure=_structure(around, list(before), *inner),
    )


def _structure(*groups: list[nn.Module]) -> tuple[int, ...]:
    return tuple(id(child) for modules in groups for module in modules for child in module._modules.values())


def _trains(modules: Iterable[nn.Module]) -> bool:
    """Whether a parameter of these modules, not of those in them, trains."""
    own = (parameter for module in modules for parameter in module._parameters.values() if parameter is not None)
    return any(parameter.requires_grad for parameter in own)


def _set(modules: Iterable[nn.Module], training: bool) -> None:
    for module in modules:
        module.training = training


def _origin(hook: Any) -> str:
    """Where a hook is made: the module of Python code and its name in there."""
    hook = hook.func if isinstance(hook, partial) else hook
    maker = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{maker.__module__}.{maker.__qualname__}"
