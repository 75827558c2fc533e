"""Prefix tuning: learned keys and values that every block attends to before the text's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import Cache, DynamicCache, EncoderDecoderCache

from tunesmith.core import anatomy, delta, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.part import Method
from tunesmith.core.step import Training
from tunesmith.methods.virtual_tokens import behind, holds_tokens, owners, takes

SLOWER = 0.05
"""What the rate is multiplied by for the network, whose steps move all keys and values at once."""


class Prefix(Method):
    """Train keys and values that stand before the text's in every block's attention, and the head; the backbone stays.

    Formula: attention(Q, [K'; K], [V'; V]) in every block. Without a network the row [K'; V'] of every virtual token
    trains itself; with one it is B tanh(A e + a) + b, of which only the result is kept after training.
    Symbols: Q, K, V of the text; K', V' [length, keys] of each of L blocks, keys the size of all heads' keys (fewer
    than the queries' where several share one); e [keys] a token; A [m, keys], a [m], B [2 L keys, m], b [2 L keys].
    Parameters: 2 L keys length; with a network of size m, while it trains, length keys + (keys + 1) m + (m + 1) 2 L
    keys; and the head's.
    Paper: Li, Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021, with the network. Liu et al.,
    "P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales and Tasks", 2022, without. As
    in peft, the text's positions begin after the prefix's, so that it may be shorter by `length` tokens, and the prefix
    travels in the cache of keys and values: of an encoder-decoder only the decoder's own attention has one. Tokens e,
    and keys and values without a network, start standard normal.
    """

    learning_rate = 2e-2
    delta = True
    keeps_backbone = True
    needs_cache = True
    equal_at_start = False
    cannot_merge = "its keys and values come from no token, and no weight of the backbone stands for them"
    at_inference = "every block attends to the prefix's keys besides the text's"

    length: int = Field(20, ge=1)
    """How many virtual tokens the prefix has."""
    hidden: int | None = Field(None, ge=1)
    """Size m of the network that makes keys and values while they train; none where not given (P-tuning v2)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the prefix's numbers dropped in training."""
    start: str | None = None
    """Folder of a prefix in peft's layout, of the same length, to start from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.start is not None and self.hidden is not None:
            raise ValueError("'start' gives keys and values, from which the network of 'hidden' can't be found back")
        return self

    def positions(self) -> int:
        """The virtual tokens'."""
        return self.length

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and put the prefix into its cache. A backbone whose attention takes none raises
        ModelError.
        """
        host, keys = _place(model)
        surgery.freeze_backbone(model)
        states = PrefixStates(self, keys, generator).to(anatomy.device_of(host))
        surgery.insert(host, "prefix", states)

    def setup(self, training: Training) -> None:
        """Take the delta to start from, where the recipe names one."""
        if self.start is not None:
            delta.read(training.model, self, Path(self.start))

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """The network's factor."""
        ours = tuple(path for path, states in surgery.inserted(model).items() if isinstance(states, PrefixStates))
        return {} if self.hidden is None else {name: SLOWER for name in surgery.trained(model) if name.startswith(ours)}

    def expected(self, model: nn.Module) -> int:
        """Keys and values of every block, or the network's parameters; and the head."""
        keys = _states(model).keys
        row = 2 * keys.blocks * keys.size
        inserted = self.length * row
        if self.hidden is not None:
            inserted = self.length * keys.size + (keys.size + 1) * self.hidden + (self.hidden + 1) * row
        return inserted + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Keys and values, by peft's name: [length, 2 L keys], block by block, first the keys."""
        return {"prompt_embeddings": _states(model).rows()}

    def shipped(self) -> Method:
        """The prefix without the network that made it."""
        return self.model_copy(update={"hidden": None})

    def peft_config(self, model: nn.Module) -> dict[str, Any] | None:
        """The entries of a PrefixTuningConfig; None for an encoder-decoder, where peft's layout means another thing."""
        if len(owners(model)) > 1:
            return None
        keys = _states(model).keys
        return {
            "peft_type": "PREFIX_TUNING",
            "num_virtual_tokens": self.length,
            "token_dim": keys.size,
            "num_transformer_submodules": 1,
            "num_attention_heads": keys.heads,
            "num_layers": keys.blocks,
        }


class Keys(NamedTuple):
    """What a backbone's cache holds: of how many blocks, how many heads in each, and numbers a head."""

    blocks: int
    heads: int
    head: int

    @property
    def size(self) -> int:
        """Numbers of all heads' keys of one token."""
        return self.heads * self.head


