"""The bridge to the peft library: its layers, under our data, tasks, regularizers, suites and reports."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, Self, cast

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import MissingExtraError, ModelError, nearest
from tunesmith.core.notes import note
from tunesmith.core.part import Method
from tunesmith.core.quantised import Quantised

NAME, PLACE = "default", "peft_tuner"
# Keys that the rest of a recipe answers: the backbone, the task, the head.
ELSEWHERE = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "modules_to_save", "peft_type", "peft_version",
    "revision", "runtime_config", "task_type",
}  # fmt: skip
# Keys whose work peft does around a training: in a forward, in a loss, in a pass over data, in the depth of the model.
AROUND = {
    "alora_invocation_tokens", "arrow_config", "corda_config", "eva_config", "kasa_config", "layer_replication",
    "lora_ga_config", "monteclora_config", "use_asa",
}  # fmt: skip


class Peft(Method):
    """Train with any configuration of the peft library whose work is done in the layers of the model.

    Formula: the type's own, as peft's documentation of it says; for `LORA` y = W x + b + (lora_alpha / r) B A x.
    Symbols: W and b are frozen; the type's weights, and the keys of `settings`, have peft's names.
    Parameters: those that peft marks as trainable, counted in the modified model, since no formula holds for every
    type; and the head's.
    Paper: Mangrulkar et al., "PEFT: State-of-the-art Parameter-Efficient Fine-Tuning methods", 2022; peft's page of a
    type names that type's. peft's layers are used as they are. We differ around them: the head is ours and always
    trains; no weight of the backbone may train or change, so that `bias: all` and starts such as `pissa` are refused;
    random numbers come from the run's seed; where neither the recipe nor peft's table says which layers, the queries
    and values are taken (for `LN_TUNING` the normalisation layers).
    """

    learning_rate = 2e-3
    delta = True
    keeps_backbone = True
    cannot_stack = "its layers are peft's own, which take the places of the backbone's"
    at_inference = "what the type's layers cost, until they are merged"

    type: str = "LORA"
    """Name of the peft type, for example `VERA`, `LOHA`, `OFT`, `IA3`, `LN_TUNING`; in capitals or not."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of that type's configuration in peft, and their values; the others keep peft's defaults."""

    @field_validator("type")
    @classmethod
    def _known(cls, name: str) -> str:
        known = [kind.value for kind in _peft().PEFT_TYPE_TO_CONFIG_MAPPING]
        if name.upper() not in known:
            raise ValueError(f"peft has no type {name!r}. {nearest(name.upper(), known)}")
        _check_type(name.upper())
        return name.upper()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if faults := _faults(_configuration(self.type), self.settings):
            raise ValueError("; ".join(faults))
        with _refused(f"peft refuses these settings of {self.type}", ValueError):
            self._config()
        return self

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and let peft put its layers in. Raises ModelError for what peft can't do with this model,
        what would train or change the backbone's own weights, and what could not be read back.
        """
        if any(isinstance(module, Quantised) for module in model.modules()):
            raise ModelError(
                "The method 'peft' takes no quantised backbone: layers of peft may read weights, and these are packed.",
                hint="Leave model.quantize out, or use one of our own methods, such as 'lora'.",
            )
        seed = int(torch.randint(2**31, (), generator=generator))
        surgery.freeze_backbone(model)
        with surgery.taken_out(model, anatomy.head(model)):
            before, words = _sums(model.parameters()), set(anatomy.word_embeddings(model))
            with _refused(f"peft can't put {self.type} into {type(model).__name__}"):
                tuner = Tuner(_injected(model, self._config(), seed))
            after, here = _sums(before), set(model.parameters())
        anatomy.backbone(model).add_module(PLACE, tuner)
        with _refused(f"peft can't save {self.type}"):
            saved = tuner.saved()
        own, files = _beside_head(model), {id(tensor) for tensor in saved.values()}
        places = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        faults = {
            "of the backbone's own weights change": sum(before[w] != after[w] or w not in here for w in before),
            "of the backbone's own weights train": sum(w.requires_grad for w in before),
            # T5 holds its table of words three times, of which peft finds one.
            "tables of words are passed over": len(words - set(tuner.targeted)) if words & set(tuner.targeted) else 0,
            "tensors are saved in another form": len(files - places),
            "tensors that train are not saved": len({id(weight) for weight in own} - files),
        }
        told = [f"{count} {fault}" for fault, count in faults.items() if count]
        if told or not own:
            raise ModelError(
                f"peft's {self.type} does not work here with these settings: {', '.join(told) or 'nothing trains'}.",
                hint="A delta holds what is put in beside the backbone's own weights, which stay as they are.",
            )
        names = sorted({re.split(r"\.\d+\.", path, maxsplit=1)[-1] for path in tuner.targeted})
        note(f"peft's {self.type} is put in at {len(tuner.targeted)} layers: {', '.join(names)}.")

    def expected(self, model: nn.Module) -> int:
        """What peft marked as trainable, counted, and the head."""
        return sum(parameter.numel() for parameter in _beside_head(model)) + anatomy.head_parameters(model)

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """What peft saves of the model, by its names."""
        return _tuners(model)[0].saved()

    def peft_config(self, model: nn.Module) -> dict[str, Any]:
        """The entries of the type's configuration; layers by their whole paths."""
        tuner = _tuners(model)[0]
        told = {key: value for key, value in tuner.config.to_dict().items() if key not in ELSEWHERE}
        layers = {path: model.get_submodule(path) for path in tuner.targeted}
        if layers:
            told["target_modules"] = list(layers)
        if told.get("feedforward_modules"):
            # IA3's, which must be among its targets by the same names.
            told["feedforward_modules"] = [path for path in layers if getattr(layers[path], "is_feedforward", False)]
        told["peft_type"] = self.type
        return cast(dict[str, Any], json.loads(json.dumps(told, default=sorted)))

    def merge(self, model: nn.Module) -> None:
        """Let peft fold its layers in. A type or a layer that peft can't merge raises ModelError."""
        for tuner in _tuners(model):
            with _refused(f"A delta of peft's {self.type} can't be merged"):
                tuner.tuner.merge_and_unload(safe_merge=True)
            delattr(anatomy.backbone(model), PLACE)

    def _config(self) -> Any:
        return _configuration(self.type)(**deepcopy(self.settings))


