"""Load a backbone and its tokenizer, with a task's head, and check what was loaded.

Weights are read from safetensors alone and in float32 unless told otherwise. A tensor of the blocks that the file
does not hold is an error, a missing head is made fresh and said.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError, RecipeError, UserError
from tunesmith.core.notes import note, warn
from tunesmith.core.part import Method, Reader
from tunesmith.core.seeding import seed_of
from tunesmith.models import builtin, hollow, identity, images, origin, quantise, refuse, scratch, vocabulary
from tunesmith.models.identity import Identity
from tunesmith.models.settings import ModelSettings

USUAL_LIMIT = 512


class Below(NamedTuple):
    """A delta that stays below what is trained: its folder, and the method that put it in."""

    folder: Path
    method: Method


@dataclass(frozen=True)
class Backbone:
    """A model with a head, its tokenizer (or image processor), the longest sequence it may see, which backbone it was
    made from, and the deltas that stay in it, the lowest first.
    """

    model: PreTrainedModel
    tokenizer: Reader
    limit: int
    identity: Identity
    below: tuple[Below, ...] = ()

    @property
    def name(self) -> str:
        """What the recipe calls the backbone."""
        return self.identity.name


def load(
    settings: ModelSettings, auto_classes: tuple[str, ...], head: Mapping[str, Any], seed: int, reads: str = "text"
) -> Backbone:
    """The backbone that the recipe names, with the task's head started from `seed`, by the first of the transformers
    classes that knows it.

    Raises ModelError: unknown name, no weights, damaged weights, weights of another shape, a kind of model that none of
    the classes knows, no tokenizer (or image processor), no token to pad with.
    """
    transformers.logging.disable_progress_bar()
    name, seen = settings.called, reads == "images"
    source = origin.from_nothing(settings, reads) if settings.scratch else origin.source_of(name)
    if isinstance(source, PreTrainedConfig):
        auto_class = class_for(source, auto_classes, name).__name__
        body = seed_of(seed, "backbone") if settings.scratch else 0
        model = _random(source, auto_class, head, seed, body).to(getattr(torch, settings.dtype))
        if settings.quantize is not None:
            kind = ModelSettings(quantize=settings.quantize, dtype=settings.dtype)
            model = _by_way_of_a_file(model, auto_class, kind)
        tokenizer = _reader_of(settings, source, reads)
    else:
        model = _pretrained(source, auto_classes, head, settings, seed)
        tokenizer = load_reader(source, reads)
    if seen:
        images.check_fit(model, tokenizer, name)
    else:
        _give_padding(model, tokenizer, name)
    if isinstance(settings.add_tokens, list):
        vocabulary.extend(model, tokenizer, settings.add_tokens, name)
    return complete(model, tokenizer, identity.identify(model, tokenizer, name))


def with_words(settings: ModelSettings, reads: str) -> ModelSettings:
    """The settings with the words to add chosen and listed, so that they name the same vocabulary ever after.

    Raises RecipeError where there is none to add, or the task reads images.
    """
    if settings.add_tokens is None:
        return settings
    if reads != "text":
        raise RecipeError("model.add_tokens: the task reads images, not words.", hint="Leave it out.")
    source = origin.source_of(settings.called)
    tokenizer = load_tokenizer(source) if isinstance(source, str) else builtin.tiny_tokenizer()
    words = vocabulary.choose(settings.add_tokens, tokenizer, settings.called)
    return settings.model_copy(update={"add_tokens": words})


def complete(model: PreTrainedModel, tokenizer: Reader, known: Identity) -> Backbone:
    """Fit tokenizer and model to each other: a padding token, padding on the right, the length limit."""
    name = known.name
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return Backbone(model, tokenizer, USUAL_LIMIT, known)
    _give_padding(model, tokenizer, name)
    tokenizer.padding_side = "right"
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, torch.nn.Embedding)
    vocabulary = embeddings.num_embeddings
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"The tokenizer of {name} has {len(tokenizer)} tokens, its model only {vocabulary}.",
            hint="The two belong to different models: check the folder's files.",
        )
    model.config.use_cache = False
    return Backbone(model, tokenizer, limit_of(model, tokenizer), known)


def limit_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest sequence that both the model's positions and the tokenizer allow."""
    limits = [tokenizer.model_max_length, anatomy.positions(model) or USUAL_LIMIT]
    return int(min(limits))


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name."""
    refuse.no_tokenizer(source)
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise refuse.tokenizer_error(source, error) from error


def load_reader(source: str, reads: str) -> Reader:
    """What turns rows into numbers for a backbone: its tokenizer, or its image processor."""
    return images.load_processor(source) if reads == "images" else load_tokenizer(source)


def load_whole(source: Path | str, auto_classes: tuple[str, ...]) -> PreTrainedModel:
    """A model that was saved whole, head and all, in a folder or (a str) on the hub. What its task reads must be in its
    file, or else ModelError.
    """
    if isinstance(source, Path):
        refuse.bad_folder(source)
    model, missing = _from_pretrained(str(source), auto_classes, ModelSettings(), None)
    refuse.untrained(str(source), model, missing)
    return model


def class_for(config: PreTrainedConfig, auto_classes: tuple[str, ...], name: str) -> Any:
    """The first of transformers' classes that knows models of this kind; none raises ModelError."""
    for auto_class in auto_classes:
        found = getattr(transformers, auto_class)
        if type(config) in found._model_mapping:
            if auto_class == "AutoModelForCausalLM" and _is_encoder(config):
                raise ModelError(
                    f"{name} is an encoder: every token sees those that follow it, so that it can't write text.",
                    hint="Name a decoder or an encoder-decoder with --model, or use the task 'fill'.",
                )
            return found
    raise ModelError(
        f"{name} is a {config.model_type} model, for which transformers has no {' and no '.join(auto_classes)}.",
        hint="Name another model with --model, or another task.",
    )


