"""AFLoRA: its start, its formulas, what freezes and when, and a resume in the midst of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from tests import toy
from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.notes import listening
from tunesmith.methods.aflora import Aflora, AfloraLinear
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.train import checkpoint

BERT, GPT2 = "builtin:tiny-bert", "builtin:tiny-gpt2"
FREEZING: dict[str, Any] = {"interval": 2, "freeze_from": 0.15, "freeze_until": 0.75}


def built(backbone: str = BERT, steps: int = 16, **method: Any) -> Prepared:
    train = {"steps": steps, "learning_rate": 0.01, "weight_decay": 0.1, "checkpoint_every": 100}
    return toy.prepared({"model": backbone, "method": {"name": "aflora", **method}, "train": train})


def wrapped(model: nn.Module) -> dict[str, AfloraLinear]:
    return {path: cast(AfloraLinear, wrapper) for path, wrapper in surgery.wrappers(model).items()}


def part(toyed: Prepared) -> Aflora:
    return cast(Aflora, toyed.recipe.method)


def shaken(toyed: Prepared) -> Prepared:
    """Give every outer vector random values, as if it were trained."""
    for wrapper in wrapped(toyed.training.model).values():
        nn.init.normal_(wrapper.aflora_b)
    return toyed


@pytest.mark.parametrize(
    ("backbone", "places", "trained"),
    [
        (BERT, 12, 4),  # two blocks: query, key, value, attention's output; up and down
        (GPT2, 8, 4),  # one matrix makes query, key and value
        ("builtin:tiny-llama", 14, 6),  # a gate too
        ("builtin:tiny-t5", 32, 8),  # eight linears of attention a decoder block, four an encoder block
    ],
)
def test_attentions_matrices_are_frozen_at_their_random_start(backbone: str, places: int, trained: int) -> None:
    model = built(backbone).training.model
    found, roles = wrapped(model), anatomy.roles(load_backbone(built(backbone).recipe).model)
    assert len(found) == places and sum(wrapper.trains for wrapper in found.values()) == trained
    for path, wrapper in found.items():
        assert wrapper.trains == (roles[path] in ("up", "down"))
        assert wrapper.aflora_A.requires_grad == wrapper.aflora_B.requires_grad == wrapper.trains
        assert wrapper.aflora_d.requires_grad and wrapper.aflora_b.requires_grad
    assert set(checkpoint.weights(built(backbone).training)) >= set(Aflora().tensors(model))


def test_it_starts_as_the_scripts_do_and_gives_the_backbones_outputs() -> None:
    toyed = built(rank=8)
    expected = toy.logits(load_backbone(toyed.recipe).model, toyed.backbone.tokenizer)
    assert torch.equal(toy.logits(toyed.training.model, toyed.backbone.tokenizer), expected)
    for wrapper in wrapped(toyed.training.model).values():
        inputs, rank = wrapper.aflora_A.shape[1], 8
        for matrix, fan in ((wrapper.aflora_A, inputs), (wrapper.aflora_B, rank)):
            bound = math.sqrt(6 / fan)
            assert 0.8 * bound < matrix.abs().max() <= bound
        assert wrapper.aflora_d.tolist() == pytest.approx([0.1] * rank)
        assert not wrapper.aflora_b.any()


@torch.no_grad()
def test_forward_and_merge_follow_the_formula() -> None:
    base = nn.Linear(3, 2)
    wrapper = AfloraLinear(base, 2, 0.0, True, torch.Generator().manual_seed(0))
    a, b = torch.tensor([[1.0, 0, 2], [0, 1, -1]]), torch.tensor([[1.0, 2], [3, 4]])
    wrapper.aflora_A.copy_(a)
    wrapper.aflora_B.copy_(b)
    wrapper.aflora_d.copy_(torch.tensor([10.0, 1]))
    wrapper.aflora_b.copy_(torch.tensor([1.0, -1]))
    x = torch.tensor([1.0, 2, 3])
    # A x = (7, -1); times l_d (70, -1); B of it (68, 206); times l_b (68, -206).
    assert (wrapper(x) - base(x)).tolist() == pytest.approx([68.0, -206.0], rel=1e-5)
    merged = cast(nn.Linear, wrapper.merged())
    assert torch.allclose(merged(x), wrapper(x), rtol=1e-5)
    # Row 1: 10 (1, 0, 2) + 2 (0, 1, -1); row 2: -(30 (1, 0, 2) + 4 (0, 1, -1)).
    change = (merged.weight - base.weight).flatten().tolist()
    assert change == pytest.approx([10, 2, 18, -30, -4, -56], rel=1e-5)


def test_merged_gives_the_attached_outputs_in_a_language_model() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=19, n_embd=8, n_layer=1, n_head=2, n_positions=16)).eval()
    method = Aflora(rank=2)
    method.modify(model, torch.Generator().manual_seed(0))
    assert method.rates(model) == {}  # no head of the task's
    for wrapper in wrapped(model).values():
        nn.init.normal_(wrapper.aflora_b)
    ids = torch.tensor([[3, 1, 4]])
    expected = model(ids).logits
    method.merge(model)
    assert not surgery.inserted(model) and torch.allclose(model(ids).logits, expected, atol=1e-5)


def test_a_copy_in_float64_gives_the_same_and_merges() -> None:
    toyed = shaken(built())
    expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer)
    twin = copy.deepcopy(toyed.training.model).double()
    attached = toy.logits(twin, toyed.backbone.tokenizer)
    assert attached.dtype == torch.float64 and (attached - expected).abs().max() < 1e-5
    Aflora().merge(twin)
    assert (toy.logits(twin, toyed.backbone.tokenizer) - attached).abs().max() < 1e-12


def test_the_delta_holds_the_random_matrices(tmp_path: Path) -> None:
    toyed, recipe = shaken(built()), built().recipe
    folder = toy.save(toyed, tmp_path / "delta")
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, seed=5)  # it began with others
    assert all(torch.equal(tensor, loaded.model.state_dict()[name]) for name, tensor in toy.weights(toyed).items())


def test_parameters_of_a_base_model_at_the_start_and_at_the_end() -> None:
    # DeBERTa-v3-base's blocks are of BERT-base's shapes: 12 blocks, 768 wide, 3072 inside, rank 4. The released code
    # begins with 12 (4 (4 + 768) + 4 (768 + 3072) 2 + (4 + 3072) + (4 + 768)) and ends without the matrices.
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method, head = Aflora(rank=4), 768 * 2 + 2
    method.modify(model, torch.Generator())
    assert method.expected(model) - head == surgery.count(model)[0] - head == 451_872
    for wrapper in wrapped(model).values():
        wrapper.aflora_A.requires_grad_(False)
        wrapper.aflora_B.requires_grad_(False)
    assert surgery.count(model)[0] - head == 83_232


def test_the_head_has_a_rate_of_its_own() -> None:
    toyed = built()
    head = tuple(f"{name}." for name in anatomy.head(toyed.training.model))
    rates = {name: group["peak"] for group in toyed.training.optimizer.param_groups for name in group["names"]}
    assert set(rates) == set(surgery.trained(toyed.training.model))
    for name, rate in rates.items():
        assert rate == pytest.approx(4e-3 if name.startswith(head) else 1e-2), name


@pytest.mark.parametrize("backbone", [BERT, GPT2])
def test_training_freezes_matrices_by_the_schedule(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone, steps=20, **FREEZING)
    model, optimizer = toyed.training.model, toyed.training.optimizer
    start, matrices = surgery.count(model)[0], {n for n in surgery.trained(model) if n.endswith(("aflora_A", "_B"))}
    left: list[int] = []
    bits: dict[str, Tensor] = {}

    def look() -> bool:
        trains = surgery.trained(model)
        left.append(sum(name in trains for name in matrices))
        assert set(part(toyed).still_training) == matrices & set(trains)
        assert {name for group in optimizer.param_groups for name in group["names"]} == set(trains)
        grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in trains.values()} == {id(p) for p in optimizer.state}
        for name in matrices - set(trains):
            parameter = model.get_parameter(name)
            assert parameter.grad is None
            assert torch.equal(bits.setdefault(name, parameter.detach().clone()), parameter), f"{name} moved"
        return False

    with listening() as notes:
        toy.train(toyed, tmp_path, interrupted=look)
    # Of 20 updates: none freezes up to the third, all are frozen from the fifteenth on, and so at the sixteenth.
    assert left[:3] == [len(matrices)] * 3 and left[15:] == [0] * 5
    assert 0 < left[7] < len(matrices)
    assert all(later <= earlier for earlier, later in pairwise(left))
    assert all(left[step - 1] == left[step - 2] for step in range(3, 20, 2))  # odd updates end no interval
    elements = sum(model.get_parameter(name).numel() for name in matrices)
    head = anatomy.head_parameters(model)
    vectors = sum(4 + len(wrapper.aflora_b) for wrapper in wrapped(model).values())
    assert start == elements + vectors + head and surgery.count(model)[0] == vectors + head
    assert sum("matrices are frozen" in told for told in notes) == 1


def test_the_matrix_with_the_smallest_gradients_freezes_first() -> None:
    toyed = built(steps=100, interval=1, freeze_from=0.0, freeze_until=1.0)
    training, method = toyed.training, part(toyed)
    method.setup(training)
    names = method.still_training
    sizes = {name: 1.0 + place for place, name in enumerate(names)}
    for training.step in (1, 50):
        for name in names:
            parameter = training.model.get_parameter(name)
            parameter.grad = torch.full_like(parameter, -sizes[name]) if parameter.requires_grad else None
        method.after_step(training)
        if training.step == 1:  # (1 - 1/100)^3 = 0.97: the threshold is the smallest score
            assert method.still_training == names
    # (1 - 50/100)^3 = 0.125: the quantile 0.875 lies in the score of the matrix that holds that element.
    counts = [training.model.get_parameter(name).numel() for name in names]
    place = 0.875 * (sum(counts) - 1)
    first = next(n for n in range(len(counts)) if sum(counts[: n + 1]) > place)
    assert method.still_training == names[first:] and 0 < first < len(names)


def test_interrupted_amid_freezing_a_resume_is_bit_identical(tmp_path: Path) -> None:
    whole = built(**FREEZING)
    assert toy.train(whole, tmp_path / "whole")
    halves = built(**FREEZING)
    every = len(surgery.trained(halves.training.model))
    assert not toy.train(halves, tmp_path / "halves", interrupted=at(halves, 7))  # an odd one: amid a window too
    assert part(halves).still_training and part(halves).state()["frozen"]
    torch.rand(7)
    again = built(**FREEZING)
    assert not toy.train(again, tmp_path / "halves", interrupted=at(again, 8))
    assert len(surgery.trained(again.training.model)) < every
    last = built(**FREEZING)
    assert toy.train(last, tmp_path / "halves")
    expected, found = toy.weights(whole), toy.weights(last)
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert part(last).state() == part(whole).state()
    assert moments(last).keys() == moments(whole).keys()
    assert all(torch.equal(tensor, moments(last)[name]) for name, tensor in moments(whole).items())


def at(toyed: Prepared, step: int) -> Callable[[], bool]:
    return lambda: toyed.training.step == step


def moments(toyed: Prepared) -> dict[str, Tensor]:
    optimizer = toyed.training.optimizer
    return {
        name: optimizer.state[parameter]["exp_avg_sq"]
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def test_a_training_shorter_than_the_interval_freezes_nothing(tmp_path: Path) -> None:
    toyed = built(steps=3)
    toy.train(toyed, tmp_path)
    assert len(part(toyed).still_training) == 8


def test_settings_and_backbones_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"freeze_from 0\.5 is after freeze_until 0\.3"):
        Aflora(freeze_from=0.5)
    with pytest.raises(ModelError, match=r"rank 33 is larger than the layer bert\.encoder.*, which is 32 by 32"):
        built(rank=33)
    with pytest.raises(ModelError, match=r"method\.targets 'quer' matches no linear"):
        built(targets="quer")
    blocks = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]))
    with pytest.raises(ModelError, match=r"can't tell attention from feed-forward in Sequential"):
        Aflora().modify(blocks, torch.Generator())
