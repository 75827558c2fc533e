"""Deltas of earlier runs below the one that trains: attached to the untouched backbone, frozen, and kept beside it.

    model/                  the delta that trained, as ever
      delta.json            its method, the class of its model, and the names of those below, the lowest first
      backbone.json         hashes: of the backbone, and of every delta below
      earlier/1-fill/       a copy of what another run ships: its delta, delta.json, backbone.json and config.json

A folder of such a delta is all that it takes to put it into a backbone of any class. What stands beside the body, a
head, is left out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from tunesmith.core import anatomy, delta, registry, sharing, surgery
from tunesmith.core.errors import ModelError, RecipeError, UserError
from tunesmith.core.files import read_json, reading, sha256, write_json
from tunesmith.core.notes import note, silent
from tunesmith.core.part import Method, Task
from tunesmith.models import identity
from tunesmith.models import load as loading
from tunesmith.models.load import Backbone, Below
from tunesmith.models.settings import ModelSettings

TOLD, EARLIER, RUNS = "delta.json", "earlier", "model"
COPIED = (TOLD, identity.FILE, "config.json", delta.CONFIG, delta.WEIGHTS, delta.OWN)
HINT = "Give the folder of a finished run whose method ships a delta, or its `model` folder."


@dataclass(frozen=True)
class Told:
    """What a delta's folder says of it.

    method: from which the registry builds the one that reads it. body: the path of the body in its model, empty where
    that is the body alone. heads: the paths of what stood beside it. model: the name of its class. classes: those of
    transformers that load it. reads: text or images. earlier: the folders in `earlier/`, the lowest first.
    """

    method: dict[str, Any]
    model: str
    body: str
    heads: list[str]
    classes: list[str]
    reads: str
    earlier: list[str]


def write(backbone: Backbone, method: Method, task: Task, folder: Path) -> list[str]:
    """Write what the delta in `folder` is, and copies of those below it; returns where these lie."""
    names: list[str] = []
    for below in backbone.below:
        name = _name(below.folder)
        names.append(name if name not in names else f"{len(names) + 1}-{name}")
        place = folder / EARLIER / names[-1]
        place.mkdir(parents=True)
        for file in _files(below.folder):
            shutil.copyfile(file, place / file.name)
    model, spec = backbone.model, registry.spec(method.shipped())
    heads = sorted(anatomy.head(model))
    path, kind = sharing.path_of_body(model), type(model).__name__
    write_json(folder / TOLD, asdict(Told(spec, kind, path, heads, list(task.auto_classes), task.reads, names)))
    return [f"{EARLIER}/{name}" for name in names]


def kept(settings: ModelSettings, folder: Path) -> ModelSettings:
    """The settings of a run with the copies of earlier deltas that it ships in `folder`."""
    if not settings.deltas:
        return settings
    return settings.on([folder / EARLIER / name for name in _told(folder).earlier])


def load(
    settings: ModelSettings, auto_classes: tuple[str, ...], head: dict[str, Any], seed: int, reads: str = "text"
) -> Backbone:
    """The backbone that the recipe names (`models/load.py`), with the deltas that stay below put in."""
    return attach(loading.load(settings, auto_classes, head, seed, reads), settings.deltas)


def attach(backbone: Backbone, folders: Sequence[Path]) -> Backbone:
    """Put deltas into a backbone, the lowest first, and seal them. Its identity then names their hashes.

    Raises ModelError for a folder that holds none, and for a delta that does not fit.
    """
    below: list[Below] = []
    for number, folder in enumerate(map(_home, folders), 1):
        told, method = _told(folder), _method(folder)
        # What it draws is read over.
        method.modify(backbone.model, torch.Generator())
        delta.read_into(backbone.model, method, folder, told.body, told.heads)
        surgery.seal(backbone.model, number)
        below.append(Below(folder, method))
    if not below:
        return backbone
    hashes = tuple(_hash(one.folder) for one in below)
    taken = sum(one.method.positions() for one in below)
    known = replace(backbone.identity, earlier=hashes)
    return replace(backbone, below=tuple(below), identity=known, limit=backbone.limit - taken)


def start(settings: ModelSettings, task: Task, method: Method, seed: int) -> Backbone:
    """The same, for a training with `method`, with the head of the uppermost delta where that means the same.

    Raises RecipeError for a method that can't stand on those deltas, ModelError for deltas that were trained on another
    backbone, or on top of others.
    """
    raw = loading.load(settings, task.auto_classes, task.head(), seed, task.reads)
    folders = [_home(folder) for folder in settings.deltas]
    if why := refusal([_method(folder) for folder in folders], method):
        raise RecipeError(f"model.earlier: {why}.", hint="Use another method, or merge the earlier delta.")
    for place, folder in enumerate(folders):
        _check(raw, settings, folder, folders[:place])
    backbone = attach(raw, folders)
    if folders:
        _carry_head(backbone)
    return backbone


def refusal(below: Sequence[Method], method: Method) -> str:
    """Why a delta of `method` can't stand on deltas of those below; empty where it can."""
    every = [*below, method] if below else []
    for one in every:
        if not one.keeps_backbone:
            return (
                f"'{one.word()}' trains weights of the backbone itself, and deltas that are stacked leave it as it is"
            )
        if one.cannot_stack:
            return f"a delta of '{one.word()}' can't be stacked: {one.cannot_stack}"
    taking = [one.word() for one in every if one.positions()]
    if len(taking) > 1:
        return f"'{taking[0]}' and '{taking[1]}' both put virtual tokens first before the text, and only one can be"
    return ""


