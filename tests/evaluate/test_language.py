"""Which language-model head stands over which body."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from tests import toy
from tests.evaluate import suites
from tunesmith.core import anatomy, tokens
from tunesmith.evaluate import language
from tunesmith.evaluate.language import LanguageModel
from tunesmith.evaluate.perplexity import encoded, logits


@torch.inference_mode()
@pytest.mark.parametrize(("backbone", "kind"), [("builtin:tiny-bert", "masked"), ("builtin:tiny-llama", "causal")])
@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_the_old_head_stands_over_either_body_and_no_model_is_touched(backbone: str, kind: str, method: str) -> None:
    finished = suites.finished(toy.prepared({"model": backbone, "method": method}))
    before = finished.before()
    finished = suites.finished(toy.prepared({"model": backbone, "method": method}), before=lambda: before)
    now = finished.now
    for parameter in anatomy.backbone(now.model).parameters():
        parameter.add_(0.1)
    kept = [copy.deepcopy(list(asked.model.state_dict().items())) for asked in (before, now)]
    found = language.of(finished)
    assert isinstance(found, LanguageModel) and found.kind == kind
    inputs = tokens.pad(encoded(["amber basil"], now.tokenizer, 64), now.tokenizer)
    old = logits(found.over(before), inputs)
    new = logits(found.over(now), inputs)
    assert new.shape == old.shape == (1, inputs["input_ids"].shape[1], 259)
    assert not torch.allclose(old, new)
    torch.testing.assert_close(logits(found.over(before), inputs), old)
    torch.testing.assert_close(logits(found.over(now), inputs), new)
    for asked, state in zip((before, now), kept, strict=True):
        there = asked.model.state_dict()
        assert list(there) == [name for name, _ in state]
        assert all(torch.equal(there[name], tensor) for name, tensor in state)


def test_a_language_model_is_asked_itself() -> None:
    finished = suites.finished(toy.prepared({"model": "builtin:tiny-gpt2", "task": "generate"}))
    found = language.of(finished)
    assert isinstance(found, LanguageModel) and found.over(finished.now) is finished.now.model


def test_where_there_is_no_head_the_reason_is_told() -> None:
    minilm = suites.finished(toy.prepared({"model": "builtin:minilm"}))
    assert language.of(minilm) == "The backbone's file has no language-model head."
    t5 = suites.finished(toy.prepared({"model": "builtin:tiny-t5"}))
    assert "t5 model was pre-trained on is not measured" in str(language.of(t5))
    assert "can't be asked" in str(language.of(suites.finished(toy.prepared({}), headed=None)))
    assert language.kind_of(SimpleNamespace()) is None
