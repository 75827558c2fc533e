"""What parts may look at besides the model."""

from __future__ import annotations

import pytest

from tests import toy
from tunesmith.core.world import Old, World


def test_rows_are_read_when_they_are_first_asked_for() -> None:
    toyed, asked = toy.prepared({}), []

    def find() -> object:
        asked.append(1)
        return toyed.batches.rows

    old = Old("old", toyed.recipe.task, toyed.backbone.tokenizer, find)  # type: ignore[arg-type]
    assert not asked
    examples = old.encode([2, 0], toyed.backbone.limit)
    batch = old.collate(examples, [1, 2])
    assert len(old.rows) == 8 and asked == [1]
    assert list(batch.rows) == [0, 1] and batch.fields["targets"].tolist() == [0, 1]  # maybe, no


def test_a_file_takes_the_place_of_earlier_stages() -> None:
    toyed = toy.prepared({})
    stage, file = (Old(name, toyed.recipe.task, None, lambda: toyed.batches.rows) for name in ("stage", "file"))  # type: ignore[arg-type, return-value]
    world = World((stage,), 10, lambda path: file)
    assert world.old(None) == [stage]
    assert world.old("texts.txt") == [file]


def test_a_training_knows_its_world(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = toy.write_csv(tmp_path / "old.csv")
    toyed = toy.prepared({"task": {"name": "classify", "text": "text", "label": "label"}})
    world = toyed.training.world
    assert world is not None and world.earlier == () and world.limit == toyed.backbone.limit
    assert len(world.old(str(rows))[0].rows) == 48
    with pytest.raises(Exception, match="nowhere"):
        assert world.old(str(tmp_path / "nowhere.csv"))[0].rows
