"""Several models over one body."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.models import joint, load
from tunesmith.models.settings import ModelSettings

CLASSES = {"classify": "AutoModelForSequenceClassification", "tag": "AutoModelForTokenClassification",
           "fill": "AutoModelForMaskedLM", "generate": "AutoModelForCausalLM"}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of weights: a tiny model made by name has another random body under every class."""
    for name, kind in (("bert", "classify"), ("gpt2", "generate")):
        made = load.load(ModelSettings(name=f"builtin:tiny-{name}"), (CLASSES[kind],), {}, 0)
        made.model.save_pretrained(tmp_path / name)
        made.tokenizer.save_pretrained(tmp_path / name)
    return tmp_path


def models(folder: Path, *kinds: str) -> dict[str, Any]:
    heads = {"classify": {"num_labels": 3}, "tag": {"num_labels": 5}}
    return {
        kind: load.load(ModelSettings(name=str(folder)), (CLASSES[kind],), heads.get(kind, {}), 0).model.eval()
        for kind in kinds
    }


def ids() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}


@pytest.mark.parametrize(
    ("backbone", "kinds"),
    [("bert", ("classify", "tag", "fill")), ("gpt2", ("classify", "generate"))],
)
@torch.no_grad()
def test_joined_models_say_what_each_said_alone(backbone: str, kinds: tuple[str, ...], folder: Path) -> None:
    found = models(folder / backbone, *kinds)
    before = {kind: model(**ids()).logits for kind, model in found.items()}
    first = joint.first_of(found)
    joint.join(found[first], {kind: model for kind, model in found.items() if kind != first})
    body = anatomy.backbone(found[first])
    for kind, model in found.items():
        assert anatomy.backbone(model) is body
        assert torch.equal(model(**ids()).logits, before[kind])


def test_one_optimizer_sees_every_weight_once_and_every_head(folder: Path) -> None:
    found = models(folder / "bert", "classify", "tag", "fill")
    joint.join(found["classify"], {kind: found[kind] for kind in ("tag", "fill")})
    names = [name for name, _ in found["classify"].named_parameters()]
    own = {id(p) for model in found.values() for p in model.parameters()}
    assert len(names) == len(own)
    heads = set(anatomy.head(found["classify"]))
    assert {"classifier", "beside.tag.classifier"} <= heads
    # The scores of words share the embeddings' weight, which is the body's and no head's.
    surgery.freeze_backbone(found["classify"])
    assert not found["fill"].get_input_embeddings().weight.requires_grad
    assert found["fill"].get_output_embeddings().weight is found["fill"].get_input_embeddings().weight
    assert found["tag"].classifier.weight.requires_grad


def test_modes_reach_the_other_models(folder: Path) -> None:
    found = models(folder / "bert", "classify", "tag")
    joint.join(found["classify"], {"tag": found["tag"]})
    found["classify"].train()
    assert found["tag"].training and found["tag"].dropout.training
    found["classify"].eval()
    assert not found["tag"].training and not found["tag"].dropout.training


def test_alone_a_model_has_its_own_weights_only(folder: Path) -> None:
    found = models(folder / "bert", "classify", "tag")
    before = set(found["classify"].state_dict())
    joint.join(found["classify"], {"tag": found["tag"]})
    with joint.alone(found["classify"]):
        assert set(found["classify"].state_dict()) == before
    added = set(found["classify"].state_dict()) - before
    assert added == {"beside.tag.classifier.weight", "beside.tag.classifier.bias"}


def test_the_body_with_every_module_is_the_one_that_is_shared(folder: Path) -> None:
    # A model that fills masks or tags words has no pooler.
    assert joint.first_of(models(folder / "bert", "fill", "tag", "classify")) == "classify"


def test_other_bodies_and_classes_without_one_are_refused(folder: Path) -> None:
    one = models(folder / "bert", "classify")["classify"]
    other = models(folder / "gpt2", "classify")["classify"]
    with pytest.raises(ModelError, match="'b' and 'a' can't share a backbone"):
        joint.first_of({"a": one, "b": other})
    with pytest.raises(ModelError, match="keeps body and head in one"):
        joint.first_of({"a": toy.prepared({"model": "builtin:tiny-t5", "task": "generate"}).backbone.model, "b": one})