def _is_encoder(config: PreTrainedConfig) -> bool:
    # BERT's kind has a class for writing too, for those that were trained as decoders.
    fills, writes = transformers.AutoModelForMaskedLM, transformers.AutoModelForSeq2SeqLM
    told = getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False)
    return type(config) in fills._model_mapping and type(config) not in writes._model_mapping and not told


def _reader_of(settings: ModelSettings, config: PreTrainedConfig, reads: str) -> Reader:
    """The tokenizer or image processor of a model that is made from its configuration."""
    if reads == "text" and settings.tokenizer is not None:
        return scratch.reader(settings.tokenizer, config)
    source = origin.source_of(settings.like or settings.called) if settings.family is None else config
    if isinstance(source, str):
        return load_reader(source, reads)
    return images.processor_for(config) if reads == "images" else builtin.tiny_tokenizer()


def _random(
    config: PreTrainedConfig, auto_class: str, head: Mapping[str, Any], seed: int, body: int
) -> PreTrainedModel:
    # The body of a tiny model must be the same in every run, as a real one is; only its head follows the run's seed.
    for name, value in head.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(body)
        model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
        torch.manual_seed(seed_of(seed, "head"))
        for module in anatomy.head(model).values():
            for part in module.modules():
                model._init_weights(part)
    assert isinstance(model, PreTrainedModel)
    return model


def _by_way_of_a_file(model: PreTrainedModel, auto_class: str, settings: ModelSettings) -> PreTrainedModel:
    # A model is quantised while its file is read.
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return _from_pretrained(folder, (auto_class,), settings, {})[0]


def _pretrained(
    source: str, auto_classes: tuple[str, ...], head: Mapping[str, Any], settings: ModelSettings, seed: int
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "head"))
        model, missing = _from_pretrained(source, auto_classes, settings, head)
    refuse.missing_blocks(source, model, missing)
    if fresh := anatomy.note_fresh(model, missing):
        note(
            f"{settings.name} has no weights for {', '.join(fresh)}: started fresh. This is part of the head: it "
            "trains under every method, and is saved with every delta."
        )
    started = tuple(f"{name}." for name in anatomy.head(model))
    body = [name for name in missing if not name.startswith(started)]
    if body:
        note(f"{settings.name} has no weights for {', '.join(body)}: started fresh.")
    return model


def _from_pretrained(
    source: str, auto_classes: tuple[str, ...], settings: ModelSettings, head: Mapping[str, Any] | None
) -> tuple[PreTrainedModel, list[str]]:
    quiet, dtype = transformers.logging.get_verbosity(), getattr(torch, settings.dtype)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **(head or {}))
        auto_class = class_for(config, auto_classes, source)
        quantised = quantise.loading(settings.quantize, config, auto_class.__name__)
        renamed = _renamed(config, auto_class)
        # A head of another size in the file (a model tuned for another task) is made fresh, as the task needs it.
        with hollow.quick():
            model, info = auto_class.from_pretrained(
                source, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True,
                ignore_mismatched_sizes=head is not None, trust_remote_code=False, key_mapping=renamed, **quantised,
            )  # fmt: skip
    except UserError:
        raise
    except Exception as error:
        raise refuse.model_error(source, error) from error
    finally:
        transformers.logging.set_verbosity(quiet)
    if renamed is not None:
        # What renamed the file's tensors would do so backwards when the model is saved: plain transformers would then
        # not find them.
        model._weight_conversions = [
            one for one in model._weight_conversions if not set(one.source_patterns) & set(renamed)
        ]
    wrong = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()} - {dtype}
    if quantised:
        quantise.settle(model)
    elif wrong:
        model = model.to(dtype)
    refuse.other_shapes(source, model, info["mismatched_keys"])
    refuse.surplus_blocks(source, model, info["unexpected_keys"])
    refuse.not_finite(source, model)
    assert isinstance(model, PreTrainedModel)
    return model, sorted(info["missing_keys"])


def _renamed(config: PreTrainedConfig, auto_class: Any) -> dict[str, str] | None:
    """How tensors of a backbone's file are called in a class that names its body otherwise (Llama's for questions);
    None where the names are the same.
    """
    plain = transformers.AutoModel._model_mapping.get(type(config), None)
    theirs, ours = (getattr(one, "base_model_prefix", "") for one in (plain, auto_class._model_mapping[type(config)]))
    return {rf"^{theirs}\.": f"{ours}."} if theirs and ours and theirs != ours else None


def _give_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if tokenizer.pad_token_id is None:
        stand_in = tokenizer.eos_token or tokenizer.unk_token
        if stand_in is None:
            raise ModelError(
                f"The tokenizer of {name} has no token to pad with, and no end-of-text token to stand in for it.",
                hint="Set one and save it: tokenizer.pad_token = ...; tokenizer.save_pretrained(folder).",
            )
        warn(f"The tokenizer of {name} has no padding token: {stand_in!r} is used.")
        tokenizer.pad_token = stand_in
    # A decoder's classifier reads the last token that is not padding, and asks the configuration which that is.
    model.config.pad_token_id = tokenizer.pad_token_id
