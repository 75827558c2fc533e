"""Copies of a model's structure share its memory, and have memory of their own where they are to differ."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tunesmith.core import sharing, surgery
from tunesmith.models.builtin import tiny_configs


def bert() -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_config(tiny_configs()["tiny-bert"])


def test_a_skeleton_lies_in_the_same_memory_and_is_changed_by_itself() -> None:
    model = bert()
    names = [name for name, _ in model.named_modules()]
    copied = sharing.skeleton(model)
    assert sharing.pointers(copied) == sharing.pointers(model)
    assert all(a is not b for a, b in zip(copied.modules(), model.modules(), strict=True))
    surgery.freeze(copied)
    surgery.replace(copied, "classifier", nn.Identity())
    copied.config.num_labels = 7
    assert [name for name, _ in model.named_modules()] == names and model.config.num_labels == 2
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_ties_stay_ties() -> None:
    model = AutoModelForCausalLM.from_config(tiny_configs()["tiny-gpt2"])
    copied = sharing.skeleton(model)
    assert copied.lm_head.weight is copied.transformer.wte.weight is not model.lm_head.weight
    assert sharing.ties(copied) == sharing.ties(model) == {frozenset({"wte.weight", "lm_head.weight"})}
    sharing.own(copied, [copied.lm_head.weight], sharing.pointers(model))
    assert copied.lm_head.weight is copied.transformer.wte.weight
    assert copied.lm_head.weight.data_ptr() != model.lm_head.weight.data_ptr()


def test_what_will_be_written_gets_memory_of_its_own() -> None:
    model = bert()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = sharing.skeleton(model)
    own = nn.Parameter(torch.zeros(3))
    copied.register_parameter("new", own)
    weight = copied.bert.pooler.dense.weight
    sharing.own(copied, [weight[4:6], own, copied.classifier.bias], sharing.pointers(model))
    assert copied.bert.pooler.dense.weight is not weight and copied.new is own
    assert len(sharing.pointers(model) - sharing.pointers(copied)) == 2
    with torch.no_grad():
        copied.bert.pooler.dense.weight.zero_()
        copied.classifier.bias.fill_(3.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_equal_tensors_are_kept_once() -> None:
    torch.manual_seed(0)
    base = bert()
    torch.manual_seed(0)
    model = bert()
    with torch.no_grad():
        model.bert.pooler.dense.bias.fill_(-0.0)  # equal to 0, and another number all the same
        model.classifier.weight += 1
    same, other = sharing.join(model, base)
    assert other == ["pooler.dense.bias", "classifier.weight"]
    assert set(same) | set(other) == set(sharing.named(base))
    unsaved = sum(1 for _ in model.buffers())
    assert len(sharing.pointers(model) - sharing.pointers(base)) == 2 + unsaved
    assert sharing.in_head(model) == {"classifier.weight", "classifier.bias"}
