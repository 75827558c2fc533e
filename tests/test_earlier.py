"""What came before: a finished stage over another body, and a file of old rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import toy
from tunesmith import earlier
from tunesmith.core import anatomy
from tunesmith.recipe import from_values
from tunesmith.serve import session
from tunesmith.serve.folder import MODEL, read_finished


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stages_head_over_its_own_body_answers_as_the_stage_did(method: str, tmp_path: Path) -> None:
    folder = toy.run(tmp_path, method=method)
    old = earlier.of_stage("1-classify", read_finished(folder), folder / MODEL)
    assert len(old.rows) > 20 and set(old.rows[0]) >= {"text", "label"}
    trained = session.load(folder, "cpu")
    batch = trained.probe()[0]
    assert old.shell is not None
    made = old.shell(anatomy.backbone(trained.backbone.model))
    assert anatomy.backbone(made) is anatomy.backbone(trained.backbone.model)
    with torch.no_grad():
        assert torch.allclose(
            made(**batch.inputs).logits, trained.backbone.model.eval()(**batch.inputs).logits, atol=1e-6
        )


def test_a_head_gives_its_body_gradients_and_stays(tmp_path: Path) -> None:
    folder = toy.run(tmp_path)
    old = earlier.of_stage("1-classify", read_finished(folder), folder / MODEL)
    toyed = toy.prepared({})
    assert old.shell is not None
    made = old.shell(anatomy.backbone(toyed.training.model))
    batch = next(toyed.batches.stream(0)).batches[0]
    made(**batch.inputs).logits.sum().backward()
    assert toyed.training.model.bert.pooler.dense.weight.grad is not None
    assert made.classifier.weight.grad is None


def test_a_later_stage_keeps_how_its_model_is_loaded() -> None:
    given = {"data": "rows.csv", "task": "classify", "regularizers": ["replay", {"name": "ewc", "data": "a.csv"}]}
    stage = from_values({**given, "model": {"name": "builtin:minilm", "dtype": "bfloat16", "start": "disk"}})
    after = earlier.following(stage, "runs/x/1-fill/model").model
    assert (after.name, after.dtype, after.start) == ("runs/x/1-fill/model", "bfloat16", "disk")
    first = from_values({**given, "model": {"family": "bert", "hidden": 16}}).model.with_tokenizer("{}")
    before = earlier.beginning(stage, first)
    assert (before.model.family, before.model.hidden, before.model.dtype) == ("bert", 16, "bfloat16")
    assert before.model.tokenizer == "{}"
    # What has a file of its own needs no earlier stage.
    assert [part.word() for part in before.regularizers] == ["ewc"] and earlier.looked_back(stage) == ["replay"]
