"""Models from nothing: a family's configuration in the size asked for, and a tokenizer trained on the texts at hand.

The tokenizer is byte-level BPE: it starts from the 256 bytes, so that there is no unknown token and every text comes
back as it was, and joins the pair that stands most often, again and again (Sennrich, Haddow, Birch, "Neural Machine
Translation of Rare Words with Subword Units", 2016; on bytes: Radford et al., GPT-2, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedTokenizerFast

from tunesmith.core.errors import ModelError, RecipeError, nearest, raise_faults
from tunesmith.core.notes import note
from tunesmith.models.settings import ModelSettings

VOCABULARY = 4096
"""Tokens of a new tokenizer where the recipe names no number."""
HEAD = 64
"""Size of a head: the usual one."""
USUAL_LIMIT = 512
EXAMPLES = "bert, gpt2, llama, t5, vit"

# What configurations call the same thing, after each one's own map of names.
BLOCKS = ("num_hidden_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
HEADS = ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads")
FEED_FORWARD = (
    "intermediate_size", "d_ff", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner",
)  # fmt: skip
OF_THE_TASK = {"num_labels", "id2label", "label2id", "problem_type"}

ENCODER = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
DECODER = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
BOTH = {"pad_token": "<pad>", "eos_token": "</s>"}
TEMPLATES = {
    "encoder": (ENCODER, "[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"),
    "decoder": (DECODER, "<s> $A", "<s> $A </s> $B"),
    "encoder-decoder": (BOTH, "$A </s>", "$A </s> $B </s>"),
}
"""Special tokens by the kind of model, and how they frame a text and a pair."""


def config_of(settings: ModelSettings) -> PreTrainedConfig:
    """The configuration of a model by its family. An unknown family, and entries that are unknown, that other settings
    say or that the family refuses, raise RecipeError.
    """
    family, hidden, blocks = str(settings.family), settings.hidden, settings.blocks
    if family not in CONFIG_MAPPING:
        close = get_close_matches(family, list(CONFIG_MAPPING), n=1, cutoff=0.5)
        guess = f" Did you mean '{close[0]}'?" if close else ""
        raise RecipeError(
            f"model.family: transformers knows no model type '{family}'.{guess}", hint=f"For example: {EXAMPLES}."
        )
    kind = CONFIG_MAPPING[family]
    usual = kind()
    sizes: dict[str, Any] = {} if hidden is None else _widths(usual, hidden, settings.config)
    sizes |= {} if blocks is None else _named(usual, BLOCKS, blocks)
    lacking = {"hidden": hidden and not sizes, "blocks": blocks and not _named(usual, BLOCKS, blocks)}
    faults = [f"{key}: the configuration of {family} has no one such size" for key, no in lacking.items() if no]
    raise_faults(RecipeError, "The section model is wrong:", faults, hint="Say its sizes by model.config.")
    _check_entries(usual, settings, sizes)
    try:
        return kind(**{**sizes, **settings.config})
    except Exception as error:
        told = str(error).strip().splitlines()[-1].strip()
        raise RecipeError(f"model: {family} can't be made in these sizes: {told}") from error


def train_tokenizer(texts: Iterable[str], size: int, config: PreTrainedConfig) -> str:
    """A tokenizer for models of this kind, of at most `size` tokens, trained on `texts`, as JSON; said where it is
    smaller. The same texts give the same tokenizer.
    """
    special, single, pair = TEMPLATES[_kind(config)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, show_progress=False,
        special_tokens=list(special.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    numbers = [(token, tokenizer.token_to_id(token)) for token in special.values()]
    used = [(token, number) for token, number in numbers if token in f"{single} {pair}"]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    found = tokenizer.get_vocab_size()
    fewer = "" if found == size else f", fewer than the {size:,} asked for: the texts have no more pairs to join"
    note(f"Tokenizer: {found:,} tokens (byte-level BPE), trained on the training texts{fewer}.")
    return str(tokenizer.to_str())


def reader(trained: str, config: PreTrainedConfig) -> PreTrainedTokenizerFast:
    """The tokenizer that was trained, for a model of this kind; its JSON must be whole, or ModelError is raised."""
    try:
        tokenizer = Tokenizer.from_str(trained)
    except Exception as error:
        raise ModelError(
            f"The trained tokenizer of the run is damaged: {error}.", hint="Copy the run's folder again, or train anew."
        ) from error
    pairs = getattr(config, "type_vocab_size", 0) > 1
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=getattr(config, "max_position_embeddings", None) or USUAL_LIMIT,
        model_input_names=["input_ids", *(["token_type_ids"] if pairs else []), "attention_mask"],
        clean_up_tokenization_spaces=False,
        **TEMPLATES[_kind(config)][0],
    )


def fit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Let a configuration have the tokenizer's tokens, and the numbers of its special ones."""
    config.vocab_size = len(tokenizer)
    for name in [name for name in config.to_dict() if name.endswith("_token_id")]:
        setattr(config, name, getattr(tokenizer, name, None))
    config.pad_token_id = tokenizer.pad_token_id
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id


