"""What text generation learns from: pieces by hand, every token once, counts that are said, and refusals."""

from __future__ import annotations

import random
from typing import Any

import pytest
from datasets import Dataset
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import generate_templates as templates
from tunesmith.tasks.generate_lessons import (
    LEAST_ROOM,
    Talks,
    Tally,
    chosen,
    documents,
    learned,
    raw,
    tokens_of,
    with_room,
)

TOKENIZER = tiny_tokenizer()
A = TOKENIZER("a", add_special_tokens=False)["input_ids"][0]
"""The id of the letter a; those of the next letters follow."""


def bare() -> PreTrainedTokenizerFast:
    """A tokenizer that puts nothing round a text, as GPT-2's."""
    found = tiny_tokenizer()
    found.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return found


def pieces(text: str, tokenizer: Any, limit: int, join: bool = False) -> list[dict[str, Any]]:
    rows = [{"text": one, "line": number} for number, one in enumerate(text.split("|"), 1)]
    return [{**example, "line": line} for line, example in documents(rows, tokenizer, limit, join)]


def shown(example: dict[str, Any]) -> str:
    """Its tokens as text, those that carry loss in capitals."""
    words = TOKENIZER.convert_ids_to_tokens(example["input_ids"])
    return "".join(word.upper() if flag else word for word, flag in zip(words, example["loss"], strict=True))


def test_pieces_by_hand() -> None:
    found = pieces("abcdef|g", TOKENIZER, 4)
    assert [shown(one) for one in found] == ["<s>ABC", "<s>DEF", "<s></S>", "<s>G</S>"]
    assert [one["line"] for one in found] == [1, 1, 1, 2]


def test_pieces_without_a_start_token_begin_with_the_last_token_before() -> None:
    found = pieces("abcdef|g", bare(), 4)
    assert [shown(one) for one in found] == ["aBC", "cDEF", "f</S>", "g</S>"]


def test_joined_pieces_by_hand() -> None:
    # One running text ab</s>cde</s>, three of it behind each start.
    assert [shown(one) for one in pieces("ab|cde", TOKENIZER, 4, join=True)] == ["<s>AB</S>", "<s>CDE", "<s></S>"]
    assert [shown(one) for one in pieces("ab|cde", bare(), 4, join=True)] == ["aB</S>", "</s>CDE", "e</S>"]


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("starts", [False, True])
def test_every_token_is_learned_once_and_in_its_order(starts: bool, join: bool) -> None:
    draw = random.Random(5)
    tokenizer = tiny_tokenizer() if starts else bare()
    for _ in range(30):
        texts = ["".join(draw.choice("ab c\néz") for _ in range(draw.randint(1, 40))) for _ in range(3)]
        limit = draw.randint(4, 20)
        found = pieces("|".join(texts), tokenizer, limit, join)
        assert max(len(one["input_ids"]) for one in found) <= limit
        told = [id for one in found for id, flag in zip(one["input_ids"], one["loss"], strict=True) if flag]
        whole = [[*tokenizer(text, add_special_tokens=False)["input_ids"], 2] for text in texts]
        if not starts:  # nothing stands before the first token of all
            whole = [whole[0][1:], *(ids if join else ids[1:] for ids in whole[1:])]
        assert told == [id for ids in whole for id in ids]


def test_a_whole_text_is_measured_in_parts() -> None:
    found = raw({"text": "ab cd"}, TOKENIZER, 4)
    assert [shown(part) for part in found["parts"]] == ["<s>ABĠ", "<s>CD</S>"]
    assert found["size"] == (2, 5)
    assert TOKENIZER.decode(found["prompt"]) == "<s>ab cd"  # which goes on: no end token
    # A text of special tokens alone is nothing that could be learned, and no fault.
    assert learned(raw({"text": ""}, TOKENIZER, 4)["parts"][0]) == 0


def talks(loss_on: Any = "responses") -> Talks:
    return Talks("alpaca", "", loss_on, TOKENIZER, templates.layout("plain", TOKENIZER))


ROW = {"line": 7, "instruction": "Say a.", "input": "", "output": "aa"}


