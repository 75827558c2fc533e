"""The loss over a vocabulary in portions: torch's own over all scores at once is the reference, in value, gradients and
what it takes of memory.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.core.largest import Largest
from tunesmith.core import portions
from tunesmith.core.portions import summed_loss

PLACES, WORDS, SIZE = 23, 40, 6


def given(kind: torch.dtype = torch.float64, places: int = PLACES) -> list[Tensor]:
    """States, weight, bias and shares, the first three with gradients, and labels."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(places, SIZE), (WORDS, SIZE), (WORDS,), (places,)]
    made = [torch.randn(shape, generator=draw, dtype=torch.float64).to(kind) for shape in shapes]
    labels = torch.randint(WORDS, (places,), generator=draw)
    return [*(one.requires_grad_() for one in made[:3]), made[3].abs(), labels]


def gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(0.3 * loss, [one for one in tensors if one.requires_grad]))


@pytest.fixture(
    params=[(1 << 24, 1 << 20, 1 << 12), (5 * WORDS, 1 << 20, 4), (5 * WORDS, 2 * WORDS, WORDS), (1, 1, 1)], ids=str
)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All places at once; portions of 5; these in strips of 2; portions as large as the states, in strips of 1. The
    weight's gradient of all words at once, and of some.
    """
    for name, value in zip(("PORTION", "STRIP", "WORDS"), request.param, strict=True):
        monkeypatch.setattr(portions, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_value_and_gradients_are_those_of_torch(shared: bool, biased: bool) -> None:
    states, weight, bias, shares, labels = given()
    own = [states, weight, *([bias] if biased else [])]
    scores = states @ weight.T + (bias if biased else 0)
    losses = functional.cross_entropy(scores, labels, reduction="none")
    expected = (losses * shares).sum() if shared else losses.sum()
    found = summed_loss(states, weight, labels, bias if biased else None, shares if shared else None)
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)
    for one, other in zip(gradients(found, own), gradients(expected, own), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("frozen", [{0}, {1, 2}, {1}, {0, 1, 2}], ids=str)
def test_only_what_trains_gets_a_gradient(frozen: set[int]) -> None:
    tensors = given()[:3]
    labels = given()[4]
    for place in frozen:
        tensors[place].requires_grad_(False)
    states, weight, bias = tensors
    found = summed_loss(states, weight, labels, bias)
    expected = functional.cross_entropy(states @ weight.T + bias, labels, reduction="sum")
    assert found.requires_grad == expected.requires_grad and torch.allclose(found, expected)
    if len(frozen) < 3:
        pairs = zip(gradients(found, tensors), gradients(expected, tensors), strict=True)
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in pairs)


def test_no_label_gives_no_loss_and_gradients_of_zero() -> None:
    states, weight, bias, _, labels = given(places=0)
    found = summed_loss(states, weight, labels, bias)
    assert found.item() == 0
    assert [one.abs().sum().item() for one in gradients(found, [states, weight, bias])] == [0, 0, 0]


@pytest.mark.usefixtures("small")
def test_products_in_bfloat16_keep_sums_in_float32() -> None:
    states, weight, bias, _, labels = given(torch.float32)
    found = summed_loss(states, weight, labels, bias, kind=torch.bfloat16)
    expected = functional.cross_entropy(states @ weight.T + bias, labels, reduction="sum")
    assert found.dtype == torch.float32
    # Scores of about 6 are rounded to 8 bits: 0.02 each, of either sign, and 23 of them are added.
    assert found.item() == pytest.approx(expected.item(), rel=5e-3)
    pairs = zip(gradients(found, [states, weight, bias]), gradients(expected, [states, weight, bias]), strict=True)
    for one, other in pairs:
        assert one.dtype == torch.float32 and torch.allclose(one, other, atol=0.02 * other.abs().max().item())


def test_autocast_outside_does_not_change_the_type() -> None:
    states, weight, _, _, labels = given(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_loss(states, weight, labels)
    assert torch.equal(found, summed_loss(states, weight, labels))


def test_a_second_backward_pass_is_refused() -> None:
    states, weight, _, _, labels = given()
    found = summed_loss(states, weight, labels)
    found.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.backward()


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    states, weight, bias, _, labels = given()
    monkeypatch.setattr(portions, "_add", None)
    with torch.no_grad():
        found = summed_loss(states, weight, labels, bias)
    assert not found.requires_grad


def test_the_scores_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "PORTION", 5 * WORDS)
    states, weight, bias, _, labels = given()
    with Largest() as ours:
        gradients(summed_loss(states, weight, labels, bias), [states, weight, bias])
    with Largest() as theirs:
        expected = functional.cross_entropy(states @ weight.T + bias, labels, reduction="sum")
        gradients(expected, [states, weight, bias])
    assert theirs.numbers == PLACES * WORDS
    # 23 places in 5 portions: 5 places at most, and the weight's gradient.
    assert ours.numbers == max(5 * WORDS, WORDS * SIZE)


@pytest.mark.parametrize(("places", "words"), [(0, 7), (1, 7), (7, 1), (1000, 1 << 20), (16, 1 << 25)])
def test_portions_are_of_one_size_and_hold_every_place_once(places: int, words: int) -> None:
    parts = list(portions.portions(torch.empty(places, 3), words))
    sizes = [part.stop - part.start for part in parts]
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(places))
    assert all(size * words <= portions.PORTION or size == 1 for size in sizes)
    assert len(set(sizes[:-1])) <= 1 and all(size % portions.ROUND == 0 or size < portions.ROUND for size in sizes[:-1])


def test_a_large_gradient_makes_portions_larger() -> None:
    def first(gradient: int) -> int:
        return next(portions.portions(torch.empty(1 << 20, 1), 1 << 20, gradient)).stop

    assert first(0) == first(4 * portions.PORTION) == portions.PORTION >> 20
    assert first(64 * portions.PORTION) == 16 * portions.PORTION >> 20


@pytest.mark.parametrize(("places", "expected"), [(0, 0), (1, 1), (32, 32), (33, 64), (64, 64), (100, 128)])
def test_many_places_are_filled_up_to_a_round_number(places: int, expected: int) -> None:
    found = portions.rounded(torch.ones(places, 3))
    assert found.shape == (expected, 3) and found[:places].all() and not found[places:].any()


def test_what_fills_up_is_in_no_loss_and_no_gradient() -> None:
    torch.manual_seed(0)
    states, weight, bias = (torch.randn(*shape).requires_grad_() for shape in ((41, 5), (7, 5), (7,)))
    labels = torch.randint(7, (41,))
    ours = summed_loss(states, weight, labels, bias)
    expected = functional.cross_entropy(states @ weight.T + bias, labels, reduction="sum")
    assert torch.allclose(ours, expected)
    both = [torch.autograd.grad(loss, [states, weight, bias]) for loss in (ours, expected)]
    assert all(torch.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(*both, strict=True))


def test_half_types_are_made_exact() -> None:
    kinds = [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
    assert all(portions.exact(torch.ones(1, dtype=one)).dtype == other for one, other in kinds)
