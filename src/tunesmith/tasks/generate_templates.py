"""Chat templates: how talks are written for a tokenizer, and where in the text the answers stand.

An answer starts where the prompt ends that the same template gives for the turns before it, and ends behind the token
that closes the turn. Whatever does not fit this picture is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import note, warn
from tunesmith.tasks.generate_formats import Turn

Choice = Literal["auto", "model", "plain"]
"""Which template: the tokenizer's own, our plain one, or its own where there is one."""

ASKED, ANSWERED = "### Instruction:\n", "### Response:\n"
PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Response:\n' + message['content'] | trim + eos_token + ('' if loop.last else '\n\n') }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] | trim + '\n\n' }}"
    "{% else %}{{ message['content'] | trim + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
# Words that no template writes by itself, to see what it does with each turn.
PROBES = {"system": "sysquartz", "user": "askquartz", "assistant": "sayquartz"}
MEND = "Set task.template: plain, or mend the tokenizer's chat_template."


@dataclass(frozen=True)
class Layout:
    """How talks are written for one tokenizer.

    template: in Jinja. own: whether it is the tokenizer's. system: whether it has a place for a system text; without
    one that stands before the first user's. lead, close: what it writes before and behind an answer; `close` ends with
    the token that ends the turn. stops: the ids at which generation ends. marks: finds tokens in a text.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    own: bool
    system: bool
    lead: str
    close: str
    stops: tuple[int, ...]
    marks: re.Pattern[str]

    @property
    def ends(self) -> bool:
        """Whether a token stands behind an answer, so that a model learns where to stop."""
        return self.marks.search(self.close) is not None


@dataclass(frozen=True)
class Rendered:
    """A talk as one text: where its answers start and end (with their closing tokens), and where its prompt ends."""

    text: str
    answers: list[tuple[int, int]]
    prompt: int


def layout(choice: Choice, tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The layout of talks for this tokenizer; it is tried out on a talk of one question.

    Raises RecipeError where the tokenizer's own template is asked for and there is none, ModelError where the plain one
    lacks a token to end an answer with, DataError where the template can't be learned from.
    """
    if choice == "model" and not tokenizer.chat_template:
        raise RecipeError(
            "task.template: the tokenizer has no chat template of its own.",
            hint="Set task.template: plain (or auto), or take a backbone that was made for talks.",
        )
    own = choice == "model" or (choice == "auto" and bool(tokenizer.chat_template))
    bare = Layout(tokenizer, _own(tokenizer) if own else plain(tokenizer), own, True, "", "", (), _marks(tokenizer))
    lead, close = _around(bare)
    end = bare.marks.search(close)
    stop = tokenizer.convert_tokens_to_ids(end[0]) if end else None
    stops = tuple(dict.fromkeys(id for id in (stop, tokenizer.eos_token_id) if isinstance(id, int)))
    close = close[: end.end()] if end else close.rstrip()
    return replace(bare, system=_has_system(bare), lead=lead, close=close, stops=stops)


def plain(tokenizer: PreTrainedTokenizerBase) -> str:
    """Our plain template in Jinja: questions under "### Instruction:", answers under "### Response:", each ended by the
    end token; the start token comes first where the tokenizer itself puts it there.
    """
    if tokenizer.eos_token is None:
        raise ModelError(
            "The tokenizer has no end token: a model could not learn where an answer ends.",
            hint="Set one and save it: tokenizer.eos_token = ...; tokenizer.save_pretrained(folder).",
        )
    starts = tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return "{{ bos_token }}" + PLAIN if starts else PLAIN


def tell(found: Layout) -> None:
    """Say which template is used, what becomes of a system text, and warn where generation would never end."""
    if found.own:
        note("Talks are written in the tokenizer's own chat template.")
    else:
        note("Talks are written in the plain template: '### Instruction:', '### Response:', the end token.")
    if not found.system:
        note("The chat template has no place for a system text: it is put before the first user's text.")
    if not found.ends:
        warn(
            "The chat template writes no token behind an answer at which generation could stop: answers will run on to "
            f"the longest length that is allowed. {MEND}"
        )