class Tuner(surgery.Inserted):
    """peft's tuner of a model, whose layers act while `active` is True; it holds what the layers share."""

    tuner: Any
    config: Any
    targeted: list[str]

    def __init__(self, tuner: Any) -> None:
        # The tuner has the model, which has this module: as a child it would close a circle.
        object.__setattr__(self, "tuner", tuner)
        super().__init__()
        self.config, self.targeted = tuner.peft_config[NAME], sorted(tuner.targeted_module_names)
        for name, child in tuner.named_children():
            if child is not tuner.model:
                self.add_module(name, child)
        for name, parameter in tuner.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    @property
    def active(self) -> bool:
        """Whether peft's layers act."""
        return not any(layer.disable_adapters for layer in self.layers())

    @active.setter
    def active(self, active: bool) -> None:
        # peft stops and starts training along with acting; what trains is not the switch's business.
        before = [(parameter, parameter.requires_grad) for parameter in self.tuner.parameters()]
        for layer in self.layers():
            layer.enable_adapters(active)
        for parameter, trains in before:
            parameter.requires_grad_(trains)

    def layers(self) -> list[Any]:
        """peft's layers in the model."""
        kinds = (_peft().tuners.tuners_utils.BaseTunerLayer, _peft().utils.other.AuxiliaryTrainingWrapper)
        return [module for module in self.tuner.modules() if isinstance(module, kinds)]

    def saved(self) -> dict[str, Tensor]:
        """What peft saves, by the names of its file: the model's own tensors."""
        # As plain peft holds a tuner, so that its names come out: `base_model.model.` and a path.
        view = nn.Module()
        view.base_model = self.tuner
        view.peft_config = self.tuner.peft_config
        save = _peft().get_peft_model_state_dict
        return cast(dict[str, Tensor], save(view, view.state_dict(keep_vars=True), NAME, save_embedding_layers=False))


