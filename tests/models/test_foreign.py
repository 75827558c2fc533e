"""Heads that are given other names, and kinship of models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import toy
from tunesmith.core.errors import ModelError
from tunesmith.models import foreign


def test_outputs_are_named_and_unknown_ones_refused_together() -> None:
    config = SimpleNamespace(id2label={0: "LABEL_0", 1: "good"}, label2id={})
    assert foreign.is_unnamed(config)
    foreign.rename(config, {"LABEL_0": "bad"})
    assert config.id2label == {0: "bad", 1: "good"} and config.label2id == {"bad": 0, "good": 1}
    assert not foreign.is_unnamed(config)
    with pytest.raises(ModelError) as caught:
        foreign.rename(config, {"x": "bad", "LABEL_0": "y"})
    assert caught.value.message.count("the head has no") == 2


def test_a_model_with_another_body_is_no_kin() -> None:
    bert, gpt2 = (toy.prepared({"model": f"builtin:{name}"}).training.model for name in ("tiny-bert", "tiny-gpt2"))
    foreign.check_kin(bert, bert, "a", "b")
    with pytest.raises(ModelError, match="a was not made from b"):
        foreign.check_kin(bert, gpt2, "a", "b")
