"""What is wrong with a model folder, its weights or its tokenizer: each fault as a ModelError that says what to do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError

SAME_MODEL = "Check that config.json and the weights belong to the same model."
AGAIN = "Copy or download the file again."
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


def bad_folder(folder: Path) -> None:
    """Refuse a folder without configuration or weights, or with a file of weights that can't be opened."""
    if not (folder / "config.json").is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"The folder {folder} is no model: it has no config.json. It holds: {held}.",
            hint="Give a folder that model.save_pretrained wrote, a hub name or builtin:minilm.",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [path.name for path in folder.glob("*.bin")]
        told = f" It has {pickled[0]}, which is a pickle and is never read." if pickled else ""
        raise ModelError(
            f"The model folder {folder} has no weights: no *.safetensors file.{told}",
            hint="Save the model again: model.save_pretrained(folder) writes safetensors.",
        )
    for path in weights:
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            size = path.stat().st_size
            raise ModelError(f"The weights {path} are damaged: {_line(error)} ({size:,} bytes).", hint=AGAIN) from error


def no_tokenizer(source: str) -> None:
    """Refuse a folder without any of a tokenizer's files."""
    if Path(source).is_dir() and not any((Path(source) / name).exists() for name in TOKENIZER_FILES):
        raise ModelError(
            f"The model folder {source} has no tokenizer: none of {', '.join(TOKENIZER_FILES)}.",
            hint="Save the tokenizer beside the model: tokenizer.save_pretrained(folder).",
        )


def missing_blocks(source: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Refuse weights that lack tensors of the blocks."""
    blocks = tuple(f"{path}." for path in anatomy.stacks(model))
    lost = [name for name in missing if name.startswith(blocks)]
    if lost:
        told = f"{len(lost)} tensors of its blocks are missing, {lost[0]} for one"
        raise ModelError(f"The weights of {source} don't match its configuration: {told}.", hint=SAME_MODEL)


def surplus_blocks(source: str, model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Refuse weights with more blocks than the configuration asks for; heads of other tasks are passed over."""
    body = re.escape(f"{model.base_model_prefix}.")
    names = list(unexpected)
    for path, blocks in anatomy.stacks(model).items():
        # A file of the body alone calls its tensors without the body's name.
        stack = re.compile(rf"(?:{body})?{re.escape(re.sub(f'^{body}', '', path))}\.(\d+)\.")
        held = {int(found[1]) + 1 for name in names if (found := stack.match(name))}
        if held and max(held) > len(blocks):
            told = f"they hold {max(held)} blocks ({path}), the configuration asks for {len(blocks)}"
            raise ModelError(f"The weights of {source} don't match its configuration: {told}.", hint=SAME_MODEL)


def untrained(source: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Refuse weights that lack anything but a pooler under no head, which nothing reads."""
    bare = not anatomy.head(model) and anatomy.output_layer(model) is None
    lost = sorted(name for name in missing if not (bare and name.startswith("pooler.")))
    if lost:
        raise ModelError(
            f"The weights in {source} are incomplete: {', '.join(lost[:3])} missing.",
            hint="They would be random. Give a model that was trained and saved with its head for this task.",
        )


def other_shapes(source: str, model: PreTrainedModel, mismatched: Iterable[Any]) -> None:
    """Refuse tensors of another shape than the configuration's; those of heads are made fresh elsewhere."""
    heads = tuple(f"{name}." for name in anatomy.head(model))
    wrong = sorted(key for key in mismatched if not key[0].startswith(heads))
    if wrong:
        name, found, expected = wrong[0]
        raise ModelError(
            f"The weights of {source} don't match its configuration: {name} has shape {tuple(found)}, "
            f"the configuration asks for {tuple(expected)} ({len(wrong)} such tensors).",
            hint=SAME_MODEL,
        )


def not_finite(source: str, model: PreTrainedModel) -> None:
    """Refuse weights that are infinite or no numbers."""
    bad = [name for name, parameter in model.named_parameters() if not _finite(parameter)]
    if bad:
        told = f"{len(bad)} tensors hold values that are not finite numbers, {bad[0]} for one"
        raise ModelError(f"The weights of {source} are damaged: {told}.", hint=AGAIN)


def _finite(parameter: Tensor) -> bool:
    # A sum is finite if its terms are, but for one that overflows; it is made in one pass that writes nothing.
    return bool(parameter.sum().isfinite() or parameter.isfinite().all())


def tokenizer_error(source: str, error: Exception) -> ModelError:
    """What to say of a tokenizer that its library refused."""
    return ModelError(
        f"The tokenizer of {source} can't be loaded: {_damaged_json(Path(source)) or _line(error)}.",
        hint="Copy or download its files again, or save it anew: tokenizer.save_pretrained(folder).",
    )


def processor_error(source: str, error: Exception) -> ModelError:
    """What to say of an image processor that its library refused, or that is not there."""
    return ModelError(
        f"The image processor of {source} can't be loaded: {_damaged_json(Path(source)) or _line(error)}.",
        hint="Copy or download preprocessor_config.json, or save it anew: processor.save_pretrained(folder).",
    )


def model_error(source: str, error: Exception) -> ModelError:
    """What to say of a model that its library refused."""
    if "shape" in str(error).lower() or "size mismatch" in str(error):
        return ModelError(f"The weights of {source} don't match its configuration: {_line(error)}.", hint=SAME_MODEL)
    if Path(source).is_dir():
        return ModelError(
            f"The model in {source} can't be loaded: {_damaged_json(Path(source)) or _line(error)}.",
            hint="Check its config.json, or copy or download the folder again.",
        )
    offline = " The hub is switched off (HF_HUB_OFFLINE)." if os.environ.get("HF_HUB_OFFLINE") else ""
    return ModelError(
        f"The model '{source}' is neither a folder here nor can it be fetched from the hub.{offline} ({_line(error)})",
        hint="Check the name, go online, give a folder, or use builtin:minilm, which needs no download.",
    )


def _damaged_json(folder: Path) -> str:
    """The JSON file of a folder that can't be read, and where it breaks; "" where all can."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"{path} is damaged: {error}"
    return ""


def _line(error: Exception) -> str:
    # A KeyError's text is the key alone.
    text = f"unknown value {error}" if isinstance(error, KeyError) else str(error)
    return text.strip().split("\n")[0][:300].rstrip(" .:")
