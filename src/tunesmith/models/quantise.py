"""Backbones whose linears are stored in 4 or 8 bits: packed as they are loaded, whole again when merged.

transformers loads and packs one weight after another, so that a large model never stands in memory in full. The head
and the output layer stay as they are. Packing is done on the CPU, whatever the device: the same file gives the same
bits, by which a delta knows its backbone.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import transformers
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import MissingExtraError, ModelError
from tunesmith.core.linear import weight_of, with_weight
from tunesmith.core.quantised import Quantised, of_bitsandbytes

BITS = {"nf4": 4, "int8": 8}
LEFT_BEHIND = ("hf_quantizer", "quantization_method", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit")


def loading(kind: str | None, config: PreTrainedConfig, auto_class: str) -> dict[str, Any]:
    """What `from_pretrained` must be told to quantise a model as `kind`; nothing for None.

    Without bitsandbytes MissingExtraError is raised, for a model that is stored quantised ModelError.
    """
    if getattr(config, "quantization_config", None):
        raise ModelError(
            "The model's file holds quantised weights, which can't be trained or merged exactly.",
            hint="Name the model that it was made from, and set model.quantize: nf4 or int8.",
        )
    if kind is None:
        return {}
    _check_installed(kind)
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
    told = BitsAndBytesConfig(
        load_in_4bit=kind == "nf4",
        bnb_4bit_quant_type="nf4",
        load_in_8bit=kind == "int8",
        llm_int8_skip_modules=_kept(model),
    )
    return {"quantization_config": told, "device_map": {"": "cpu"}}


def settle(model: PreTrainedModel) -> None:
    """Put our layers in the places of bitsandbytes', and let the model be an ordinary one to its library."""
    for path, module in list(model.named_modules()):
        layer = of_bitsandbytes(module)
        if layer is not None:
            surgery.replace(model, path, layer)
    for name in LEFT_BEHIND:
        vars(model).pop(name, None)
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            for name in ("quantization_config", "_is_quantized"):
                vars(part.config).pop(name, None)


@torch.no_grad()
def dequantise(model: PreTrainedModel) -> None:
    """Make a quantised model a plain one in float32 whose linears compute as they did; another stays as it is."""
    packed = {path: module for path, module in model.named_modules() if isinstance(module, Quantised)}
    for path, layer in packed.items():
        surgery.replace(model, path, with_weight(layer, weight_of(layer)))
    if packed:
        model.float()
        model.config.dtype = torch.float32


def _kept(model: nn.Module) -> list[str]:
    words, body = anatomy.output_layer(model), anatomy.backbone(model)
    # All that stands beside the body, since the file may lack what a language model has around its output layer.
    beside = [name for name, module in model.named_children() if body is not model and module is not body]
    outside = {*anatomy.head(model), *beside}
    return [*sorted(outside), *(path for path, module in model.named_modules() if module is words)]


def _check_installed(kind: str) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            f"model.quantize: {kind} needs the package bitsandbytes, which is not installed.",
            hint="Install it: pip install 'tunesmith[quantize]'. Or leave model.quantize out.",
        )
