"""Where a backbone keeps its parts, found by structure: no table of model names.

head       the task's own modules, outside the backbone proper (transformers' `base_model`)
stacks     the lists of like modules (blocks) that repeat down the depth
linears    the matrix products inside the blocks
roles      what each of them is for: query, key, value, the way back from attention, the feed-forward's two
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import MODEL_MAPPING, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from tunesmith.core.beside import Beside
from tunesmith.core.linear import features
from tunesmith.core.sealed import core, outside

FRESH = "fresh_head"
"""The key of a model's configuration that lists modules which its backbone's file has no weights for."""

_NAMES = {
    "query": ("query", "query_proj", "q_proj", "q_lin", "q", "wq", "pos_query_proj", "pos_q_proj"),
    "key": ("key", "key_proj", "k_proj", "k_lin", "k", "wk", "pos_key_proj", "pos_proj"),
    "value": ("value", "value_proj", "v_proj", "v_lin", "v", "wv"),
    # One matrix that gives query, key and value at once: GPT-2's c_attn, and the usual names of fused projections.
    "qkv": ("c_attn", "qkv", "qkv_proj", "query_key_value", "wqkv"),
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}


def backbone(model: nn.Module) -> nn.Module:
    """The pre-trained body without its head."""
    body = getattr(model, "base_model", model)
    assert isinstance(body, nn.Module)
    return body


def head(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with weights that stand beside the body: a classifier, a score layer.

    The output layer of a language model is no head: it is pre-trained as the body is. What stands around it is one only
    where the backbone's file has no weights for it (`note_fresh`): its path is then longer than a name.
    """
    body, words = backbone(model), output_layer(model)
    if body is model:
        # T5's class for questions holds its body's modules itself, and beside them its head.
        beside = {} if _is_bare(model) else dict(model.named_children())
        return {name: module for name, module in beside.items() if type(module) is nn.Linear and module is not words}
    found: dict[str, nn.Module] = {}
    for name, module in model.named_children():
        if isinstance(module, Beside):
            found |= {f"{name}.{path}": head for path, head in module.heads.items()}
        elif module is not body and list(module.parameters()) and all(m is not words for m in module.modules()):
            found[name] = module
    fresh = getattr(getattr(model, "config", None), FRESH, None) or ()
    return found | {path: module for path, module in model.named_modules() if path in fresh and path not in found}


def note_fresh(model: nn.Module, missing: Collection[str]) -> list[str]:
    """Note, in the configuration and so for every copy of the model, what was started fresh in a head that is not fresh
    as a whole: the modules all of whose weights are among the `missing` names. Returns their paths.
    """
    if hasattr(model.config, FRESH):
        delattr(model.config, FRESH)
    known = {module for one in (backbone(model), *head(model).values()) for module in one.modules()}
    found: list[str] = []
    for path, module in model.named_modules():
        names = {f"{path}.{name}" for name in module.state_dict()}
        if module not in known and names and names <= set(missing):
            found.append(path)
            known |= set(module.modules())
    if found:
        setattr(model.config, FRESH, found)
    return found


def _is_bare(model: nn.Module) -> bool:
    """Whether this is no class of transformers with a head."""
    config = getattr(model, "config", None)
    bare = MODEL_MAPPING.get(type(config), ()) if isinstance(config, PreTrainedConfig) else type(model)
    return type(model) in (bare if isinstance(bare, tuple | list) else (bare,))


def output_layer(model: nn.Module) -> nn.Module | None:
    """The layer that gives a language model's scores of the vocabulary; None where there is none."""
    words = getattr(model, "get_output_embeddings", None)
    return words() if callable(words) else None


