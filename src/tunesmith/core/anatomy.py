"""Where a backbone keeps its parts, found by structure: no table of model names.

head       what stands outside the backbone proper (transformers' `base_model`)
blocks     the lists of like modules that repeat down the depth
linears    the matrix products inside the blocks
attention  those linears whose input is the block's state and whose output is query or value
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

QUERY = ("query", "query_proj", "q_proj", "q_lin", "q", "wq")
VALUE = ("value", "value_proj", "v_proj", "v_lin", "v", "wv")
# One matrix that gives query, key and value at once: GPT-2's c_attn, and the usual names of fused projections.
FUSED = ("c_attn", "qkv", "qkv_proj", "query_key_value", "wqkv")


def backbone(model: nn.Module) -> nn.Module:
    """The pre-trained body without its head."""
    body = getattr(model, "base_model", model)
    assert isinstance(body, nn.Module)
    return body


def head(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with weights that stand beside the body: a classifier, a score layer, a pooler's dense layer."""
    body = backbone(model)
    if body is model:
        return {}
    return {
        name: module
        for name, module in model.named_children()
        if module is not body and any(True for _ in module.parameters())
    }


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
    """Every matrix product inside the blocks, by path."""
    body = backbone(model)
    prefixes = tuple(f"{path}." for path in stacks(body))
    root = "" if body is model else f"{model.base_model_prefix}."
    return {
        f"{root}{path}": module
        for path, module in body.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and path.startswith(prefixes)
    }


def query_and_value(model: nn.Module) -> dict[str, nn.Linear | Conv1D]:
    """The linears that make queries and values, also where one matrix makes both."""
    names = (*QUERY, *VALUE, *FUSED)
    return {path: module for path, module in linears(model).items() if path.rpartition(".")[2].lower() in names}


def features(linear: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear; GPT-2's Conv1D stores its weight the other way round."""
    rows, columns = linear.weight.shape  # type: ignore[misc]
    return (int(rows), int(columns)) if isinstance(linear, Conv1D) else (int(columns), int(rows))


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """The normalisation layers, by path: by type, and for models with one of their own, by the type's name."""
    types = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, types) or type(module).__name__.lower().endswith("norm")
    }


def undecayed(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay must not shrink: biases, and everything of a norm."""
    names = {
        f"{path}.{name}" for path, module in norms(model).items() for name, _ in module.named_parameters(recurse=False)
    }
    return names | {name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"}


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
