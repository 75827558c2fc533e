"""Windows: the tokenizer's own, whole contexts, answers where they stand."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from tokenizers import processors

from tunesmith.core.errors import DataError, RecipeError
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import span_windows
from tunesmith.tasks.span_windows import Encoded, Shape

QUESTION, CONTEXT = "What is red?", "The oak table is old, the chair by the window is red and new."


def encoded(most: int = 64, tokenizer: Any = None, context: str = CONTEXT) -> Encoded:
    (one,) = span_windows.encode([QUESTION], [context], tokenizer or tiny_tokenizer(), most)
    return one


def glueing() -> Any:
    """A tokenizer of GPT-2's kind: no special tokens at all."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


@pytest.mark.parametrize(("length", "stride"), [(40, 5), (40, 0), (30, 13), (128, 20), (79, 10)])
def test_windows_are_those_of_the_tokenizer(length: int, stride: int) -> None:
    # The reference: the tokenizers library's own overflowing windows.
    tokenizer = tiny_tokenizer()
    theirs = tokenizer(
        QUESTION, CONTEXT, truncation="only_second", max_length=length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    one = encoded()
    parts = [one.part(window, None) for window in one.windows(Shape(length, stride, 64))]
    assert [part["input_ids"] for part in parts] == theirs["input_ids"]
    for number, part in enumerate(parts):
        inside = [owner == 1 for owner in theirs.sequence_ids(number)]
        offsets = [
            list(pair) if own else [0, 0] for pair, own in zip(theirs["offset_mapping"][number], inside, strict=True)
        ]
        assert part["characters"] == offsets


def test_every_context_token_is_in_a_window_and_neighbours_share_the_stride() -> None:
    draw = random.Random(0)
    for _ in range(200):
        tokens = draw.randrange(1, 60)
        stride = draw.randrange(0, 8)
        one = replace(encoded(), context=[5] * tokens, before=[1] * 4, after=[2])
        windows = one.windows(Shape(5 + stride + draw.randrange(1, 9), stride, 9))
        assert set().union(*(range(low, high + 1) for low, high in windows)) == set(range(tokens))
        assert all(a[1] - b[0] + 1 == stride for a, b in pairwise(windows))


def test_a_long_question_is_cut_and_said() -> None:
    one = encoded(most=4)
    assert one.cut and tiny_tokenizer().decode(one.before) == "<s>What</s>"
    assert not encoded().cut


def test_types_go_with_their_tokens() -> None:
    one = replace(encoded(most=4), types=[0] * 6 + [1] * (len(CONTEXT) + 1))
    part = one.part((3, 9), None)
    assert part["token_type_ids"] == [0] * 6 + [1] * 8
    assert "token_type_ids" not in encoded().part((3, 9), None)


def test_a_tokenizer_that_puts_nothing_between_is_helped() -> None:
    one = encoded(most=4, tokenizer=glueing())
    assert one.cut and tiny_tokenizer().decode(one.before) == "What</s>"
    assert len(one.context) == len(CONTEXT) and one.offsets[4] == (4, 5)
    assert one.part((0, 1), None)["silence"] == 0


@pytest.mark.parametrize(
    ("window", "target"),
    [
        # "chair" is characters 26 to 30, one token each; 14 tokens stand before the context.
        ((0, 40), [14 + 26, 14 + 30]),
        ((20, 40), [14 + 6, 14 + 10]),
        ((26, 30), [14, 18]),
        ((27, 60), [0, 0]),
        ((0, 29), [0, 0]),
    ],
)
def test_targets_point_at_the_answer_or_at_the_first_token(window: tuple[int, int], target: list[int]) -> None:
    one = encoded()
    start = CONTEXT.index("chair")
    answer = one.tokens_of((start, start + 5))
    assert answer == (26, 30)
    assert one.target(window, answer, 0) == target
    if target != [0, 0]:
        ids = one.part(window, None)["input_ids"]
        assert tiny_tokenizer().decode(ids[target[0] : target[1] + 1]) == "chair"


def test_an_answer_inside_tokens_takes_them_whole() -> None:
    # Tokens "The ", "oak ", "table": the answer "ak tab" has characters of the second and third.
    one = replace(encoded(), context=[7, 8, 9], offsets=[(0, 4), (4, 8), (8, 13)])
    assert one.tokens_of((5, 11)) == (1, 2)
    assert one.tokens_of((0, 1)) == (0, 0)
    assert one.tokens_of((13, 14)) == (2, 2)  # characters that no token holds


def test_no_answer_is_at_the_classifier() -> None:
    one = replace(encoded(), before=[7, 8, 5], after=[6])
    assert one.part((0, 1), 5)["silence"] == 2
    assert one.part((0, 1), 99)["silence"] == 0


def test_an_example_tells_what_it_holds() -> None:
    row = {"line": 3, "question": QUESTION, "context": CONTEXT, "answers": [{"start": None, "text": "chair"}]}
    held = span_windows.example(row, encoded(), Shape(128, 20, 64), 1)
    assert held["answer_tokens"] == 5 and [part["target"] for part in held["parts"]] == [[40, 44]]
    # No window of 20 tokens, 5 of them context and 4 of these shared, holds "the chair": one has room for 5.
    long = {**row, "answers": [{"start": None, "text": "the chair"}]}
    lost = span_windows.example(long, encoded(), Shape(20, 4, 64), 1)
    assert lost["answer_tokens"] == 0 and {tuple(part["target"]) for part in lost["parts"]} == {(0, 0)}
    silent = span_windows.example({**row, "answers": []}, encoded(), Shape(128, 20, 64), 1)
    assert silent["answer_tokens"] == 0 and silent["parts"][0]["target"] == [0, 0]
    asked = {"question": QUESTION, "context": CONTEXT}
    assert "target" not in span_windows.example(asked, encoded(), Shape(128, 20, 64), 1)["parts"][0]


def test_windows_that_would_not_move_on_are_refused() -> None:
    row = {"line": 3, "question": QUESTION, "context": CONTEXT, "answers": []}
    with pytest.raises(RecipeError, match=r"line 3 a window of 30 tokens has 15 left.*share 15 would not move on"):
        span_windows.example(row, encoded(), Shape(30, 15, 64), 1)
    with pytest.raises(DataError, match="line 3 holds nothing"):
        span_windows.example(row, replace(encoded(), context=[]), Shape(30, 5, 64), 1)
    assert encoded(context="").context == []


def test_likeliest_spans_are_those_of_a_search() -> None:
    torch.manual_seed(0)
    starts, ends, inside = torch.randn(3, 9), torch.randn(3, 9), torch.rand(3, 9) > 0.3
    for longest, count in ((1, 3), (4, 8), (30, 500)):
        scores, first, last = span_windows.likeliest(starts, ends, inside, longest, count)
        for window in range(3):
            able = [i for i in range(9) if inside[window, i]]
            every = sorted(
                (
                    (float(starts[window, i] + ends[window, j]), i, j)
                    for i in able
                    for j in able
                    if i <= j < i + longest
                ),
                reverse=True,
            )[:count]
            found = list(zip(scores[window].tolist(), first[window].tolist(), last[window].tolist(), strict=True))
            assert [one[1:] for one in found if one[0] > -torch.inf] == [one[1:] for one in every]


def test_white_space_is_no_part_of_a_span() -> None:
    assert span_windows.trimmed("a  red\n oak ", (1, 7)) == (3, 6)
    assert span_windows.trimmed("a  b", (1, 3)) == (3, 3)