def word_embeddings(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that look up words, by path: one, or several that share their weight (T5's encoder and decoder)."""
    if getattr(model, "main_input_name", "") == "pixel_values":
        return {}
    words = getattr(model, "get_input_embeddings", lambda: None)()
    if words is None:
        return {}
    return {
        path: module
        for path, module in outside(model, every=True)
        if module is words or (isinstance(core(module), nn.Embedding) and module.weight is words.weight)
    }


def head_parameters(model: nn.Module) -> int:
    """How many parameters the head has."""
    return sum(parameter.numel() for module in head(model).values() for parameter in module.parameters())


def stacks(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The lists of blocks, by path: one for an encoder or a decoder, two for an encoder-decoder."""
    found = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    }
    # A list inside a block (the sub-layers of T5's) is no stack of its own.
    outer = {path: module for path, module in found.items() if not any(path.startswith(f"{other}.") for other in found)}
    return outer


def linears(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """Every matrix product inside the blocks, by path; of one that an earlier delta wraps, with that."""
    body = backbone(model)
    prefixes = tuple(f"{path}." for path in stacks(body))
    root = "" if body is model else f"{model.base_model_prefix}."
    return {
        f"{root}{path}": cast("nn.Linear | Conv1D", module)
        for path, module in outside(body)
        if isinstance(core(module), nn.Linear | Conv1D) and path.startswith(prefixes)
    }


def roles(model: nn.Module) -> dict[str, str]:
    """What each linear of the blocks is for, by path; a block without queries and values gives none.

    query, key, value, qkv   make the attention's inputs; qkv makes them all at once
    attention                gives the attention's output back to the block's state
    up, down                 the feed-forward: from the block's state (a gate too), and back to it
    """
    found: dict[str, str] = {}
    every = linears(model)
    for stack, blocks in stacks(model).items():
        for number, block in enumerate(blocks):
            start = f"{stack}.{number}."
            found |= _roles_of_block(start, block, [path for path in every if path.startswith(start)], every)
    return found


def _roles_of_block(
    start: str, block: nn.Module, paths: list[str], every: Mapping[str, nn.Linear | Conv1D]
) -> dict[str, str]:
    """The inputs of attention go by their usual names; its output is the last other linear in a module with them."""
    found = {path: role for path in paths if (role := _ROLES.get(path.rpartition(".")[2].lower())) is not None}
    if not found:
        return {}
    inputs = list(found)
    hidden = features(every[inputs[0]])[0]
    homes = {home for path in inputs if (home := _home(path, start, block, paths))}
    for home in homes:
        inside = [path for path in paths if path.startswith(f"{home}.") and path not in inputs]
        if inside:
            found[inside[-1]] = "attention"
    rest = [path for path in paths if path not in found and not path.startswith(tuple(f"{home}." for home in homes))]
    back = [path for path in rest if features(every[path])[1] == hidden]
    for path in rest:
        narrowing = path in back and (features(every[path])[0] != hidden or path == back[-1])
        found[path] = "down" if narrowing else "up"
    return {path: found[path] for path in paths if path in found}


def _home(path: str, start: str, block: nn.Module, paths: list[str]) -> str:
    """The smallest module of the block that holds an attention whole: its inputs and a further linear."""
    parts = path.removeprefix(start).split(".")
    for length in range(len(parts) - 1, 0, -1):
        relative = ".".join(parts[:length])
        if isinstance(block.get_submodule(relative), nn.ModuleList):
            return ""
        inside = [other for other in paths if other.startswith(f"{start}{relative}.")]
        if any(_ROLES.get(other.rpartition(".")[2].lower()) is None for other in inside):
            return f"{start}{relative}"
    return ""


def query_and_value(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """The linears that make queries and values, also where one matrix makes both."""
    every = linears(model)
    return {path: every[path] for path, role in roles(model).items() if role in ("query", "value", "qkv")}


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """The normalisation layers, by path: by type, and for models with one of their own, by the type's name."""
    types = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
    return {
        path: module
        for path, module in outside(model)
        if isinstance(core(module), types) or type(core(module)).__name__.lower().endswith("norm")
    }


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay must not shrink: biases, vectors, and everything of a norm."""
    names = {
        f"{path}.{name}" for path, module in norms(model).items() for name, _ in module.named_parameters(recurse=False)
    }
    return names | {
        name for name, parameter in model.named_parameters() if parameter.dim() < 2 or name.rpartition(".")[2] == "bias"
    }


def positions(model: nn.Module) -> int | None:
    """The longest sequence that the backbone has positions for; None where it is not limited."""
    config = getattr(model, "config", None)
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding) and path.endswith(("position_embeddings", "embed_positions")):
            # RoBERTa's kind counts positions from the padding index on.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return int(module.num_embeddings) - unused
    return int(limit) if limit else None


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Every block of every stack, by path."""
    return {f"{stack}.{n}": block for stack, every in stacks(model).items() for n, block in enumerate(every)}


def norms_after(model: nn.Module) -> dict[str, str]:
    """The norm that a block applies to the sum of its feed-forward's output and input, by the path of the linear `down`
    (BERT's kind); no entry where the norm stands before the feed-forward (GPT-2's, Llama's, T5's).

    The order of the calls tells it, in one run of the backbone on two tokens; it leaves no trace.
    """
    found: dict[str, str] = {}
    places = [path for path, role in roles(model).items() if role == "down"]
    starts = {path: next(f"{block}." for block in blocks(model) if path.startswith(f"{block}.")) for path in places}
    watched = {**norms(model), **{path: model.get_submodule(path) for path in places}}
    for (path, _, output), (following, entering, _) in pairwise(_calls(model, watched)):
        # A norm of the feed-forward's own output (Gemma 2's) gets that very tensor, no sum with it.
        if path in starts and following not in starts and following.startswith(starts[path]) and entering is not output:
            found.setdefault(path, following)
    return found


def _calls(model: nn.Module, watched: Mapping[str, nn.Module]) -> list[tuple[str, Any, Any]]:
    """Which of the watched modules a run calls, in order: (path, what goes in, what comes out)."""
    seen: list[tuple[str, Any, Any]] = []

    def watch(path: str, module: nn.Module) -> RemovableHandle:
        def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            seen.append((path, next(iter([*given, *named.values()])), output))

        return module.register_forward_hook(note, with_kwargs=True)

    modes = {module: module.training for module in model.modules()}
    handles = [watch(path, module) for path, module in watched.items()]
    try:
        _run(model.eval())
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return seen


def _run(model: nn.Module) -> None:
    """Run the backbone on two tokens, or on an image, for nothing but what its modules do."""
    body, device = backbone(model), device_of(model)
    accepted = inspect.signature(body.forward).parameters
    # No padding, about whose lack of a mask the model would warn; a mask is what models on "meta" can't read.
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    ids = torch.full((1, 2), 1 if padding == 0 else 0, device=device)  # [batch, time]
    given = {name: ids for name in ("input_ids", "decoder_input_ids") if name in accepted}
    if "pixel_values" in accepted:
        config: Any = body.config
        side = getattr(config, "image_size", 64)
        given["pixel_values"] = torch.zeros(1, config.num_channels, side, side).to(next(body.parameters()))
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        body(**given)
