"""Replay: how many old examples, of what, at what weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tests.before import fills, stage
from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Step
from tunesmith.train.fused import blocks
from tunesmith.train.log import lines


def test_it_needs_something_to_replay() -> None:
    with pytest.raises(RecipeError, match="replay: there is nothing to replay"):
        toy.prepared({"regularizers": ["replay"]})


@pytest.mark.parametrize(("share", "expected"), [(0.25, 1), (0.5, 2), (2.0, 8), (0.01, 1)])
def test_the_share_of_the_batch(share: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    toyed = stage({"regularizers": [{"name": "replay", "share": share}]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    seen: list[Step] = []
    own = type(toyed.recipe.task).loss

    def look(task: Any, step: Step) -> torch.Tensor:
        seen.append(step)
        return own(task, step)

    monkeypatch.setattr(type(toyed.recipe.task), "loss", look)
    batch = next(toyed.batches.stream(0)).batches[0]
    part.loss(Step(toyed.training.model, toyed.recipe.task, batch))
    assert [len(step.batch.rows) for step in seen] == [expected]
    assert anatomy.backbone(seen[0].model) is anatomy.backbone(toyed.training.model)
    assert seen[0].model is not toyed.training.model


def test_the_loss_is_the_mean_over_old_examples_in_its_share() -> None:
    found = []
    for strength, share in ((1.0, 1.0), (3.0, 0.5)):
        toyed = stage({"regularizers": [{"name": "replay", "strength": strength}]})
        (part,) = toyed.recipe.regularizers
        part.setup(toyed.training)
        toyed.training.model.eval()
        batch = next(toyed.batches.stream(0)).batches[0]
        loss = part.loss(Step(toyed.training.model, toyed.recipe.task, batch, share=share))
        assert loss is not None
        found.append(loss.item())
    assert 0.5 < found[0] < 2 and found[1] == pytest.approx(1.5 * found[0], rel=1e-5)


def test_the_old_head_stays_and_the_body_learns(tmp_path: Path) -> None:
    toyed = stage({"regularizers": ["replay"], "train": {"steps": 2, "learning_rate": 1e-3}})
    assert toy.train(toyed, tmp_path)
    (part,) = toyed.recipe.regularizers
    head = part._sources[0].model.classifier.weight  # type: ignore[attr-defined]
    assert not head.requires_grad and head.grad is None
    losses = [line["losses"] for line in lines(tmp_path / "metrics.jsonl") if line["event"] == "step"]
    assert all(set(one) == {"supervised", "replay"} for one in losses)


def test_the_reservoir_has_its_size() -> None:
    toyed = stage({"regularizers": [{"name": "replay", "size": 3}]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    assert [len(source.examples) for source in part._sources] == [3]  # type: ignore[attr-defined]


def test_old_examples_run_on_a_row_as_new_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[int, ...]] = []
    own = blocks.run

    def look(work: Any, x: torch.Tensor) -> torch.Tensor:
        rows.append(tuple(x.shape[:1]))
        return own(work, x)

    monkeypatch.setattr(blocks, "run", look)
    found = []
    for steps in (1, 4):
        rows.clear()
        toy.train(stage({"regularizers": ["replay"], "train": {"steps": steps}}), tmp_path / str(steps))
        assert set(rows) == {(1,)}
        found.append(len(rows))
    # Two blocks, for new examples and for old ones.
    assert found[1] - found[0] == 3 * 2 * 2


def test_old_texts_of_a_file(tmp_path: Path) -> None:
    toyed = fills(tmp_path, {"name": "replay"})
    assert toy.train(toyed, tmp_path / "run")
    losses = [line["losses"] for line in lines(tmp_path / "run" / "metrics.jsonl") if line["event"] == "step"]
    assert losses and all(one["replay"] > 0 for one in losses)


def test_a_resumed_training_draws_the_same(tmp_path: Path) -> None:
    values = {"regularizers": ["replay"], "train": {"steps": 4, "checkpoint_every": 1}}
    whole = stage(values)
    toy.train(whole, tmp_path / "whole")
    asked = iter([False, True])
    toy.train(stage(values), tmp_path / "halves", interrupted=lambda: next(asked))
    again = stage(values)
    toy.train(again, tmp_path / "halves")
    expected = toy.weights(whole)
    assert all(torch.equal(expected[name], weight) for name, weight in toy.weights(again).items())
