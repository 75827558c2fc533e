"""What can be seen of every stage before the first one trains: nobody waits for one to learn that the next can't be.

Files are looked into, not read: whether they are there, their columns, their first rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunesmith import earlier, prepare
from tunesmith.core.errors import DataError, RecipeError, UserError
from tunesmith.core.notes import silent
from tunesmith.core.part import Method
from tunesmith.data import sources
from tunesmith.data.read import glance
from tunesmith.models import stack
from tunesmith.recipe import Recipe
from tunesmith.report.wording import listing

STACK = "stack"
Refused = Sequence[tuple[str, UserError]]
"""What can't be trained, by its name in messages, and why."""


def check(stages: Mapping[str, Recipe], models: Mapping[str, Recipe]) -> None:
    """Refuse stages, by their names, with all that is wrong with any of them; of `models` only the model is looked at.
    Raises an error of the kind of the first fault.
    """
    found = [(name, error) for name, stage in stages.items() for error in _of_data(stage)]
    found += [(name, error) for name, stage in {**stages, **models}.items() for error in _of_model(stage)]
    refuse(found)


def refuse(found: Refused) -> None:
    """Raise errors of several stages as one, what several have in common once; do nothing where there is none."""
    if not found:
        return
    names: dict[str, list[str]] = {}
    for name, error in found:
        names.setdefault(error.message, []).append(name)
    lines = [f"{listing(those)}: {message}" for message, those in names.items()]
    hints = dict.fromkeys(error.hint for _, error in found if error.hint)
    raise type(found[0][1])("\n".join(lines), hint=" ".join(hints))


def _of_model(stage: Recipe) -> Iterator[UserError]:
    for look in (prepare.check_random, prepare.check_quantised):
        try:
            look(stage)
        except UserError as error:
            yield error


def _of_data(stage: Recipe) -> Iterator[UserError]:
    try:
        with silent():  # what there is to say of a folder is said when it is read
            data = sources.resolve(stage.data)
        # A regularizer may name a file of rows, too.
        named = [getattr(part, "data", None) for part in stage.regularizers]
        files = [*sources.files_of(data).values(), *(Path(path) for path in named if isinstance(path, str))]
    except DataError as error:
        yield error
        return
    columns = stage.task.columns()
    looks = [partial(glance, file, columns) for file in files if not file.is_dir()]
    for look in [partial(prepare.check_fit, stage, data), *looks]:
        try:
            look()
        except UserError as error:
            yield error


def misfits(stages: Sequence[Recipe]) -> list[str]:
    """What does not go together of a stage and those before it: a stack that can't be, a merge that can't be."""
    faults: list[str] = []
    below: list[Method] = []
    for number, (before, stage) in enumerate(pairwise(stages), 2):
        below.append(before.method)
        if stage.model.earlier == STACK:
            if why := stack.refusal(below, stage.method):
                faults.append(f"Stage {number}: model.earlier: {why}.")
            if (stage.model.dtype, stage.model.quantize) != (before.model.dtype, before.model.quantize):
                faults.append(f"Stage {number}: model: a stack stays on one backbone, in one dtype and one quantize.")
            continue
        fixed = next((one for one in below if one.cannot_merge), None)
        if fixed is not None:
            faults.append(
                f"Stage {number - 1}: method: the next stage can't start from a delta of '{fixed.word()}', which can't "
                f"be merged: {fixed.cannot_merge}. Use another method, or say model: {{earlier: stack}} there."
            )
        below = []
    return faults


def check_model(model: Any, number: int) -> None:
    """Refuse what a stage can't say of the model that it starts from."""
    if number and model is not None and not (isinstance(model, Mapping) and set(model) <= {*earlier.KEPT, "earlier"}):
        raise RecipeError(
            f"model: {model!r} is given, but a stage starts from the model that the one before it made.",
            hint="Leave it out; model.dtype, model.quantize, model.start and model.earlier alone may be given.",
        )
    below = model.get("earlier") if isinstance(model, Mapping) else None
    if number and isinstance(below, list):
        raise RecipeError(
            "model.earlier names runs, but what lies below a later stage is what the stages before it made.",
            hint="Say stack or merge.",
        )
    if not number and below == STACK:
        raise RecipeError(
            "model.earlier: stack is said, but no stage is before the first.", hint="Say it in a later one."
        )
