"""Prompt tuning: learned embeddings that stand before every text."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils.generic import ModelOutput

from tunesmith.core import anatomy, delta, surgery
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.notes import note
from tunesmith.core.part import Method
from tunesmith.core.step import Training
from tunesmith.methods.virtual_tokens import behind, holds_tokens, in_front, own_rows, owners, takes

COMMON = 5000
"""How many entries of a vocabulary, the first, count as its common words."""
IGNORED = -100
"""The label that transformers' losses leave out."""


class Prompt(Method):
    """Train the embeddings of a few virtual tokens that stand before every text, and the head; the backbone stays.

    Formula: y = f([P; E(x)]): the blocks f see the rows of P, then the embeddings E(x) of the text.
    Symbols: P [length, in], with in the size of the word embeddings; E(x) [time, in].
    Shapes: outputs keep the text's own length: the virtual tokens' part of logits and hidden states is taken off.
    Attentions, and an encoder-decoder's encoder states, which the decoder reads, keep it.
    Parameters: length in, and the head's.
    Paper: Lester, Al-Rfou, Constant, "The Power of Scale for Parameter-Efficient Prompt Tuning", 2021. They train with
    Adafactor at a rate of 0.3; we use AdamW. Their large models start best from words; the small encoder that we tried
    learned much faster from random numbers, five times as large as its embeddings. Their start by the words of
    the classes is `init: text` here. As in peft, a pooler that reads the first token reads a virtual one; in an
    encoder-decoder the encoder has the prompt. The text may be shorter by `length` tokens than without.
    """

    learning_rate = 1e-1
    delta = True
    keeps_backbone = True
    equal_at_start = False
    cannot_merge = "its virtual tokens are inputs, and no weight of the backbone stands for them"
    at_inference = "every text is longer by the virtual tokens"

    length: int = Field(20, ge=1)
    """How many virtual tokens stand before a text."""
    init: Literal["random", "vocabulary", "text"] = "random"
    """How their embeddings start: uniform in ±0.5, those of common words, or those of the words of `text`."""
    text: str | None = None
    """The words to start from, cut or repeated to `length` tokens."""
    start: str | None = None
    """Folder of a prompt in peft's layout, of the same length, to start from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.init == "text") != bool((self.text or "").strip()):
            raise ValueError(f"init 'text' needs the words in 'text', and only it: init {self.init!r}, {self.text!r}")
        if self.text is not None and self.start is not None:
            raise ValueError("'text' and 'start' both say what to start from: give one")
        return self

    def positions(self) -> int:
        """The virtual tokens'."""
        return self.length

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone, give its word embeddings rows for the virtual tokens, and put these before every text.
        A backbone without word embeddings raises ModelError.
        """
        words, readers = anatomy.word_embeddings(model), owners(model)
        if not words or not 1 <= len(readers) <= 2 or not takes(model, "input_ids"):
            raise ModelError(
                f"A prompt stands before a text's tokens; {type(model).__name__} is no model of texts with word "
                "embeddings and a list of blocks, or of an encoder and a decoder.",
                hint="Use another method: lora.",
            )
        surgery.freeze_backbone(model)
        base = next(iter(words.values()))
        rows = PromptEmbedding(base, self._first(base, generator))
        for path in words:
            surgery.replace(model, path, rows)
        first = rows.weight.shape[0]
        if len(readers) == 1:
            surgery.insert(model, "prompt", PromptTokens(first, self.length))
        else:
            surgery.insert(readers[0], "prompt", EncoderPrompt(first, self.length))
            surgery.insert(readers[1], "prompt", EncodedPrompt(self.length))

    def setup(self, training: Training) -> None:
        """Take the words or the delta to start from, where the recipe names them."""
        if self.start is not None:
            delta.read(training.model, self, Path(self.start))
        if self.text is not None:
            assert training.tokenizer is not None
            rows = _rows(training.model)
            ids = self._ids(self.text, training.tokenizer)
            with torch.no_grad():
                rows.prompt.copy_(rows.base(torch.tensor(ids, device=rows.prompt.device)))

    def expected(self, model: nn.Module) -> int:
        """Length times the size of an embedding, and the head."""
        return self.length * int(_rows(model).weight.shape[1]) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The embeddings, by peft's name."""
        return {"prompt_embeddings": _rows(model).prompt}

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of a PromptTuningConfig."""
        return {
            "peft_type": "PROMPT_TUNING",
            "num_virtual_tokens": self.length,
            "token_dim": int(_rows(model).weight.shape[1]),
            "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
        }

    def _first(self, words: nn.Module, generator: torch.Generator) -> Tensor:
        """The embeddings at the start: [length, in]."""
        weight = words.weight
        assert isinstance(weight, Tensor)
        if self.init == "random":
            return torch.empty(self.length, weight.shape[1]).uniform_(-0.5, 0.5, generator=generator)
        ids = torch.randint(min(COMMON, weight.shape[0]), (self.length,), generator=generator)
        with torch.no_grad():
            found: Tensor = words(ids.to(weight.device))
        return found.float()

    def _ids(self, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise RecipeError(f"method.text {text!r} has no tokens.", hint="Give words that the backbone knows.")
        if len(ids) != self.length:
            what = "cut" if len(ids) > self.length else "repeated"
            note(f"method.text has {len(ids)} tokens, method.length is {self.length}: it is {what}.")
        return (ids * ceil(self.length / len(ids)))[: self.length]


class PromptEmbedding(surgery.Wrapper):
    """Frozen word embeddings, and rows that train for the ids after the last word's."""

    def __init__(self, base: nn.Module, first: Tensor) -> None:
        super().__init__(base)
        self.prompt = nn.Parameter(first.to(self.weight.device))

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, time] -> [batch, time, in]."""
        words = self.weight.shape[0]
        y: Tensor = self.base(ids.clamp(max=words - 1))
        if not self.active:
            return y
        rows = nn.functional.embedding((ids - words).clamp(min=0), self.prompt)
        return torch.where((ids >= words)[..., None], rows.to(y.dtype), y)


class EncoderPrompt(surgery.Inserted):
    """Puts the ids from `first` on, of `length` virtual tokens, before its host's own, unless a cache has them."""

    def __init__(self, first: int, length: int) -> None:
        super().__init__()
        self.first, self.length = first, length

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """Everything that has an entry a token grows: [batch, time] -> [batch, length + time]."""
        if holds_tokens(arguments.get("past_key_values")):
            return behind(arguments, self.length)
        ids, embeddings = arguments.get("input_ids"), arguments.get("inputs_embeds")
        like = ids if embeddings is None else embeddings[..., 0].long()
        assert like is not None
        mask = arguments.get("attention_mask")
        mask = torch.ones_like(like) if mask is None else mask
        changed = behind({**arguments, "attention_mask": mask}, self.length)
        if mask.dim() == 4:
            changed["attention_mask"] = own_rows(changed["attention_mask"], self.length)
        count = torch.arange(self.length, device=like.device)
        prompt = (self.first + count).expand(*like.shape[:-1], -1)
        if embeddings is None:
            changed["input_ids"] = torch.cat([prompt, like], dim=-1)
        else:
            rows = host.get_input_embeddings()(prompt)  # type: ignore[operator]
            changed["inputs_embeds"] = torch.cat([rows.to(embeddings.dtype), embeddings], dim=-2)
        if (kinds := arguments.get("token_type_ids")) is not None:
            changed["token_type_ids"] = in_front(kinds, self.length, 0)
        if (positions := changed.get("position_ids")) is not None:
            own = count.expand(*positions.shape[:-1], -1)
            changed["position_ids"] = torch.cat([own, positions], dim=-1)
        return changed


