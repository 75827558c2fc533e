"""The Python face: the command line's words as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import comparison, inventory, stages
from tunesmith.report import compared
from tunesmith.run import Run
from tunesmith.serve import merge as merges
from tunesmith.serve import soup as soups
from tunesmith.serve.merge import Mix
from tunesmith.serve.session import Session, load
from tunesmith.stages import resume

__all__ = ["Mix", "Run", "Session", "compare", "load", "merge", "resume", "runs", "train"]


def train(source: str | Path | Mapping[str, Any], *, out: str | Path | None = None, **overrides: Any) -> Run:
    """Fine-tune by a recipe (a YAML file or a mapping), or on a bare data file, and return the run.

    overrides: sections of the recipe that stand above it: `method="lora"`, `train={"epochs": 1}`; of a section given
    as a mapping, only its keys. Raises UserError (RecipeError, DataError, ModelError, RunFolderError) as the command
    line does.
    """
    return stages.start(stages.read(source, values=overrides), out)


def compare(folders: Sequence[str | Path], *, out: str | Path | None = None) -> dict[str, Any]:
    """Compare finished runs of one task: which is better and by how much, what differs, what quality costs.

    out: a new file for the page. Raises RunFolderError with all that is in the way of comparing them.
    """
    if out is not None:
        comparison.check_new(Path(out))
    found = comparison.compare([Path(folder) for folder in folders])
    if out is not None:
        comparison.write(Path(out), found)
    return compared.as_json(found)


def runs(
    folder: str | Path = "runs", *, where: Mapping[str, Any] | None = None, sort: str | None = None
) -> list[dict[str, Any]]:
    """Every run below a folder as a plain mapping, by time.

    where: columns, or keys of the recipe in dotted form, with their values: `{"method": "lora"}`. sort: such a key,
    with a minus in front for the largest first: `"-value"`.
    """
    return inventory.runs(Path(folder), where, sort)


def merge(
    runs: str | Path | Sequence[str | Path], out: str | Path, mix: Mix | None = None, *, as_delta: str | None = None
) -> dict[str, Any]:
    """Put together what runs on one backbone learned, as a plain transformers model in the folder `out`.

    mix: how, as in `Mix("ties", weights=(1, 0.5))`; the mean of the runs where none is given; `Mix(soup="greedy")`
    chooses on the validation split which runs go into the mean. as_delta: "exact" or
    "rank=N" writes a small run instead, which holds only what the backbone has not. Returns what was done and measured.
    """
    folders, mix = [runs] if isinstance(runs, str | Path) else runs, mix or Mix()
    put = merges.merge if mix.soup is None else soups.make
    return put([Path(folder) for folder in folders], Path(out), mix, as_delta)
