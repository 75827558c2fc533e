"""The Python face: the command line's words as functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import recipe as recipes
from tunesmith import run as runs
from tunesmith.run import Run, resume
from tunesmith.serve.session import Session, load

__all__ = ["Run", "Session", "load", "resume", "train"]


def train(source: str | Path | Mapping[str, Any], *, out: str | Path | None = None, **overrides: Any) -> Run:
    """Fine-tune by a recipe (a YAML file or a mapping), or on a bare data file, and return the run.

    overrides: sections of the recipe that stand above it: `method="lora"`, `train={"epochs": 1}`; of a section given
    as a mapping, only its keys. Raises UserError (RecipeError, DataError, ModelError, RunFolderError) as the command
    line does.
    """
    if isinstance(source, Mapping):
        return runs.start(recipes.from_values(recipes.merged(source, overrides)), out)
    return runs.start(recipes.from_source(source, values=overrides), out)
