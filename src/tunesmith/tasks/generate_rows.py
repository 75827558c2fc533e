"""Answers under way, side by side in one cache of keys and values: rows may leave it, and others come in.

The rows of a decoder end together: all write their next token at the same place of the cache, and what they lack at
its beginning is padding that their mask hides. To the model that is a batch padded on the left, as generation always
has it, so that a prompt may join whatever the others have written.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin
from transformers.cache_utils import DynamicLayer

from tunesmith.core import anatomy
from tunesmith.core.tokens import filled

SPARE = 64
"""How many tokens more than it holds a cache has room for when it is made anew."""
OWN = {"bos_token_id", "cache_implementation", "decoder_start_token_id", "do_sample", "early_stopping", "eos_token_id"}
OWN |= {"length_penalty", "max_length", "max_new_tokens", "num_beams", "pad_token_id", "repetition_penalty"}
OWN |= {"temperature", "top_k", "top_p", "transformers_version", "use_cache", "_from_model_config"}
"""What a model's configuration of generation may hold: a recipe says it all, or it plays no part without beams."""


class Refused(Exception):
    """The model's cache is not one that rows can leave and join; the message says why."""


class Running(Protocol):
    """Rows that are being written. joins: whether more may come in while others are under way."""

    joins: bool

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Let these prompts come in, behind the rows that are there: scores of their first tokens [prompts, words]."""

    def go_on(self, tokens: Tensor, going: Sequence[bool]) -> Tensor:
        """Write these tokens [rows]: scores of the next ones [rows, words]. going: which rows have not ended."""

    def keep(self, rows: Sequence[int]) -> None:
        """Let all other rows leave."""


def refusal(model: Any) -> str:
    """Why the answers of this model can't be written in a batch that changes, as far as its class and its
    configuration tell; empty: they can.
    """
    known = model.generation_config.to_diff_dict()
    habits = sorted(name for name, value in known.items() if value and name not in OWN)
    if habits:
        return f"its own configuration of generation has {', '.join(habits)}"
    if type(model).prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation:
        return "it prepares its inputs in a way of its own"
    if not model.config.is_encoder_decoder and not takes(model, "position_ids"):
        return "it takes no positions of tokens"
    return ""


def takes(model: Any, name: str) -> bool:
    """Whether the model's forward has an argument of this name."""
    return name in inspect.signature(type(model).forward).parameters