class PrefixStates(surgery.Inserted):
    """Fills its host's cache with keys and values that train, before the text's own come in."""

    def __init__(self, settings: Prefix, keys: Keys, generator: torch.Generator) -> None:
        super().__init__()
        self.length, self.keys = settings.length, keys
        row, hidden = 2 * keys.blocks * keys.size, settings.hidden
        self.dropout = nn.Dropout(settings.dropout)
        if hidden is None:
            first = torch.empty(self.length, row).normal_(generator=generator)
            self.prompt_embeddings = nn.Parameter(first)
            return
        self.tokens = nn.Parameter(torch.empty(self.length, keys.size).normal_(generator=generator))
        self.network = nn.Sequential(_linear(keys.size, hidden, generator), nn.Tanh(), _linear(hidden, row, generator))

    def rows(self) -> Tensor:
        """Keys and values of every block: [length, 2 blocks keys]."""
        if hasattr(self, "prompt_embeddings"):
            return self.prompt_embeddings
        made: Tensor = self.network(self.tokens)
        return made

    def before(self, host: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
        """An empty cache, or none, becomes one that holds the prefix; mask and positions begin behind it."""
        cache, given = arguments.get("past_key_values"), arguments.get("input_ids")
        if holds_tokens(cache):
            return behind(arguments, self.length)
        given = arguments["inputs_embeds"][..., 0] if given is None else given
        mask = arguments.get("attention_mask")
        mask = torch.ones_like(given, dtype=torch.long) if mask is None else mask
        changed = behind({**arguments, "attention_mask": mask}, self.length)
        if cache is None:
            cache = DynamicCache(config=host.config)  # type: ignore[arg-type]
            if arguments.get("encoder_hidden_states") is not None:
                cache = EncoderDecoderCache(cache, DynamicCache(config=host.config))  # type: ignore[arg-type]
        self._fill(cache, len(given), _type_of(host, given.device.type))
        return {**changed, "past_key_values": cache}

    def after(self, host: nn.Module, arguments: dict[str, Any], output: Any) -> Any:
        """Where nobody asked for a cache, none comes out."""
        wanted = arguments.get("use_cache")
        wanted = getattr(host.config, "use_cache", False) if wanted is None else wanted
        if wanted or not isinstance(output, dict) or "past_key_values" not in output:
            return output
        return type(output)(**{name: value for name, value in output.items() if name != "past_key_values"})

    def _fill(self, cache: Cache, batch: int, kind: torch.dtype) -> None:
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        rows = self.dropout(self.rows()).to(kind)
        shaped = rows.view(self.length, 2 * self.keys.blocks, self.keys.heads, self.keys.head)
        states = shaped.permute(1, 2, 0, 3)[:, None].expand(-1, batch, -1, -1, -1)
        # [2 blocks, batch, heads, length, head]
        for block in range(self.keys.blocks):
            own.update(states[2 * block], states[2 * block + 1], block)


def _states(model: nn.Module) -> PrefixStates:
    return next(states for states in surgery.inserted(model).values() if isinstance(states, PrefixStates))


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear that starts as torch's own do, from `generator`: uniform in ±1/sqrt(in)."""
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        linear.weight.uniform_(-bound, bound, generator=generator)
        linear.bias.uniform_(-bound, bound, generator=generator)
    return linear


def _type_of(host: nn.Module, device: str) -> torch.dtype:
    """The type of the text's keys."""
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return next(parameter.dtype for parameter in host.parameters() if parameter.is_floating_point())


def _place(model: nn.Module) -> tuple[nn.Module, Keys]:
    """The module whose cache the prefix goes into, and what that holds. ModelError where there is none."""
    caching = [owner for owner in owners(model) if takes(owner, "past_key_values")]
    found = [(owner, shapes) for owner in caching if (shapes := _shapes(owner))]
    if not found:
        raise ModelError(
            f"A prefix travels in the cache of keys and values, and {type(model).__name__} has an attention that takes "
            "none.",
            hint="Use method prompt, or lora.",
        )
    owner, shapes = found[-1]
    if None in shapes or len({shape for pair in shapes for shape in pair}) > 1:
        raise ModelError(
            f"A prefix has the same shape in every block, and the blocks of {type(model).__name__} have keys and "
            "values of different shapes.",
            hint="Use method prompt, or lora.",
        )
    (_, heads, _, head), _ = shapes[0]
    return owner, Keys(len(shapes), heads, head)


def _shapes(owner: nn.Module) -> list[Any]:
    """The shapes of keys and values that each block puts into the cache for one token; None of one that puts none.
    No block at all: an empty list.
    """
    cache = DynamicCache(config=owner.config)  # type: ignore[arg-type]
    one = torch.zeros(1, 1, dtype=torch.long, device=anatomy.device_of(owner))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        owner(input_ids=one, attention_mask=torch.ones_like(one), past_key_values=cache)
    states = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
    shapes = [None if k is None or v is None else (tuple(k.shape), tuple(v.shape)) for k, v in states]
    return shapes if any(shapes) else []
