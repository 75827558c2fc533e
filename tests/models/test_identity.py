"""Which backbone a delta belongs to: its hashes tell one from another, and nothing else changes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import toy
from tunesmith.core.errors import ModelError, RunFolderError
from tunesmith.models import identity
from tunesmith.models.identity import Identity
from tunesmith.models.load import Backbone


def backbone(**values: object) -> Backbone:
    return toy.prepared({"method": "head_only", **values}).backbone


def test_one_backbone_has_one_identity_whatever_the_head_and_the_seed() -> None:
    first, second = backbone(), backbone(task="regress", train={"seed": 5})
    assert first.identity == second.identity
    assert first.name == "builtin:tiny-bert" and len(first.identity.weights) == 64


def test_another_weight_another_type_and_another_token_are_another_backbone() -> None:
    made = backbone()
    model, tokenizer, known = made.model, made.tokenizer, made.identity
    assert identity.identify(model, tokenizer, "x") == Identity("x", known.weights, known.tokenizer)
    # What is padded and cut in a batch changes nothing.
    tokenizer(["amber", "b"], padding=True, truncation=True, max_length=3)
    assert identity.identify(model, tokenizer, "x").tokenizer == known.tokenizer
    tokenizer.add_tokens(["unheard"])
    assert identity.identify(model, tokenizer, "x").tokenizer != known.tokenizer
    with torch.no_grad():
        model.get_parameter("classifier.weight").add_(1.0)
    assert identity.identify(model, tokenizer, "x").weights == known.weights
    with torch.no_grad():
        model.get_parameter("bert.embeddings.LayerNorm.bias")[3] += 1e-6
    changed = identity.identify(model, tokenizer, "x").weights
    assert changed != known.weights
    assert identity.identify(model.bfloat16(), tokenizer, "x").weights not in (changed, known.weights)


def test_it_is_kept_beside_the_delta_and_checked(tmp_path: Path) -> None:
    first, other = Identity("a", "1" * 64, "2" * 64), Identity("b", "3" * 64, "2" * 64)
    first.write(tmp_path)
    assert identity.read(tmp_path) == first
    identity.check(first, Identity("elsewhere", first.weights, first.tokenizer), tmp_path)
    with pytest.raises(ModelError) as caught:
        identity.check(first, other, tmp_path)
    assert caught.value.message == (
        f"The delta in {tmp_path} belongs to the backbone a (weights 111111111111, tokenizer 222222222222), not to b "
        "(weights 333333333333, tokenizer 222222222222): their weights differ."
    )
    with pytest.raises(ModelError, match="their weights and tokenizer differ"):
        identity.check(first, Identity("b", "3" * 64, "4" * 64), tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', "{"])
def test_a_damaged_file_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / identity.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"backbone\.json"):
        identity.read(tmp_path)
