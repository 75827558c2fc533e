"""Chat templates: the one that is chosen, what it writes around an answer, and which ones are refused."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import generate_templates as templates
from tunesmith.tasks.generate_formats import Turn

# Written for these tests, in the manner of what models bring along. The end of a turn is a token where the tokenizer
# has it, and else plain text.
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '[SYS]' + m.content + '[/SYS]' }}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
HEADED = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
    "+ '</s>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start>model\n' }}{% endif %}"
)
SPACED = (  # the words that ask for an answer end with a space, which many tokenizers join to the next word
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + eos_token }}"
    "{% else %}{{ m.role | upper + ': ' + m.content + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)
MARKED = (  # with marks of its own, which leave out the end of a turn
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<a>' }}{% generation %}{{ m.content }}"
    "{% endgeneration %}{{ eos_token }}{% else %}{{ '<q>' + m.content + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
THINKING = (  # the last answer is written behind empty thoughts, which the words that ask for it don't hold
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}{% if loop.last and m.role == 'assistant' %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LAST_ENDS = (  # the last turn is closed by another token than the others
    "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% if m.role == 'assistant' %}"
    "{{ eos_token if loop.last else pad_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
ALL = {
    "chatml": CHATML,
    "inst": INST,
    "headed": HEADED,
    "no_system": NO_SYSTEM,
    "spaced": SPACED,
    "marked": MARKED,
    "thinking": THINKING,
    "last_ends": LAST_ENDS,
}

FORGETFUL = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
OTHER_WORDS = HEADED.replace("'<|assistant|>\n' }}{% endif %}", "'<|assistant|>\n<think>\n' }}{% endif %}")
SHOUTING = HEADED.replace("m.content", "m.content | upper")
BROKEN = "{% for m in messages %}{{ m.nothing.at_all }}{% endfor %}"


def with_template(template: str | None) -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def said(template: str | None) -> str:
    with listening() as notes:
        templates.tell(templates.layout("auto", with_template(template)))
    return "\n".join(notes)


def test_auto_takes_the_tokenizers_own_template_where_there_is_one() -> None:
    assert templates.layout("auto", with_template(HEADED)).template == HEADED
    assert "own chat template" in said(HEADED)
    found = templates.layout("auto", with_template(None))
    assert (found.own, found.template) == (False, templates.plain(tiny_tokenizer()))
    assert "plain template: '### Instruction:', '### Response:'" in said(None)
    assert not templates.layout("plain", with_template(HEADED)).own


def test_a_template_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"task.template: the tokenizer has no chat template") as caught:
        templates.layout("model", with_template(None))
    assert "task.template: plain" in caught.value.hint
    several = with_template(None)
    several.chat_template = {"tools": HEADED, "rag": HEADED}  # type: ignore[assignment]
    with pytest.raises(RecipeError, match="several chat templates, and none of them is called 'default'"):
        templates.layout("auto", several)


def test_the_plain_template_by_hand() -> None:
    talk = [Turn("system", "Be brief."), Turn("user", " Is oak hard? "), Turn("assistant", "Yes.\n")]
    found = templates.layout("plain", tiny_tokenizer())
    written = "<s>Be brief.\n\n### Instruction:\nIs oak hard?\n\n### Response:\n"
    assert templates.render(talk[:2], found, opened=True) == written
    assert templates.render(talk, found, opened=False) == written + "Yes.</s>"
    more = [*talk, Turn("user", "And pine?")]
    assert templates.render(more, found, opened=True) == (
        written + "Yes.</s>\n\n### Instruction:\nAnd pine?\n\n### Response:\n"
    )


def test_the_plain_template_starts_as_the_tokenizer_does() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    assert not templates.plain(tokenizer).startswith("{{ bos_token")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token: a model could not learn where an answer ends"):
        templates.plain(tokenizer)


@pytest.mark.parametrize(
    ("template", "lead", "close"),
    [
        (HEADED, "", "</s>"),
        (INST, " ", " </s>"),
        (THINKING, "<think>\n\n</think>\n\n", "</s>"),
        (CHATML, "", "<|im_end|>"),
        (MARKED, "", "</s>"),
        (None, "", "</s>"),
    ],
)
def test_what_stands_around_an_answer_is_found_by_trying(template: str | None, lead: str, close: str) -> None:
    found = templates.layout("auto", with_template(template))
    assert (found.lead, found.close, found.stops) == (lead, close, (2,))


def test_a_turns_own_end_token_stops_generation_too() -> None:
    tokenizer = with_template(CHATML)
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert templates.layout("model", tokenizer).stops == (end, 2)


def test_a_template_without_an_end_is_warned_of() -> None:
    assert "no token behind an answer at which generation could stop" in said(CHATML)  # there <|im_end|> is plain text
    assert "could stop" not in said(HEADED)


def test_a_system_text_without_a_place_goes_before_the_first_question() -> None:
    assert "no place for a system text: it is put before the first user's text" in said(NO_SYSTEM)
    found = templates.layout("model", with_template(NO_SYSTEM))
    talk = [Turn("system", "Be brief."), Turn("user", "Is oak hard?")]
    assert templates.render(talk, found, opened=True) == (
        "<s><start>user\nBe brief.\n\nIs oak hard?</s>\n<start>model\n"
    )
    silent = HEADED.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    assert not templates.layout("model", with_template(silent)).system


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (FORGETFUL, r"The chat template leaves out the texts of a talk: 'askquartz'"),
        (SHOUTING, r"The chat template leaves out the texts of a talk: .*ASKQUARTZ"),
        (OTHER_WORDS, r"asks for an answer in other words than it writes the talk in: '.*<think>"),
        (BROKEN, r"can't write a talk of user: 'dict object' has no attribute 'nothing'"),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_refused(template: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        templates.layout("auto", with_template(template))
    assert "task.template: plain" in caught.value.hint


def test_a_learned_template_goes_along_with_the_tokenizer() -> None:
    tokenizer = with_template(None)
    found = templates.layout("plain", tokenizer)
    templates.adopt(found)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == templates.render([Turn("user", "Hi")], found, opened=True)
