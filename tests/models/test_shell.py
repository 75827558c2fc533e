"""A class that keeps its body among its own modules can't lend its head."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import toy
from tunesmith.core.errors import ModelError
from tunesmith.models import shell


def test_a_body_that_is_the_model_is_refused(tmp_path: Path) -> None:
    toyed = toy.prepared({"model": "builtin:tiny-t5", "task": "answer_span"})
    folder = toy.save(toyed, tmp_path / "model")
    recipe = toyed.recipe
    with pytest.raises(ModelError, match="can't be asked over another body"):
        shell.load(folder, recipe.model, recipe.task, recipe.method, 0)


def test_what_the_other_body_lacks_stays() -> None:
    made, other = toy.prepared({}).training.model, toy.prepared({"task": "fill"}, rows=None).training.model
    pooler, blocks = made.bert.pooler, other.bert.encoder
    assert shell.over(made, other.bert) is made
    assert made.bert.pooler is pooler and made.bert.encoder is blocks and made.bert is not other.bert


def test_a_body_with_all_of_it_is_taken_whole() -> None:
    made, other = toy.prepared({"task": "fill"}).training.model, toy.prepared({}).training.model
    shell.over(made, other.bert)
    assert made.bert is other.bert
