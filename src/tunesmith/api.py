"""The Python face: the command line's words as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import comparison, examine, inventory, stages
from tunesmith.core.errors import RecipeError, nearest, raise_faults
from tunesmith.elsewhere import Wanted
from tunesmith.report import compared
from tunesmith.run import Run
from tunesmith.serve import merge as merges
from tunesmith.serve import soup as soups
from tunesmith.serve.merge import Mix
from tunesmith.serve.session import Session, load
from tunesmith.stages import resume

__all__ = ["Mix", "Run", "Session", "compare", "evaluate", "load", "merge", "resume", "runs", "train"]


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


def evaluate(
    model: str | Path, *, data: str | Path | None = None, out: str | Path | None = None, **more: Any
) -> dict[str, Any]:
    """Measure a finished run, or any transformers model, on a file of labelled rows; what the command line's word gives
    as JSON. With `out` it is written there, with a report and the predictions.

    more: suites, a list of names and mappings; of a model that is no run also task, train, before, labels (a mapping of
    the head's names to the file's) and settings (`["task.text=review"]`). Raises UserError as the command line does.
    """
    known = [name for name in Wanted.__dataclass_fields__ if name != "data"]
    raise_faults(
        RecipeError, "The model can't be measured like this:",
        [f"{name} is unknown. {nearest(name, known)}" for name in more if name not in known],
    )  # fmt: skip
    given = {key: value for key, value in more.items() if value is not None}
    for key in ("train", "before"):
        if isinstance(given.get(key), str | Path):
            given[key] = Path(given[key]) if key == "train" else str(given[key])
    wanted = Wanted(data=None if data is None else Path(data), **given)
    return examine.evaluate(model, wanted, None if out is None else Path(out))
