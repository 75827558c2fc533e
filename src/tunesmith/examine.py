"""Measure any model on a labelled file: a finished run, or a model that was trained elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import elsewhere, measure, remeasure
from tunesmith.core.errors import RecipeError, nearest, raise_faults
from tunesmith.core.files import read_json, write_json, writing_folder
from tunesmith.elsewhere import Wanted
from tunesmith.measure import EVALUATION, Spec
from tunesmith.report import page
from tunesmith.run import PREDICTIONS
from tunesmith.serve.folder import ENVIRONMENT, RECIPE, check_free
from tunesmith.train.log import Watcher

KEYS = ("task", "train", "before", "label", "set")


def wanted(data: Path | None, suites: Sequence[Spec], words: Sequence[str]) -> Wanted:
    """What the command line says by words `KEY=VALUE`: task, train and before once, label and set any number of times.
    Others raise RecipeError, all together.
    """
    faults: list[str] = []
    values: dict[str, Any] = {"labels": {}, "settings": []}
    for word in words:
        key, equals, value = word.partition("=")
        old, named, new = value.partition("=")
        if key not in KEYS or not equals or not value:
            faults.append(f"{word!r} is not KEY=VALUE. {nearest(key, KEYS)}")
        elif key == "set":
            values["settings"].append(value)
        elif key == "label" and named and old and new:
            values["labels"][old] = new
        elif key == "label":
            faults.append(f"--label {value!r} is not NAME_IN_THE_HEAD=NAME_IN_THE_FILE")
        else:
            values[key] = Path(value) if key == "train" else value
    raise_faults(RecipeError, "The options are wrong:", faults)
    return Wanted(data=data, suites=suites, **values)


def evaluate(
    model: str | Path, wanted: Wanted, out: Path | None = None, watch: Watcher | None = None
) -> dict[str, Any]:
    """What suites find of a run or of any other model, as `evaluation.json` has it; with `out` it is written there,
    with a report and the predictions.

    Of a run without data it is what was measured at its end; suites that are named then are measured on the run's own
    held-out rows, and become part of its figures, report and model card. Raises UserError.
    """
    folder = Path(model).expanduser()
    if wanted.data is None and out is not None:
        raise RecipeError(
            "--out says where to write what is measured on a file, but none is given.", hint="--data FILE"
        )
    if out is not None:
        check_free(out)
    foreign = wanted.told() or str(model).startswith("builtin:") or (folder / "config.json").is_file()
    if foreign and not (folder / RECIPE).is_file():
        with _writing(out) as place:
            return _written(place, *elsewhere.found(str(model), wanted, place / PREDICTIONS), out)
    if told := wanted.told():
        raise RecipeError(
            f"{', '.join(told)}: {model} is a run, which knows its task, its rows and its backbone.",
            hint="Leave them out, or give another model's folder.",
        )
    if wanted.data is None:
        return remeasure.suites(folder, wanted.suites, watch) if wanted.suites else measure.again(folder, None, ())
    with _writing(out) as place:
        found = measure.again(folder, wanted.data, wanted.suites or ["task"], place / PREDICTIONS)
        return _written(place, found, read_json(folder / ENVIRONMENT), out)


@contextmanager
def _writing(out: Path | None) -> Iterator[Path]:
    """A folder to fill: one that becomes `out`, or one that is forgotten."""
    if out is not None:
        with writing_folder(out) as place:
            yield place
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _written(place: Path, found: dict[str, Any], environment: Mapping[str, Any], out: Path | None) -> dict[str, Any]:
    if out is not None:
        write_json(place / EVALUATION, found)
        write_json(place / ENVIRONMENT, environment)
        page.write(place)
    return found