def adopt(found: Layout) -> None:
    """Give the tokenizer the template that was learned, so that a saved model talks the same way in any library."""
    found.tokenizer.chat_template = found.template


def render(turns: Sequence[Turn], found: Layout, *, opened: bool) -> str:
    """The turns as one text; `opened`: with the words that ask for an answer at its end. DataError: it can't be."""
    turns = _placed(turns, found)
    try:
        return str(
            found.tokenizer.apply_chat_template(
                [turn._asdict() for turn in turns],
                chat_template=found.template,
                tokenize=False,
                add_generation_prompt=opened,
            )
        )
    except Exception as error:  # whatever a template of someone else's does
        roles = ", ".join(turn.role for turn in turns)
        raise DataError(f"The chat template can't write a talk of {roles}: {error}.", hint=MEND) from error


def rendered(turns: Sequence[Turn], found: Layout) -> Rendered:
    """A talk as one text and where its answers stand; one without a last answer ends with the words that ask for it.

    Raises DataError where the template changes an answer, or asks for it in other words than it writes a talk in.
    """
    answered = turns[-1].role == "assistant"
    text = render(turns, found, opened=not answered)
    answers = []
    for place, turn in enumerate(turns):
        if turn.content.strip() not in text:
            raise unfit(f"changes or leaves out a text of the {turn.role}", turn.content)
        if turn.role != "assistant":
            continue
        head = render(turns[:place], found, opened=True)
        if not text.startswith(head):
            raise unfit("asks for an answer in other words than it writes the talk in", head)
        answers.append((len(head), _end(text, len(head), turn.content.strip(), found)))
    return Rendered(text, answers, answers[-1][0] if answered else len(text))


def _end(text: str, start: int, content: str, found: Layout) -> int:
    """Where the answer that starts at `start` ends, with the token that closes it."""
    at = text.find(content, start)
    if at < 0 or text[start:at].strip() not in ("", found.lead.strip()):
        raise unfit("changes or leaves out an answer", content)
    end = at + len(content)
    rest = text[end:].lstrip()
    behind = len(text) - len(rest)
    close = found.close.lstrip()
    if close and rest.startswith(close):
        return behind + len(close)
    # Some templates close the last turn with another token than those before it.
    other = found.marks.match(rest)
    return behind + other.end() if other and other[0] != found.tokenizer.bos_token else end


def _own(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise RecipeError(
            "task.template: the tokenizer has several chat templates, and none of them is called 'default'.",
            hint="Set task.template: plain, or name one of them 'default' in the tokenizer.",
        ) from error


def _marks(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What finds the tokens that stand for themselves, such as the end token, the longest first."""
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values()]
    words = sorted({token for token in [*added, *tokenizer.all_special_tokens] if token.strip()}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words)) or r"(?!)")


def _around(found: Layout) -> tuple[str, str]:
    """What the template writes between the prompt and the answer, and behind the answer."""
    asked, said = Turn("user", PROBES["user"]), Turn("assistant", PROBES["assistant"])
    head, text = render([asked], found, opened=True), render([asked, said], found, opened=False)
    if asked.content not in text or said.content not in text:
        raise unfit("leaves out the texts of a talk", text)
    if not text.startswith(head):
        raise unfit("asks for an answer in other words than it writes the talk in", head)
    before, _, behind = text[len(head) :].partition(said.content)
    return before, behind


def _has_system(found: Layout) -> bool:
    turns = [Turn("system", PROBES["system"]), Turn("user", PROBES["user"])]
    try:
        return PROBES["system"] in render(turns, found, opened=True)
    except DataError:
        return False


def unfit(what: str, where: str) -> DataError:
    """What is wrong with a chat template, and the text that shows it."""
    shown = where if len(where) <= 120 else f"{where[:60]} … {where[-60:]}"
    return DataError(f"The chat template {what}: {shown!r}.", hint=MEND)


def _placed(turns: Sequence[Turn], found: Layout) -> Sequence[Turn]:
    """The turns, with the system text in front of the first user's where the template has no place for it."""
    if found.system or turns[0].role != "system":
        return turns
    return [Turn("user", f"{turns[0].content}\n\n{turns[1].content}"), *turns[2:]]
