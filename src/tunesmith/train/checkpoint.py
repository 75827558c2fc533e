"""Checkpoints: everything an exact resume needs, in safetensors and JSON, written atomically.

A checkpoint is the folder `step-00000120` with `tensors.safetensors` (weights that train, buffers, optimizer state,
parts' tensors, random generators), `state.json` (position, rates, parts' values) and `checksums.json`. The last two
are kept, so that a damaged one leaves another to go on from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import remove_leftovers, sha256, write_json, writing_folder
from tunesmith.core.notes import warn
from tunesmith.core.part import Part
from tunesmith.core.step import Training
from tunesmith.train.adamw import AdamW

KEPT = 2
TENSORS, STATE, CHECKSUMS = "tensors.safetensors", "state.json", "checksums.json"


def weights(training: Training) -> dict[str, Tensor]:
    """What training changes in a model: parameters that train or did, and buffers that are saved."""
    model = training.model
    if isinstance(training.optimizer, AdamW):
        training.optimizer.release()
    persistent = set(model.state_dict())
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**{name: p.detach() for name, p in model.named_parameters() if name in training.trained}, **buffers}


def restore_weights(training: Training, tensors: dict[str, Tensor]) -> None:
    """Put back what `weights` gave."""
    with torch.no_grad():
        for name, place in weights(training).items():
            place.copy_(tensors[name])


def save(folder: Path, training: Training, parts: Sequence[Part], extra: dict[str, Any]) -> Path:
    """Write a checkpoint of this moment into `folder`, and remove all but the last two."""
    tensors = {f"weights.{name}": tensor for name, tensor in weights(training).items()}
    tensors |= {f"random.{name}": tensor for name, tensor in _random_states().items()}
    optimizer, scalars, groups = _optimizer_state(training.optimizer)
    tensors |= optimizer
    values: dict[str, dict[str, Any]] = {}
    for name, part in _named(parts):
        state = {**part.state(), **{f"parameter.{key}": value.detach() for key, value in part.parameters()}}
        tensors |= {f"parts.{name}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        values[name] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    path = folder / f"step-{training.step:08d}"
    with writing_folder(path, replace=True) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary / TENSORS)
        write_json(
            temporary / STATE,
            {
                "step": training.step,
                "total_steps": training.total_steps,
                "groups": groups,
                "scalars": scalars,
                "parts": values,
                **extra,
            },
        )
        write_json(temporary / CHECKSUMS, {name: sha256(temporary / name) for name in (TENSORS, STATE)})
    # What no checkpoint can refer to any more goes, and not before: a kill at any moment leaves what a resume needs.
    kept = found(folder)[-KEPT:]
    best = {json.loads((one / STATE).read_text(encoding="utf-8")).get("best") for one in kept if not _damage(one)}
    for old in [*found(folder)[:-KEPT], *[one for one in folder.glob("best-*") if one.name not in best]]:
        shutil.rmtree(old)
    return path


def found(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the oldest first."""
    return sorted(folder.glob("step-*"))


def last_whole(folder: Path) -> Path | None:
    """The last checkpoint whose files are as they were written; damaged ones are said and passed over.

    Raises RunFolderError when there are checkpoints and none is whole.
    """
    remove_leftovers(folder)
    there = found(folder)
    damages = []
    for path in reversed(there):
        damage = _damage(path)
        if not damage:
            return path
        damages.append(f"{path.name}: {damage}")
        warn(f"The checkpoint {path} is damaged ({damage}): the one before it is used.")
    if there:
        raise RunFolderError(
            f"No checkpoint in {folder} is whole: {'; '.join(damages)}.", hint="Start the run again in a new folder."
        )
    return None


def load(path: Path, training: Training, parts: Sequence[Part]) -> dict[str, Any]:
    """Put a checkpoint's state back into training and parts; returns `state.json`."""
    tensors = load_file(path / TENSORS)
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    restore_weights(training, _below(tensors, "weights."))
    for name, part in _named(parts):
        values = {**state["parts"][name], **_below(tensors, f"parts.{name}.")}
        with torch.no_grad():
            for key, parameter in part.parameters():
                parameter.copy_(values[f"parameter.{key}"])
        part.restore({key: value for key, value in values.items() if not key.startswith("parameter.")})
    # After the parts, which may freeze again what had left the optimizer.
    _restore_optimizer(training.optimizer, {**tensors, **state.get("scalars", {})}, state["groups"])
    training.step = int(state["step"])
    _restore_random(_below(tensors, "random."))
    return state


def save_best(folder: Path, training: Training) -> str:
    """Keep the weights of this moment as the best so far; returns the name by which they are restored."""
    _flush(training.optimizer)
    name = f"best-{training.step:08d}"
    with writing_folder(folder / name, replace=True) as temporary:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in weights(training).items()}
        save_file(tensors, temporary / TENSORS)
    return name


def restore_best(folder: Path, name: str, training: Training) -> None:
    """Put the best weights back."""
    _flush(training.optimizer)
    restore_weights(training, load_file(folder / name / TENSORS))


def _named(parts: Sequence[Part]) -> list[tuple[str, Part]]:
    # A part may stand in a recipe twice: its place keeps the two apart.
    return [(f"{place}-{part.word()}", part) for place, part in enumerate(parts)]


def _below(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _damage(path: Path) -> str:
    try:
        checksums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        for name, expected in checksums.items():
            if sha256(path / name) != expected:
                return f"{name} is not as it was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _flush(optimizer: torch.optim.Optimizer) -> None:
    """Let the weights be what they are, with nothing that an optimizer has put off."""
    if isinstance(optimizer, AdamW):
        optimizer.flush()


def _optimizer_state(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], dict[str, float], list[dict[str, Any]]]:
    """Tensors and numbers of its state, by name, and its groups."""
    state = optimizer.state_dict()
    every: dict[str, Any] = {}
    for number, values in state["state"].items():
        for key, value in values.items():
            # bitsandbytes puts its tensors one level deeper, and takes them back from either place.
            inside = value if isinstance(value, dict) else {key: value}
            every |= {f"optimizer.{number}.{name}": one for name, one in inside.items()}
    tensors = {name: value for name, value in every.items() if isinstance(value, Tensor)}
    scalars = {name: value for name, value in every.items() if isinstance(value, int | float)}
    return tensors, scalars, [dict(group) for group in state["param_groups"]]


def _restore_optimizer(optimizer: torch.optim.Optimizer, values: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in _below(values, "optimizer.").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def _restore_random(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
