"""A delta's files: what a method put in or trained, and the head, in safetensors.

Where peft has the method, the two files are peft's, with its names, so that plain peft loads them:
`adapter_config.json` and `adapter_model.safetensors`. Elsewhere one file, `delta.safetensors`, holds the tensors by the
model's own names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.core import anatomy, sharing
from tunesmith.core.errors import ModelError
from tunesmith.core.files import read_json, write_json
from tunesmith.core.part import Method

PREFIX = "base_model.model."
"""What peft puts before the paths of modules."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
OWN = "delta.safetensors"
TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
# What two deltas may say differently and still be read alike.
LOOSE = re.compile(
    "base_model_name_or_path|task_type|inference_mode|target_modules|feedforward_modules|modules_to_save|.*dropout|"
    "init_.*|fan_in_fan_out|prompt_tuning_init.*|tokenizer_.*"
)


def write(model: nn.Module, method: Method, folder: Path, backbone: str) -> None:
    """Write what the method put in or trained, and the head; `backbone` is the name they belong to."""
    config = method.shipped().peft_config(model)
    tensors = {**method.tensors(model), **_heads(model, config)}
    # Copies: a file of safetensors refuses tensors that share memory, as those of tied modules do.
    stored = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(stored, folder / (OWN if config is None else WEIGHTS), metadata={"format": "pt"})
    if config is not None:
        told = {
            "task_type": _task_type(model),
            "base_model_name_or_path": backbone,
            "modules_to_save": sorted(anatomy.head(model)) or None,
            "inference_mode": True,
        }
        write_json(folder / CONFIG, {**told, **config})


def read(model: nn.Module, method: Method, folder: Path) -> None:
    """Read a delta into a model that the shipped method modified.

    Raises ModelError, before a tensor is touched: a file is missing or damaged, tensors are missing, too many or of
    another shape, peft's settings are not the method's.
    """
    config = method.peft_config(model)
    tensors = _tensors(folder, [OWN] if config is None else [WEIGHTS, CONFIG])
    if config is not None:
        _same_settings(folder, config)
    _fill({**method.tensors(model), **_heads(model, config)}, tensors, folder)


def read_into(model: nn.Module, method: Method, folder: Path, body: str, heads: Sequence[str]) -> None:
    """Read the delta of a model of any class into this one's body, which the shipped method modified.

    body: the path of the body in that class. heads: the paths beside it, of which nothing is taken. Raises ModelError
    as `read` does, before a tensor is touched.
    """
    config, beside = method.peft_config(model), tuple(f"{head}." for head in heads)
    here, found = sharing.path_of_body(model), _tensors(folder, [OWN] if config is None else [WEIGHTS, CONFIG])
    inside = {_inner(name, body): tensor for name, tensor in found.items() if not _inner(name, "").startswith(beside)}
    _fill({_inner(name, here): tensor for name, tensor in method.tensors(model).items()}, inside, folder)


def read_head(model: nn.Module, folder: Path) -> bool:
    """Read the head alone of a delta, of a model of the same class; False, and nothing read, where it does not fit."""
    found = _tensors(folder, [WEIGHTS if (folder / WEIGHTS).is_file() else OWN])
    plain, places = {_inner(name, ""): tensor for name, tensor in found.items()}, _heads(model, None)
    if not places or any(name not in plain or plain[name].shape != place.shape for name, place in places.items()):
        return False
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(plain[name])
    return True


def _inner(name: str, body: str) -> str:
    """What a tensor is called in the body, by its name in a file: without peft's prefix, and the path of the body."""
    plain = re.sub(r"^base_model\.(model\.)?", "", name)
    return plain.removeprefix(f"{body}.") if body else plain


def _fill(places: Mapping[str, Tensor], tensors: Mapping[str, Tensor], folder: Path) -> None:
    missing, extra = sorted(set(places) - set(tensors)), sorted(set(tensors) - set(places))
    if missing or extra:
        raise ModelError(
            f"The delta in {folder} doesn't fit: {len(missing)} tensors missing ({missing[:2]}), "
            f"{len(extra)} not wanted ({extra[:2]}).",
            hint="Set method.targets, and the method's other settings, to those that the delta was made with.",
        )
    wrong = [name for name, place in places.items() if place.shape != tensors[name].shape]
    if wrong:
        found, wanted = tuple(tensors[wrong[0]].shape), tuple(places[wrong[0]].shape)
        raise ModelError(
            f"The delta in {folder} doesn't fit: {wrong[0]} has shape {found}, the model asks for {wanted} "
            f"({len(wrong)} such tensors).",
            hint="It was made for another backbone, or for another number of classes.",
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])


def _heads(model: nn.Module, config: Mapping[str, Any] | None) -> dict[str, Tensor]:
    # peft's prompts wrap the model itself, its layers a tuner around it: one segment more in the names.
    prompts = config is not None and "num_virtual_tokens" in config
    prefix = "" if config is None else "base_model." if prompts else PREFIX
    return {
        f"{prefix}{name}.{key}": tensor
        for name, head in anatomy.head(model).items()
        for key, tensor in head.state_dict(keep_vars=True).items()
    }


def _task_type(model: nn.Module) -> str | None:
    name = type(model).__name__
    return next((told for ending, told in TASK_TYPES.items() if name.endswith(ending)), None)


def _tensors(folder: Path, names: list[str]) -> dict[str, Tensor]:
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise ModelError(
            f"The folder {folder} is no such delta: it has no {' and no '.join(lacking)}.",
            hint="Give the `model` folder of a run of this method, or a folder that peft saved.",
        )
    try:
        return load_file(folder / names[0])
    except SafetensorError as error:
        raise ModelError(f"The delta {folder / names[0]} is damaged: {error}.", hint="Copy the file again.") from error


def _same_settings(folder: Path, ours: Mapping[str, Any]) -> None:
    theirs = read_json(folder / CONFIG)
    keys = [key for key in ours if not LOOSE.fullmatch(key)]
    # What peft leaves out, and what it writes as null, false or empty, is the same to it.
    other = [key for key in keys if (theirs.get(key) or None) != (ours[key] or None)]
    if other:
        told = ", ".join(f"{key}={theirs.get(key)!r} (the method: {ours[key]!r})" for key in other)
        raise ModelError(
            f"The delta in {folder} was made with other settings: {told}.", hint="Set the method's to the delta's."
        )
