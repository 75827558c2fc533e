"""How tokens are chosen: shares by hand, transformers' own processors as the reference, settings that contradict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.generate_sampling import Choice, Marks, Sampling


def drawn(sampling: Sampling, scores: torch.Tensor, count: int) -> torch.Tensor:
    """The shares of the tokens among `count` draws of one row of scores."""
    prompts = [[1]] * count
    chosen = Choice(sampling, prompts, [1] * count)(scores.expand(count, -1), range(count), prompts, [[]] * count)
    return torch.bincount(chosen, minlength=scores.shape[-1]) / count


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({"temperature": 1.0}, [0.5, 0.25, 0.125, 0.125]),
        # The square roots of the shares, made to sum to one.
        ({"temperature": 2.0}, [0.3694, 0.2612, 0.1847, 0.1847]),
        ({"temperature": 1.0, "top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.6}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.5}, [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_by_their_shares(settings: dict[str, Any], shares: list[float]) -> None:
    scores = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    found = drawn(Sampling(**settings), scores, 4000)
    # Four standard deviations of a share of one half.
    assert (found - torch.tensor(shares)).abs().max() < 4 * (0.25 / 4000) ** 0.5
    assert all(own == 0 for own, share in zip(found.tolist(), shares, strict=True) if share == 0)


def test_draws_follow_from_the_prompt_and_the_place_in_the_answer() -> None:
    scores, sampling = torch.zeros(3, 1000), Sampling(temperature=1.0)
    prompts = [[1, 5], [1, 6], [1, 5]]
    choice = Choice(sampling, prompts, [4] * 3)
    first = choice(scores, [0, 1, 2], prompts, [[], [], []]).tolist()
    assert len(set(first)) == 3
    assert choice(scores[:2], [2, 0], [prompts[2], prompts[0]], [[], []]).tolist() == [first[2], first[0]]
    assert choice(scores[:1], [0], prompts[:1], [[first[0]]]).tolist() != first[:1]
    assert Choice(sampling, prompts[1:], [4] * 2)(scores[:1], [0], prompts[1:2], [[]]).tolist() == [first[1]]


def test_what_stands_there_is_punished_by_hand() -> None:
    scores = torch.tensor([[2.0, 1.5, -1.0], [2.0, 1.5, -1.0]])
    choice = Choice(Sampling(repetition_penalty=2.0), [[0], [2, 2]], [3, 3])
    # 2 / 2 is less than 1.5; token 2, which stands in the other row, is not its likeliest anyway.
    assert choice(scores, [0, 1], [[0], [2, 2]], [[], []]).tolist() == [1, 0]
    assert choice(scores, [0, 1], [[0], [2, 2]], [[1], [0]]).tolist() == [0, 1]


def test_the_end_token_always_ends_an_answer() -> None:
    assert Marks.of(tiny_tokenizer(), (7,), None) == Marks((7, 2), 0, None)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top_p": 0.9}, "give a temperature above 0"),
        ({"top_k": 5}, "give a temperature above 0"),
        ({"temperature": 1.0, "beams": 2}, "leave temperature at 0"),
        ({"beams": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Sampling(**settings)