def _check(raw: Backbone, settings: ModelSettings, folder: Path, below: Sequence[Path]) -> None:
    """Refuse a delta that was not trained on this backbone, on top of those below."""
    hashes = tuple(map(_hash, below))
    known, found = identity.read(folder), replace(raw.identity, earlier=hashes)
    if (known.weights, known.tokenizer) == (found.weights, found.tokenizer):
        identity.check(known, found, folder)
        return
    # Its class may have the backbone with other modules (without the pooler): then it is loaded so, and compared.
    told = _told(folder)
    with silent():  # what there is to say of that head was said when it trained
        seen = loading.load(settings, tuple(told.classes), {}, 0, told.reads)
    identity.check(known, replace(seen.identity, earlier=hashes), folder)
    _, other = sharing.join(seen.model, raw.model)
    if set(other) - sharing.in_head(seen.model):
        raise ModelError(
            f"The delta in {folder} was trained on {raw.name} as {told.model}, which has other weights than "
            f"{type(raw.model).__name__}: they are in no file.",
            hint="Name a model whose weights are in a file.",
        )


def _carry_head(backbone: Backbone) -> None:
    """Start the head as that of the uppermost delta, where class and labels are the same; it is said."""
    model, last = backbone.model, backbone.below[-1].folder
    ours, theirs = json.loads(model.config.to_json_string()), read_json(last / "config.json")
    same = _told(last).model == type(model).__name__ and theirs.get("id2label") == ours.get("id2label")
    if same and delta.read_head(model, last):
        note(f"The head starts as that of {_name(last)}.")


def _home(folder: Path) -> Path:
    """The folder of the delta itself, of that or of its run."""
    found = next((one for one in (folder, folder / RUNS) if (one / TOLD).is_file()), None)
    if found is None:
        raise ModelError(f"model.earlier: {folder} holds no delta: it has no {TOLD}.", hint=HINT)
    return found


def _name(folder: Path) -> str:
    return folder.resolve().parent.name if folder.name == RUNS else folder.name


def _told(folder: Path) -> Told:
    values = read_json(folder / TOLD)
    with reading(folder / TOLD):
        told = Told(**values)
        if any(Path(name).name != name for name in told.earlier):
            raise ValueError(f"{told.earlier} are no names of folders")
        return told


def _method(folder: Path) -> Method:
    try:
        return cast(Method, registry.build("methods", _told(folder).method))
    except UserError as error:
        raise ModelError(f"The file {folder / TOLD} names no method: {error.message}", hint=error.hint) from error


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in COPIED if (folder / name).is_file()]


def _hash(folder: Path) -> str:
    """SHA-256 over the names and hashes of a delta's files."""
    told = "".join(f"{file.name} {sha256(file)}\n" for file in _files(folder))
    return hashlib.sha256(told.encode()).hexdigest()