def _peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "The method 'peft' needs the library peft, which is not installed.",
            hint="Install it: pip install 'tunesmith[peft]'.",
        ) from error


def _configuration(name: str) -> Any:
    return _peft().PEFT_TYPE_TO_CONFIG_MAPPING[_peft().PeftType(name)]


def _check_type(name: str) -> None:
    """Refuse, with ValueError, types that act elsewhere than in layers."""
    if issubclass(_configuration(name), _peft().PromptLearningConfig):
        raise ValueError(f"{name} puts vectors before the text: the methods 'prefix' and 'prompt' do that here")
    kind, base = _peft().PEFT_TYPE_TO_TUNER_MAPPING.get(name), _peft().tuners.tuners_utils.BaseTuner
    if kind is None or not issubclass(kind, base) or kind.forward is not base.forward:
        raise ValueError(f"{name} acts outside the layers, in a forward of peft's own, which a recipe does not run")


def _faults(configuration: Any, settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with keys, all of it: unknown ones, those that can't act here, texts where a number belongs."""
    defaults = {field.name: field.default for field in dataclasses.fields(configuration)}
    known = sorted(set(defaults) - ELSEWHERE - AROUND)
    faults = []
    if unknown := [key for key in settings if key not in defaults]:
        close = {key: get_close_matches(key, known, n=1, cutoff=0.5) for key in unknown}
        told = [key + (f" (did you mean {close[key][0]}?)" if close[key] else "") for key in unknown]
        faults.append(f"{configuration.__name__} has no {', '.join(told)}; it has {', '.join(known)}")
    if elsewhere := sorted(ELSEWHERE & set(settings)):
        faults.append(f"leave out {', '.join(elsewhere)}: the recipe's model and task say it, and the head trains")
    around = sorted(key for key in AROUND & set(settings) if settings[key])
    if settings.get("init_lora_weights") == "eva":
        around.append("init_lora_weights: eva")
    if around:
        faults.append(f"leave out {', '.join(around)}: peft's own code would have to run around the training")
    texts = [key for key in settings if type(defaults.get(key)) in (int, float) and isinstance(settings[key], str)]
    return faults + [f"{key} must be a number, not the text {settings[key]!r}" for key in texts]


def _injected(model: nn.Module, config: Any, seed: int) -> Any:
    """peft's tuner, its layers in the model; it draws from torch's own generator, which is put back afterwards."""
    make = _peft().PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            tuner = make(model, config, NAME)
        except ValueError:
            if config.target_modules is not None:
                raise
            # peft's table does not have the model; nothing has been put in yet.
            norms = config.peft_type == "LN_TUNING"
            config.target_modules = list(anatomy.norms(model) if norms else anatomy.query_and_value(model))
            tuner = make(model, config, NAME)
    _peft().tuners.tuners_utils.cast_adapter_dtype(model, NAME)
    return tuner


def _sums(weights: Iterable[nn.Parameter]) -> dict[nn.Parameter, float]:
    """Every weight with its sum, which tells a change without a copy of the model."""
    return {weight: float(weight.detach().sum(dtype=torch.float64)) for weight in weights}


def _beside_head(model: nn.Module) -> list[nn.Parameter]:
    heads = {id(parameter) for head in anatomy.head(model).values() for parameter in head.parameters()}
    return [p for p in surgery.trained(model).values() if id(p) not in heads and p.numel()]


def _tuners(model: nn.Module) -> list[Tuner]:
    return [found for found in surgery.inserted(model).values() if isinstance(found, Tuner)]


@contextmanager
def _refused(what: str, kind: type[ValueError] = ModelError) -> Iterator[None]:
    """Inside the block an error of peft's becomes one that begins with `what`; its warnings become notes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            raise kind(f"{what}: {_sentence(error)}") from error
        finally:
            for warning in said:
                note(f"peft says: {_sentence(warning.message)}")


def _sentence(said: object) -> str:
    told = " ".join(str(said).split()) or f"it raises {type(said).__name__}"
    return told if told.endswith((".", "!", "?")) else f"{told}."
