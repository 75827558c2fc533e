"""Talks to token ids: what carries loss, the prompt as a prefix, cutting, pairs for encoder-decoders."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.tasks import test_generate_templates as written
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import generate_chat as chat
from tunesmith.tasks import generate_templates as templates
from tunesmith.tasks.generate_chat import Encoded, Pair
from tunesmith.tasks.generate_formats import Turn
from tunesmith.tasks.generate_templates import Layout

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
TALKS = {
    "one": [Turn("user", "Is oak hard?"), Turn("assistant", "Yes, it is.")],
    "system": [Turn("system", "Be brief."), Turn("user", "Is oak hard?"), Turn("assistant", "Yes.")],
    "several": [
        Turn("user", "Is oak hard?"),
        Turn("assistant", "Yes."),
        Turn("user", "And pine? Yes."),
        Turn("assistant", "No, it is soft.\nCherry is harder."),
        Turn("user", "Thanks!"),
        Turn("assistant", "Yes."),
    ],
    "strange": [Turn("user", "Wie weich ist Fichte? 🌲"), Turn("assistant", "ungefähr 🌲🌲 «4»\t, nicht\u00a0mehr")],
    "alike": [Turn("user", "x"), Turn("assistant", "x"), Turn("user", "x"), Turn("assistant", "x")],
    "indented": [Turn("user", "List them."), Turn("assistant", "\n\n  - oak\n  - pine\n")],
}


@cache
def byte_level() -> PreTrainedTokenizerBase:
    """A byte-level BPE with merges, as GPT-2's: a space belongs to the word behind it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    texts = [f" {turn.content}\n\n{turn.role}:\n" for talk in TALKS.values() for turn in talk]
    tokenizer.train_from_iterator([*texts, *written.ALL.values()] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=512
    )


@cache
def stories() -> PreTrainedTokenizerBase:
    return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(STORIES))


@cache
def slow() -> PreTrainedTokenizerBase:
    """A tokenizer in Python, which can't tell the characters of its tokens."""
    tokenizer = ByT5Tokenizer()
    tokenizer.bos_token = "</s>"
    return tokenizer


TOKENIZERS = [
    tiny_tokenizer,
    byte_level,
    slow,
    pytest.param(stories, marks=pytest.mark.skipif(not STORIES.is_dir(), reason="no such model here")),
]


def layout(template: str | None, tokenizer: PreTrainedTokenizerBase) -> Layout:
    tokenizer.chat_template = template
    return templates.layout("auto", tokenizer)


