"""Where a model comes from: a folder, the hub, what comes along, or nothing but its configuration."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from tunesmith.core.errors import ModelError
from tunesmith.models import builtin, refuse, scratch
from tunesmith.models.settings import ModelSettings

HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""What names on the hub look like."""


def source_of(name: str) -> str | PreTrainedConfig:
    """The folder or hub name that a recipe means, or the configuration of a tiny model. What is no model raises
    ModelError.
    """
    if name.startswith(builtin.PREFIX):
        found = builtin.find(name.removeprefix(builtin.PREFIX))
        return found if isinstance(found, PreTrainedConfig) else str(found)
    folder = Path(name).expanduser()
    if folder.is_dir():
        refuse.bad_folder(folder)
        return str(folder)
    if folder.is_file():
        raise ModelError(f"The model {name} is a file.", hint="Give the folder that holds config.json and the weights.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"The model folder {name} does not exist.", hint="Give a folder, a hub name or builtin:minilm."
        )
    return name


def hub_name(settings: ModelSettings) -> str | None:
    """What the hub calls a model that is started from; None for a folder, for random weights, and for tiny ones."""
    name = settings.name
    if name is None or Path(name).expanduser().exists():
        return None
    if name.startswith(builtin.PREFIX):
        return builtin.MINILM_HUB_NAME if name == f"{builtin.PREFIX}{builtin.MINILM}" else None
    return name if HUB.fullmatch(name) else None


def kind_from_nothing(settings: ModelSettings) -> PreTrainedConfig:
    """The configuration of a model with random weights: its family's, or that of another model."""
    if settings.family is not None:
        return scratch.config_of(settings)
    source = source_of(str(settings.like))
    if isinstance(source, PreTrainedConfig):
        return source
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise refuse.model_error(source, error) from error
    return config


def from_nothing(settings: ModelSettings, reads: str) -> PreTrainedConfig:
    """The same, fitted to the tokenizer that was trained for it."""
    config = kind_from_nothing(settings)
    if reads == "text" and settings.tokenizer is not None:
        scratch.fit(config, scratch.reader(settings.tokenizer, config))
    return config
