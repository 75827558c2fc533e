"""Freezing scores: the falling ratio, the moving means, and who freezes, against hand calculations."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tunesmith.methods.freezing_score import Scores, keep_ratio, quantile, who_freezes


def test_the_ratio_falls_from_one_to_zero() -> None:
    ratios = [keep_ratio(step, 5.0, 30.0) for step in range(101)]
    assert all(ratio == 1.0 for ratio in ratios[:6])
    assert all(later < earlier for earlier, later in pairwise(ratios[5:31]))
    assert all(ratio == 0.0 for ratio in ratios[30:])
    assert keep_ratio(15, 5.0, 30.0) == pytest.approx(0.216)  # (1 - 10 / 25)^3 = 0.6^3


@pytest.mark.parametrize(("step", "ratio"), [(9, 1.0), (10, 1.0), (11, 0.0)])
def test_without_time_between_its_ends_the_ratio_drops_at_once(step: int, ratio: float) -> None:
    assert keep_ratio(step, 10.0, 10.0) == ratio


def test_two_windows_by_hand() -> None:
    scores = Scores({"a": torch.zeros(2)}, beta1=0.8, beta2=0.5)
    scores.gather({"a": torch.tensor([1.0, -2.0])})
    scores.gather({"a": torch.tensor([-3.0, 0.0])})
    # I = (2, 1); Ibar = 0.2 I = (0.4, 0.2); Ubar = 0.5 |I - Ibar| = (0.8, 0.4)
    assert scores.close()["a"].tolist() == pytest.approx([0.32, 0.08])
    scores.gather({"a": torch.tensor([0.0, 6.0])})
    scores.gather({"a": None})
    # I = (0, 3); Ibar = (0.32, 0.16 + 0.6 = 0.76); Ubar = (0.4 + 0.16, 0.2 + 0.5 * 2.24) = (0.56, 1.32)
    assert scores.close()["a"].tolist() == pytest.approx([0.1792, 1.0032])


def test_who_freezes_by_hand() -> None:
    # All elements: 0, 1, 2, 4, 6, 8, 9, 10. Means: 1 (a), 6 (b), 8 (c).
    scores = {"a": torch.tensor([[0.0, 1.0, 2.0]]), "b": torch.tensor([[4.0], [8.0]]), "c": torch.tensor([6.0, 9, 9])}
    scores["c"][2] = 10.0
    means = {name: round(score.mean().item(), 3) for name, score in scores.items()}
    assert means == {"a": 1.0, "b": 6.0, "c": 8.333}
    # The quantile q stands at place 7 q of the ordered elements.
    assert who_freezes(scores, 1.0) == []
    assert who_freezes(scores, 6 / 7) == []  # place 1: 1, and a's mean is not below it
    assert who_freezes(scores, 5.5 / 7) == ["a"]  # place 1.5: 1.5
    assert who_freezes(scores, 3 / 7) == ["a"]  # place 4: 6, and b's mean is not below it
    assert who_freezes(scores, 2.5 / 7) == ["a", "b"]  # place 4.5: 7
    assert who_freezes(scores, 1e-9) == ["a", "b", "c"]
    assert who_freezes(scores, 0.0) == ["a", "b", "c"]
    assert who_freezes({}, 0.5) == []


def test_at_ratio_zero_even_equal_scores_freeze() -> None:
    scores = {"a": torch.ones(2, 2), "b": torch.ones(3)}
    assert who_freezes(scores, 0.5) == []  # no mean is below the quantile, which is 1
    assert who_freezes(scores, 0.0) == ["a", "b"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.377, 0.5, 0.99, 1.0])
def test_the_quantile_is_torchs(share: float) -> None:
    values = torch.rand(101, generator=torch.Generator().manual_seed(0))
    assert quantile(values, share) == pytest.approx(torch.quantile(values, share).item(), abs=1e-6)


def test_the_quantile_of_more_than_torchs_limit() -> None:
    values = torch.zeros(2**24 + 3)
    values[::2] = 1.0
    assert quantile(values, 0.75) == 1.0


def test_state_goes_from_one_to_another_and_dropped_matrices_are_gone() -> None:
    matrices = {"a": torch.zeros(2), "b": torch.zeros(3, 1)}
    first, second = Scores(matrices, 0.85, 0.95), Scores(matrices, 0.85, 0.95)
    for value in (1.0, 2.0):
        first.gather({"a": torch.full((2,), value), "b": torch.full((3, 1), -value)})
        first.close()
    first.drop("a")
    first.gather({"b": torch.ones(3, 1)})
    second.drop("a")
    second.restore(first.state())
    assert first.names == second.names == ["b"]
    assert set(first.state()) == {"updates", "window.b", "sensitivity.b", "uncertainty.b"}
    assert first.state()["updates"] == second.state()["updates"] == 1
    assert torch.equal(first.close()["b"], second.close()["b"])