def _kind(config: PreTrainedConfig) -> str:
    if config.is_encoder_decoder:
        return "encoder-decoder"
    return "encoder" if type(config) in AutoModelForMaskedLM._model_mapping else "decoder"


def _named(usual: PreTrainedConfig, names: Iterable[str], value: int) -> dict[str, int]:
    """The value under every one of these names that the configuration knows."""
    own = {usual.attribute_map.get(name, name) for name in names}
    return {name: value for name in sorted(own) if name in usual.to_dict()}


def _widths(usual: PreTrainedConfig, hidden: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every size that follows the hidden one, in the proportions that are usual for the family."""
    before = getattr(usual, "hidden_size", None)
    sizes = _named(usual, ["hidden_size"], hidden)
    if not sizes or not isinstance(before, int):
        return {}
    named = _named(usual, HEADS, 0)
    said = [given[name] for name in [*named, "num_attention_heads"] if name in given]
    heads = int(said[0]) if said and isinstance(said[0], int) and said[0] > 0 else _heads(hidden)
    if said and hidden % heads:
        raise RecipeError(
            f"model: {heads} heads (config) can't share hidden {hidden}: it must be a multiple of their number.",
            hint=f"Leave the heads out, which gives {_heads(hidden)}, or choose another size.",
        )
    sizes |= dict.fromkeys(named, heads)
    for name, value in usual.to_dict().items():
        if name in FEED_FORWARD and isinstance(value, int):
            sizes[name] = max(1, round(value * hidden / before))
    kept, every = getattr(usual, "num_key_value_heads", None), getattr(usual, "num_attention_heads", None)
    if isinstance(kept, int) and isinstance(every, int):
        # Groups of queries share keys and values as they do in the family, as far as there are heads to share.
        sizes["num_key_value_heads"] = math.gcd(heads, max(1, heads * kept // every))
    return sizes | {name: max(1, hidden // heads) for name in _named(usual, ["head_dim"], 0)}


def _heads(hidden: int) -> int:
    """About hidden / 64, so that each head has a whole and even size: positions that turn need pairs."""
    whole = (count for count in range(max(1, hidden // HEAD), 0, -1) if hidden % (2 * count) == 0)
    return next(whole, 1)


def _check_entries(usual: PreTrainedConfig, settings: ModelSettings, sizes: Mapping[str, Any]) -> None:
    """Refuse entries of `model.config` that the family does not know, and those that are said elsewhere."""
    known = set(usual.to_dict()) - set(PreTrainedConfig().to_dict()) | set(usual.attribute_map)
    fixed = {name for name in known if name.endswith("_token_id")} | {"vocab_size"}
    follow = {
        **(dict.fromkeys(_named(usual, ["hidden_size"], 0) | {"hidden_size": 0}, "hidden") if settings.hidden else {}),
        **(dict.fromkeys(_named(usual, BLOCKS, 0) | dict.fromkeys(BLOCKS, 0), "blocks") if settings.blocks else {}),
    }
    faults = []
    for name in settings.config:
        if name in fixed or name in OF_THE_TASK:
            where = "the task" if name in OF_THE_TASK else "model.vocabulary and its tokenizer"
            faults.append(f"config.{name}: is set by {where}")
        elif name not in known:
            faults.append(f"config.{name}: is unknown. {_nearest(name, known - fixed)}")
        elif name in follow:
            faults.append(f"config.{name}: is said by {follow[name]} already: keep one")
    raise_faults(RecipeError, f"The section model is wrong for {settings.family}:", faults)


def _nearest(name: str, known: Iterable[str]) -> str:
    return nearest(name, [one for one in known if not one.startswith("_")])