class PromptTokens(EncoderPrompt):
    """The same for a whole model, whose labels and outputs have an entry a token too."""

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """Labels of tokens grow by ones that no loss counts; places in the text move on."""
        changed = super().before(host, arguments)
        labels, ids = arguments.get("labels"), arguments.get("input_ids")
        if not _is_whole(changed):
            return changed
        if labels is not None and ids is not None and labels.shape == ids.shape and not labels.is_floating_point():
            changed["labels"] = in_front(labels, self.length, IGNORED)
        places = [name for name in ("start_positions", "end_positions") if arguments.get(name) is not None]
        return {**changed, **{name: arguments[name] + self.length for name in places}}

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Any) -> Any:
        """Logits and hidden states lose the virtual tokens' part: [batch, length + time, …] -> [batch, time, …]."""
        if not _is_whole(arguments):
            return output
        if not isinstance(output, ModelOutput):
            raise ModelError("A prompt needs outputs with names.", hint="Leave return_dict=False out.")
        time = arguments["attention_mask"].shape[-1]
        for name, value in output.items():
            output[name] = self._text(name, value, time)
        return output

    def _text(self, name: str, value: Any, time: int) -> Any:
        if isinstance(value, tuple):
            return tuple(self._text(name, one, time) for one in value)
        every_token = isinstance(value, Tensor) and value.dim() > 1 and value.shape[1] == time
        # [batch, classes] may be as wide as the text is long: of two dimensions only the scores of places are meant.
        if every_token and (value.dim() == 3 or name in ("start_logits", "end_logits")):
            return value[:, self.length :]
        return value


class EncodedPrompt(surgery.Inserted):
    """Lets a decoder see the virtual tokens that its encoder was given."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """The encoder's mask grows: [batch, time] -> [batch, length + time]."""
        states, mask = arguments.get("encoder_hidden_states"), arguments.get("encoder_attention_mask")
        if states is None or mask is None or mask.shape[-1] + self.length != states.shape[1]:
            return arguments
        return {**arguments, "encoder_attention_mask": in_front(mask, self.length, 1)}


def _is_whole(arguments: dict[str, Any]) -> bool:
    """Whether the arguments hold a whole text, and not what follows after a cache."""
    mask = arguments.get("attention_mask")
    given = arguments.get("input_ids")
    given = arguments["inputs_embeds"][..., 0] if given is None else given
    return mask is not None and mask.shape[-1] == given.shape[-1]


def _rows(model: nn.Module) -> PromptEmbedding:
    return next(rows for rows in surgery.wrappers(model).values() if isinstance(rows, PromptEmbedding))