def learned(encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The runs of positions that carry loss, as texts."""
    runs: list[list[int]] = []
    for place, (one, loss) in enumerate(zip(encoded.ids, encoded.loss, strict=True)):
        if loss and not (place and encoded.loss[place - 1]):
            runs.append([])
        if loss:
            runs[-1].append(one)
    return [str(tokenizer.decode(run)) for run in runs]


def test_a_talk_by_hand() -> None:
    # The tiny tokenizer has a token a byte: <s> is 1, </s> is 2, so positions can be counted in the text.
    # "<s>" 1 + "### Instruction:\n" 17 + "Hi" 2 + "\n\n" 2 + "### Response:\n" 14 = 36 ids of the prompt; then "Yo"
    # and the end token: 3 ids that carry loss.
    tokenizer = tiny_tokenizer()
    found = layout(None, tokenizer)
    encoded = chat.encode([Turn("user", "Hi"), Turn("assistant", "Yo")], found)
    assert (len(encoded.ids), encoded.prompt, sum(encoded.loss[1:])) == (39, 36, 3)
    assert encoded.loss == [False] * 36 + [True] * 3
    assert encoded.ids[0] == 1 and encoded.ids.count(1) == 1 and encoded.ids[-1] == 2
    assert tokenizer.decode(encoded.ids[36:]) == "Yo</s>"


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("template", [*written.ALL, "plain"])
@pytest.mark.parametrize("talk", TALKS)
def test_prompts_are_prefixes_and_answers_with_their_ends_carry_the_loss(
    talk: str, template: str, make: object
) -> None:
    tokenizer = make()  # type: ignore[operator]
    found = layout(written.ALL.get(template), tokenizer)
    turns = TALKS[talk]
    encoded = chat.encode(turns, found)
    asked = turns[:-1] if turns[-1].role == "assistant" else turns
    assert encoded.ids[: encoded.prompt] == chat.encode(asked, found).ids
    # All turns of the assistant are learned, each to its end.
    answers = [turn.content.strip() for turn in turns if turn.role == "assistant"]
    runs = learned(encoded, tokenizer)
    assert len(runs) == len(answers)
    for run, answer in zip(runs, answers, strict=True):
        plain = str(tokenizer.decode(chat._ids(answer, tokenizer))).strip()
        assert plain in run
        assert run.strip().endswith(("</s>", "<|im_end|>", str(tokenizer.pad_token))), run
        extra = run.replace(plain, "")
        assert "oak hard" not in extra and "Instruction" not in extra and "user" not in extra.lower()
    assert not any(encoded.loss[: encoded.prompt]) or len(answers) > 1
    assert encoded.loss[encoded.prompt]


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("template", [*written.ALL, "plain"])
def test_ids_are_the_templates_own_for_the_whole_talk(template: str, make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    found = layout(written.ALL.get(template), tokenizer)
    turns = TALKS["several"]
    whole = tokenizer.apply_chat_template(
        [turn._asdict() for turn in turns], chat_template=found.template, tokenize=True, return_dict=False
    )
    encoded = chat.encode(turns, found)
    if (template, make) == ("spaced", byte_level):
        assert encoded.ids != whole  # there the prompt would be no prefix of them: see below
    else:
        assert encoded.ids == whole


def test_where_prompt_and_answer_would_join_they_are_tokenised_apart() -> None:
    # "ASSISTANT: Yes" is one text, but " Yes" one token of it; a model that answers has read "ASSISTANT: ".
    tokenizer = byte_level()
    found = layout(written.SPACED, tokenizer)
    encoded = chat.encode(TALKS["one"], found)
    text = "USER: Is oak hard? ASSISTANT: Yes, it is.</s>"
    assert tokenizer.decode(encoded.ids) == text
    assert encoded.ids != chat._ids(text, tokenizer)
    assert tokenizer.decode(encoded.ids[: encoded.prompt]) == "USER: Is oak hard? ASSISTANT: "
    assert learned(encoded, tokenizer) == ["Yes, it is.</s>"]


@pytest.mark.skipif(not STORIES.is_dir(), reason="no such model here")
def test_apart_no_space_is_put_before_the_answer() -> None:
    ids, places = chat._continued("Yes", stories())
    assert stories().convert_ids_to_tokens(ids)[0] != "▁" and places[0] == (0, 1)
    assert stories().decode([*chat._ids("a", stories()), *ids]) == "aYes"


def test_a_token_that_swallows_the_space_behind_it_is_the_prompts() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|assistant|>"]})  # type: ignore[dict-item]
    turns = [Turn("user", "a"), Turn("assistant", "  b"), Turn("user", "c"), Turn("assistant", "  d")]
    encoded = chat.encode(turns, layout(written.HEADED, tokenizer))
    assert [run.strip() for run in learned(encoded, tokenizer)] == ["b</s>", "d</s>"]
    assert not chat._within((3, 9), 5, 12, special=True) and chat._within((3, 9), 5, 12, special=False)
    assert chat._within((5, 5), 5, 12, special=False) and not chat._within((12, 12), 5, 12, special=False)


def test_marks_of_the_template_that_leave_out_the_end_are_not_relied_on() -> None:
    # transformers' own mask for this template holds the answer alone; for one without marks it is zero everywhere.
    tokenizer = tiny_tokenizer()
    encoded = chat.encode(TALKS["one"], layout(written.MARKED, tokenizer))
    messages = [turn._asdict() for turn in TALKS["one"]]
    theirs = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True)["assistant_masks"]  # type: ignore[call-overload,index]
    assert sum(encoded.loss[1:]) == sum(theirs) + 1
    assert learned(encoded, tokenizer) == ["Yes, it is.</s>"]


def test_all_positions_may_carry_loss() -> None:
    encoded = chat.encode(TALKS["one"], layout(None, tiny_tokenizer()), "all")
    assert all(encoded.loss) and sum(encoded.loss[1:]) == len(encoded.ids) - 1


def test_a_talk_without_an_answer_is_a_prompt() -> None:
    found = layout(None, tiny_tokenizer())
    asked = chat.encode(TALKS["one"][:1], found)
    assert (sum(asked.loss[1:]), asked.prompt) == (0, len(asked.ids))
    longer = chat.encode(TALKS["several"][:3], found)
    assert learned(longer, found.tokenizer) == ["Yes.</s>"] and longer.prompt == len(longer.ids)


def test_thoughts_that_the_template_writes_are_learned_with_the_answer() -> None:
    tokenizer = tiny_tokenizer()
    encoded = chat.encode(TALKS["several"], layout(written.THINKING, tokenizer))
    assert learned(encoded, tokenizer)[0] == "Yes.</s>"
    assert learned(encoded, tokenizer)[2] == "<think>\n\n</think>\n\nYes.</s>"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        # Shows no answer but the first; says another word for one answer; writes another question.
        ("{% for m in messages %}{{ '[' + m.role + ']' + (m.content if loop.index < 3 else '') + '</s>' }}{% endfor %}"
         "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}", "leaves out a text of the user: 'And pine"),
        (written.HEADED.replace("m.content", "m.content | replace('soft', 'hard')"), "leaves out a text of the assist"),
        # The answer is there, but behind something that no other answer has before it.
        (written.HEADED.replace("m.content", "('(sic) ' + m.content if 'soft' in m.content else m.content)"),
         "changes or leaves out an answer: 'No, it is soft"),
        # The first answers are written in another way than they were asked for.
        (written.HEADED.replace("'<|' + m.role", "(loop.length | string if loop.length > 3 else '') + '<|' + m.role"),
         "asks for an answer in other words than it writes the talk in"),
    ],
)  # fmt: skip
def test_a_talk_that_a_template_does_not_write_as_it_is_is_refused(template: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        chat.encode(TALKS["several"], layout(template, tiny_tokenizer()))
    assert "task.template: plain" in caught.value.hint


def test_tokens_in_the_texts_of_rows_are_warned_of() -> None:
    chat._say_token.cache_clear()
    found = layout(None, tiny_tokenizer())
    with listening() as notes:
        chat.encode([Turn("user", "What is <s>old</s>?"), Turn("assistant", "Struck out.")], found)
    assert [note for note in notes if "'</s>'" in note and "a token of its own" in note]


def test_a_long_talk_is_cut_at_its_end_or_dropped() -> None:
    encoded = Encoded(list(range(10)), [False] * 6 + [True] * 4, 6)
    assert chat.fit(encoded, 10, "drop") is encoded
    cut = chat.fit(encoded, 8, "cut")
    assert cut == Encoded(list(range(8)), [False] * 6 + [True] * 2, 6, cut=2) and sum(cut.loss[1:]) == 2
    empty = chat.fit(encoded, 5, "cut")
    assert empty is not None and (sum(empty.loss[1:]), empty.prompt, empty.cut) == (0, 5, 5)
    assert chat.fit(encoded, 9, "drop") is None


def test_a_pair_by_hand() -> None:
    # One token a byte, and `<s> text </s>` on both sides.
    tokenizer = tiny_tokenizer()
    pair = chat.encode_pair([Turn("user", "Hi"), Turn("assistant", " Yo ")], tokenizer)
    assert (len(pair.source), tokenizer.decode(pair.source)) == (4, "<s>Hi</s>")
    assert (len(pair.target), tokenizer.decode(pair.target)) == (4, "<s>Yo</s>")
    assert chat.encode_pair([Turn("user", "Hi")], tokenizer) == Pair(pair.source, [])


def test_a_target_ends_with_the_end_token_once() -> None:
    plain = byte_level()  # adds no special tokens by itself
    target = chat.encode_pair(TALKS["one"], plain).target
    assert target[-1] == plain.eos_token_id and target.count(target[-1]) == 1
    assert chat.encode_pair(TALKS["one"], tiny_tokenizer()).target[-2:] != [2, 2]


def test_the_source_of_a_pair_is_the_question_or_all_turns_under_headings() -> None:
    tokenizer = tiny_tokenizer()
    source = chat.encode_pair(TALKS["system"], tokenizer).source
    assert tokenizer.decode(source, skip_special_tokens=True) == "Be brief.\n\nIs oak hard?"
    with listening() as notes:
        source = chat.encode_pair(TALKS["several"], tokenizer).source
    assert tokenizer.decode(source, skip_special_tokens=True).startswith(
        "### Instruction:\nIs oak hard?\n\n### Response:\nYes.\n\n### Instruction:\nAnd pine?"
    )
    assert any("learns the last answer of a talk" in note for note in notes)


def test_a_long_pair_is_cut_on_either_side_or_dropped() -> None:
    pair = Pair([1, 5, 6, 7, 2], [1, 8, 9, 2])
    assert chat.fit_pair(pair, 5, "cut") is pair
    assert chat.fit_pair(pair, 3, "cut") == Pair([1, 5, 2], [1, 8, 9], cut=3)
    assert chat.fit_pair(pair, 4, "drop") is None