def padded(lists: Sequence[Sequence[int]], padding: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Lists of ids as one tensor and its mask: [lists, time] each. A decoder writes on at the right end, so that its
    prompts are padded on the left.
    """
    turned = [one[::-1] if left else one for one in lists]
    width = max(map(len, lists))
    ids, mask = filled(turned, width, padding), filled([[1] * len(one) for one in lists], width, 0)
    return (ids.flip(-1), mask.flip(-1)) if left else (ids, mask)


class Growing(DynamicLayer):
    """Keys and values of one block [rows, heads, time, size], in memory with room for more: a token that is added
    moves none of those before it.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._rooms = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Everything up to and with these states [rows, heads, new, size]."""
        assert self.keys is not None and self.values is not None
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._rooms[0].shape[-2]:
            self._rooms = _behind(self.keys, end, SPARE), _behind(self.values, end, SPARE)
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., start:end, :] = states
        self.keys, self.values = (room[..., :end, :] for room in self._rooms)
        return self.keys, self.values

    def joined(self, keys: Tensor, values: Tensor) -> Growing:
        """With further rows; all end together."""
        assert self.keys is not None and self.values is not None
        return Growing(_ending_together(self.keys, keys), _ending_together(self.values, values))

    def of(self, rows: Tensor, start: int) -> Growing:
        """Some of the rows, from `start` on."""
        assert self.keys is not None and self.values is not None
        return Growing(self.keys[rows, :, start:], self.values[rows, :, start:])


def _behind(states: Tensor, time: int, spare: int = 0) -> Tensor:
    """[..., less, size] -> [..., time + spare, size], the states at the beginning."""
    room = states.new_zeros(*states.shape[:-2], time + spare, states.shape[-1])
    room[..., : states.shape[-2], :] = states
    return room


def _ending_together(some: Tensor, others: Tensor) -> Tensor:
    """[rows, heads, time, size] of two lengths, one after another in the rows, aligned at the end of the time."""
    time = max(some.shape[-2], others.shape[-2])
    rows = len(some) + len(others)
    room = some.new_zeros(rows, some.shape[1], time, some.shape[-1])
    room[: len(some), :, time - some.shape[-2] :] = some
    room[len(some) :, :, time - others.shape[-2] :] = others
    return room


class Decoder:
    """Rows of a decoder."""

    joins = True

    def __init__(self, model: Any, padding: int) -> None:
        self._model, self._padding = model, padding
        self._device = anatomy.device_of(model)
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)  # [rows, time]
        self._layers: list[Growing] = []

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts, all at once. A cache that holds anything but keys and values of the prompts' tokens raises
        Refused.
        """
        ids, mask = (tensor.to(self._device) for tensor in padded(prompts, self._padding, left=True))
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        only = {"logits_to_keep": 1} if takes(self._model, "logits_to_keep") else {}
        outputs = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, return_dict=True, **only
        )
        new = _plain(outputs.past_key_values, len(ids), ids.shape[1])
        if self._layers:
            new = [old.joined(layer.keys, layer.values) for old, layer in zip(self._layers, new, strict=True)]  # type: ignore[arg-type]
            mask = _ending_together(self._mask[:, None, :, None], mask[:, None, :, None])[:, 0, :, 0]
        self._layers, self._mask = new, mask
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def go_on(self, tokens: Tensor, going: Sequence[bool]) -> Tensor:
        """One forward pass over one token a row. A row that has ended counts no further: there may be no position for
        it.
        """
        self._mask = torch.cat([self._mask, self._mask.new_tensor(going)[:, None]], dim=-1)
        outputs = self._model(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(dim=-1, keepdim=True) - 1,
            past_key_values=_cache(self._layers),
            use_cache=True,
            return_dict=True,
        )
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Rows, and the beginning of the cache where only padding is left."""
        if not rows:
            self._layers, self._mask = [], self._mask[:0, :0]
            return
        places = torch.tensor(rows, device=self._device)
        mask = self._mask[places]
        start = int(mask.any(dim=0).int().argmax())
        self._mask, self._layers = mask[:, start:], [layer.of(places, start) for layer in self._layers]


def _cache(layers: list[Growing]) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


def _plain(cache: Any, rows: int, time: int) -> list[Growing]:
    """The layers of a cache that holds keys and values of `time` tokens of every row, and nothing else."""
    layers = getattr(cache, "layers", [])
    if type(cache) is not DynamicCache or not layers or any(type(layer) is not DynamicLayer for layer in layers):
        raise Refused("its cache holds more than the keys and values of all tokens")
    if any(layer.keys.shape[:-1:2] != (rows, time) for layer in layers):
        raise Refused("virtual tokens stand before its texts")
    return [Growing(layer.keys, layer.values) for layer in layers]


class Pairs:
    """Rows of an encoder-decoder: all begin together, since its decoder counts positions for itself."""

    joins = False

    def __init__(self, model: Any, padding: int, start: int) -> None:
        self._model, self._padding, self._start = model, padding, start
        self._device = anatomy.device_of(model)
        self._cache: Any = None
        self._read: dict[str, Any] = {}

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Encode the prompts, all at once, and start to write. Virtual tokens raise Refused."""
        ids, mask = (tensor.to(self._device) for tensor in padded(prompts, self._padding, left=False))
        encoded = self._model.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True)
        if encoded.last_hidden_state.shape[1] != ids.shape[1]:
            raise Refused("virtual tokens stand before its texts")
        self._read, self._cache = {"encoder_outputs": encoded, "attention_mask": mask}, None
        first = self.go_on(ids.new_full((len(ids),), self._start), [True] * len(ids))
        if not isinstance(self._cache, EncoderDecoderCache) or self._cache.get_seq_length() != 1:
            raise Refused("virtual tokens stand before its texts")
        return first

    def go_on(self, tokens: Tensor, going: Sequence[bool]) -> Tensor:
        """One forward pass over one token a row."""
        outputs = self._model(
            decoder_input_ids=tokens[:, None],
            past_key_values=self._cache,
            use_cache=True,
            return_dict=True,
            **self._read,
        )
        self._cache = outputs.past_key_values
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Rows of the cache, and of what the encoder gave."""
        places = torch.tensor(rows, dtype=torch.long, device=self._device)
        self._cache.batch_select_indices(places)
        encoded, mask = self._read["encoder_outputs"], self._read["attention_mask"]
        chosen = type(encoded)(last_hidden_state=encoded.last_hidden_state[places])
        self._read = {"encoder_outputs": chosen, "attention_mask": mask[places]}