def test_answers_and_their_end_carry_loss() -> None:
    example = talks().example(ROW, 128, "cut")
    assert example is not None
    assert shown(example).endswith("###ĠResponse:ĊAA</S>") and learned(example) == 3
    assert TOKENIZER.decode(example["prompt"]).endswith("### Response:\n")
    assert example["input_ids"][: len(example["prompt"])] == example["prompt"]
    whole = talks("all").example(ROW, 128, "cut")
    assert whole is not None and learned(whole) == len(whole["input_ids"]) - 1
    bare_row = {key: value for key, value in ROW.items() if key != "output"}
    asked = talks("all").example(bare_row, 128, "cut")
    assert asked is not None and learned(asked) == 0 and asked["input_ids"] == example["prompt"]


def test_an_encoder_decoder_reads_the_question_and_writes_the_answer() -> None:
    example = Talks("alpaca", "", "responses", TOKENIZER, None).example(ROW, 128, "cut")
    assert example is not None
    assert TOKENIZER.decode(example["input_ids"]) == "<s>Say a.</s>"
    assert TOKENIZER.decode(example["labels"]).endswith("aa</s>")
    assert tokens_of(example) == len(example["input_ids"]) + len(example["labels"])


def test_what_is_lost_is_counted_and_said() -> None:
    rows = [ROW, {**ROW, "line": 8, "output": "b" * 90}, {**ROW, "line": 9, "instruction": "q" * 120}]
    tally = Tally(100)
    kept = list(tally.through(talks().examples(rows, 100, "cut"), TOKENIZER))
    assert [one["line"] for one in kept] == [7, 8] and [one["cut"] for one in kept] == [False, True]
    assert "prompt" not in kept[0]
    with listening() as told:
        tally.tell()
    assert told[0].startswith("2 training examples of ") and f": {tally.learned} positions carry loss." in told[0]
    assert told[1:] == [
        "1 of 3 training examples are longer than 100 tokens and cut at the end: line 8.",
        "1 of 3 training examples are without a position that carries loss and left out: line 9.",
    ]
    dropping = Tally(100)
    kept = list(dropping.through(talks().examples(rows, 100, "drop"), TOKENIZER))
    assert [one["line"] for one in kept] == [7] and dropping.dropped == [8, 9]


def test_nothing_to_learn_is_refused_with_counts_and_an_example() -> None:
    rows = [{**ROW, "line": line, "instruction": "q" * 200} for line in range(2, 10)]
    with pytest.raises(DataError, match=r"8 of 8 .* without a position .* \(lines 2, 3, 4, 5, 6, …\)\.") as caught:
        list(Tally(64).through(talks().examples(rows, 64, "cut"), TOKENIZER))
    assert "nqqqqq" in caught.value.message and "The first that was seen ends in " in caught.value.message
    assert "task.max_length" in caught.value.hint
    with pytest.raises(DataError, match=r"8 of 8 training examples are longer than 64 tokens and left out"):
        list(Tally(64).through(talks().examples(rows, 64, "drop"), TOKENIZER))
    with pytest.raises(DataError, match="holds no text"):
        list(Tally(64).through(documents([], TOKENIZER, 64, False), TOKENIZER))


def test_a_prompt_keeps_its_end_where_it_leaves_too_little_room() -> None:
    example = {"prompt": list(range(80))}
    assert with_room(example, 128, 32) == {"prompt": list(range(80)), "room": 32, "short": False}
    assert with_room(example, 100, 32)["room"] == 20
    tight = with_room(example, 80 + LEAST_ROOM - 1, 32)
    assert (
        tight["short"] and tight["room"] == 32 and tight["prompt"] == list(range(80 - (80 + LEAST_ROOM - 1 - 32), 80))
    )


def test_the_same_rows_are_always_chosen() -> None:
    rows = [{"prompt": f"q {number}", "completion": [f"a {number}"]} for number in range(40)]
    places = chosen(rows, "prompt_completion", 7)
    assert len(places) == 7
    turned = chosen(rows[::-1], "prompt_completion", 7)
    assert {rows[place]["prompt"] for place in places} == {rows[::-1][place]["prompt"] for place in turned}
    assert chosen([{"prompt": "q"}, *rows], "prompt_completion", 0) == [0]
    assert chosen([{"text": "a"}], "text", 5) == []


def test_rows_without_lines_are_numbered() -> None:
    rows = Dataset.from_list([{"instruction": "q", "input": "", "output": "a"}])
    assert [line for line, _ in talks().examples(list(rows), 100, "cut")] == [1]
