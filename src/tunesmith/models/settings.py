"""The recipe's section `model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from tunesmith.core.errors import nearest

DEFAULT = "builtin:minilm"
SOURCES = ("name", "like", "family")
BELONG = {
    "add_tokens": ("name",),
    "quantize": ("name",),
    "weights": ("like",),
    "vocabulary": ("like", "family"),
    "hidden": ("family",),
    "blocks": ("family",),
    "config": ("family",),
}
"""Settings that go with some of the three ways to say which model."""
WHY = {
    "add_tokens": "a model from scratch learns its words by `vocabulary`",
    "quantize": "random weights have nothing to store in fewer bits",
    "weights": "`name` loads the trained ones, `family` has no others than random ones",
}
CHOICE = {"file": str, "most": int, "least": int}
"""What `add_tokens` may say where it is a mapping."""
SMALLEST = 300
"""A vocabulary holds the 256 bytes, the special tokens, and some pairs."""


class ModelSettings(BaseModel):
    """Which model to start from: a pre-trained one (`name`), or one with random weights (`like`, `family`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = Field(None, min_length=1)
    """A hub name, a folder, or `builtin:` with the name of a model that comes along; `builtin:minilm` where neither it
    nor `like` nor `family` is given.
    """
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type its weights are loaded in; training in lower precision is `train.precision`."""
    quantize: Literal["nf4", "int8"] | None = None
    """Whether the linears of its body are stored in 4 bits (`nf4`) or 8 (`int8`): for methods that leave them as they
    are.
    """
    add_tokens: str | list[str] | dict[str, str | int] | None = None
    """Words to give a token of their own: a list, or a text file of which the words are chosen that save the most
    tokens; `{file: corpus.txt, most: 500, least: 3}` says how many, and how often a word must stand in it.
    """
    start: Literal["float32", "bfloat16", "disk"] = "float32"
    """How the weights from which a training begins are kept, where a part compares with them: as they are, in half the
    memory, or in a temporary file.
    """
    like: str | None = Field(None, min_length=1)
    """A model whose architecture and tokenizer are taken, but not its weights: with `weights: random`."""
    weights: Literal["random"] | None = None
    """Said with `like`, so that nobody starts from random weights unawares."""
    family: str | None = Field(None, min_length=1)
    """A kind of model, by transformers' `model_type` (`bert`, `gpt2`, `llama`, `t5`, `vit`), made with random
    weights.
    """
    hidden: int | None = Field(None, ge=8)
    """Size of the states of a model by `family`, an even number; heads and feed-forward keep the family's
    proportions.
    """
    blocks: int | None = Field(None, ge=1)
    """How many blocks a model by `family` has (of an encoder-decoder: each of the two)."""
    vocabulary: int | None = Field(None, ge=SMALLEST)
    """Tokens of a new tokenizer, trained on the texts of the training split; with `family` 4096 where not given."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Further entries of the configuration of a model by `family`, by transformers' names."""
    earlier: Literal["merge", "stack"] | list[str] = "merge"
    """What becomes of the delta that the stage before made: it is merged into the weights, or stays as it is, frozen,
    with this stage's own on top (`stack`). Or folders of finished runs whose deltas stay so, the lowest first.
    """

    _tokenizer: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _name_by_default(cls, given: Any) -> Any:
        unsaid = isinstance(given, Mapping) and all(given.get(key) is None for key in SOURCES)
        return {**given, "name": DEFAULT} if unsaid else given

    @field_validator("add_tokens")
    @classmethod
    def _words_are_words(cls, given: Any) -> Any:
        if isinstance(given, str | dict):
            _check_choice({"file": given} if isinstance(given, str) else given)
        elif given is not None:
            _check_words(given)
        return given

    @field_validator("earlier")
    @classmethod
    def _names_runs(cls, given: Any) -> Any:
        if isinstance(given, list) and (not given or not all(one.strip() for one in given)):
            raise ValueError("must be merge, stack, or a list of folders of finished runs")
        return given

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        said = [key for key in SOURCES if getattr(self, key) is not None]
        faults = [] if len(said) == 1 else [f"{' and '.join(said)} are both given: keep one"]
        for key, wanted in BELONG.items():
            if getattr(self, key) not in (None, {}) and not set(wanted) & set(said):
                why = f": {WHY[key]}" if key in WHY else ""
                faults.append(f"{key} goes with {' or '.join(wanted)}, not with {' and '.join(said)}{why}")
        if self.deltas and said != ["name"]:
            faults.append("earlier names deltas of a model that others have too: give its name")
        if said == ["like"] and self.weights is None:
            faults.append("like takes the architecture alone: say weights: random with it, or name instead of like")
        if self.hidden is not None and self.hidden % 2:
            faults.append(f"hidden {self.hidden} is odd: must be even, so that the heads are")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def scratch(self) -> bool:
        """Whether its weights start at random."""
        return self.name is None

    @property
    def called(self) -> str:
        """What to call the model in messages."""
        return self.name or (f"{self.like} with random weights" if self.like else f"{self.family} from scratch")

    @property
    def titled(self) -> str:
        """The same, with how many earlier deltas are in it."""
        below = len(self.deltas)
        return f"{self.called} with {below} earlier delta{'s' if below > 1 else ''}" if below else self.called

    @property
    def deltas(self) -> list[Path]:
        """The folders of the deltas that stay below what is trained, the lowest first."""
        return [Path(one) for one in self.earlier] if isinstance(self.earlier, list) else []

    def on(self, deltas: Sequence[Path]) -> ModelSettings:
        """The same settings with these deltas below; with none of them, the model alone."""
        return self.model_copy(update={"earlier": [str(folder) for folder in deltas] or "merge"})

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer that was trained for this run, as JSON; None before, and where none is trained."""
        return self._tokenizer

    def with_tokenizer(self, tokenizer: str) -> ModelSettings:
        """The same settings, with the tokenizer that was trained for them."""
        found = self.model_copy()
        found._tokenizer = tokenizer
        return found


def _check_choice(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in CHOICE:
            raise ValueError(f"has no setting '{key}'. {nearest(key, CHOICE)}")
        if not isinstance(value, CHOICE[key]):
            raise ValueError(f"{key}: {value!r} is not {'a text' if key == 'file' else 'a whole number'}")
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{key}: {value} is out of range: must be at least 1")
    if not str(given.get("file", "")).strip():
        raise ValueError("names no file: must be a list of words, a text file, or {file: ..., most: ..., least: ...}")


def _check_words(words: list[str]) -> None:
    if not words:
        raise ValueError("is an empty list: name the words, or a text file to choose them from")
    faults = ["a word is blank"] if any(not word.strip() for word in words) else []
    faults += [
        f"{word!r} holds a blank: give single words" for word in words if word.strip() and word.split() != [word]
    ]
    twice = sorted({word for word in words if words.count(word) > 1 and word.strip()})
    if twice:
        faults.append(f"{', '.join(map(repr, twice))} stands in it twice")
    if faults:
        raise ValueError("; ".join(faults[:5]))
