"""What every regularizer keeps."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from tests import toy
from tests.before import stage
from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Step
from tunesmith.core.world import World

REGULARIZERS = registry.names("regularizers")


def off(name: str) -> dict[str, object]:
    """The regularizer with all of its strengths at zero: every number that may be zero, and may not be below it."""
    fields = registry.load("regularizers", name).model_fields
    strengths = {
        key: 0.0
        for key, field in fields.items()
        if field.annotation is float and any(getattr(bound, "ge", None) == 0 for bound in field.metadata)
    }
    assert strengths
    return {"name": name, **strengths}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_strength_0_leaves_the_run_bit_identical(name: str, tmp_path: Path) -> None:
    found = []
    for regularizers in ([], [off(name)]):
        # Rows are left out only where nobody looks at the whole table, which is equal within rounding.
        toyed = stage({"regularizers": regularizers, "train": {"steps": 3}, "speed": {"touched_rows": False}})
        toy.train(toyed, tmp_path / str(len(regularizers)))
        found.append(toy.weights(toyed))
    assert all(torch.equal(found[0][key], tensor) for key, tensor in found[1].items())


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("method", registry.names("methods"))
def test_works_with_every_method_and_is_finite(name: str, method: str, tmp_path: Path) -> None:
    toyed = stage({"regularizers": [name], "method": method, "train": {"steps": 2}})
    assert toy.train(toyed, tmp_path)
    batch = next(toyed.batches.stream(0)).batches[0]
    step = Step(toyed.training.model, toyed.recipe.task, batch)
    losses = [part.loss(step) for part in toyed.recipe.regularizers]
    assert all(loss is None or torch.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_what_needs_an_earlier_stage_says_that_it_looks_back(name: str) -> None:
    toyed = toy.prepared({})
    part = registry.build("regularizers", name)
    try:
        part.check(toyed.training.model, World((), toyed.backbone.limit, Mock()))
    except RecipeError:
        assert part.looks_back
