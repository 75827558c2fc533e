"""Targets: words, patterns, and what is said where nothing matches."""

from __future__ import annotations

import pytest

from tests import toy
from tunesmith.core import targets
from tunesmith.core.errors import ModelError

PATHS = ["layer.0.query", "layer.0.query_norm", "layer.1.query", "layer.1.output.dense"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("query", ["layer.0.query", "layer.1.query"]),
        ("output.dense", ["layer.1.output.dense"]),
        (r"layer\.1\..*", ["layer.1.query", "layer.1.output.dense"]),
        ("layer.0.query", ["layer.0.query"]),
        ("query|dense", ["layer.0.query", "layer.1.query", "layer.1.output.dense"]),
        ("uery", []),
    ],
)
def test_a_pattern_matches_from_a_dot_on(pattern: str, expected: list[str]) -> None:
    assert targets.matching(pattern, PATHS, "method.targets") == expected


def test_what_is_no_pattern_is_said_with_its_setting() -> None:
    with pytest.raises(ModelError, match=r"method\.rank_pattern '\[' is no pattern: unterminated"):
        targets.matching("[", PATHS, "method.rank_pattern")


def test_nothing_matched_names_the_nearest_and_all() -> None:
    model = toy.prepared({"model": "builtin:tiny-llama"}).training.model
    with pytest.raises(ModelError) as caught:
        targets.choose(model, "q_porj")
    assert caught.value.message == (
        "method.targets 'q_porj' matches no linear of LlamaForSequenceClassification. Did you mean 'self_attn.q_proj'? "
        "The linears of its blocks: mlp.down_proj, mlp.gate_proj, mlp.up_proj, self_attn.k_proj, self_attn.o_proj, "
        "self_attn.q_proj, self_attn.v_proj."
    )
