"""Which backbone a delta belongs to: hashes of its weights and of its tokenizer, kept beside what was trained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core.errors import ModelError
from tunesmith.core.files import read_json, reading, write_json
from tunesmith.core.part import Reader

FILE = "backbone.json"


@dataclass(frozen=True)
class Identity:
    """A backbone as it was loaded: its name, the SHA-256 of its body's weights, and that of its tokenizer."""

    name: str
    weights: str
    tokenizer: str

    def write(self, folder: Path) -> None:
        """Keep it in `folder`."""
        write_json(folder / FILE, asdict(self))


def identify(model: nn.Module, tokenizer: Reader, name: str) -> Identity:
    """The identity of a model that no method has touched yet. The head is left out: every task has its own."""
    digest = hashlib.sha256()
    for key, tensor in sorted(anatomy.backbone(model).state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{key} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return Identity(name, digest.hexdigest(), _fingerprint(tokenizer))


def read(folder: Path) -> Identity:
    """The identity that `write` kept."""
    values = read_json(folder / FILE)
    with reading(folder / FILE):
        return Identity(**values)


def check(expected: Identity, found: Identity, folder: Path) -> None:
    """Refuse to put a delta on a backbone that it was not trained on. Raises ModelError with both named."""
    other = [what for what in ("weights", "tokenizer") if getattr(expected, what) != getattr(found, what)]
    if other:
        both = " and ".join(other)
        raise ModelError(
            f"The delta in {folder} belongs to the backbone {_told(expected)}, not to {_told(found)}: their {both} "
            "differ.",
            hint="Give the backbone that the delta was trained on.",
        )


def _told(identity: Identity) -> str:
    return f"{identity.name} (weights {identity.weights[:12]}, tokenizer {identity.tokenizer[:12]})"


def _fingerprint(tokenizer: Reader) -> str:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return hashlib.sha256(json.dumps(tokenizer.to_dict(), sort_keys=True, default=str).encode()).hexdigest()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        told: dict[str, Any] = {"vocabulary": tokenizer.get_vocab()}
    else:
        told = json.loads(backend.to_str())
        # How the last batch was cut and padded is no part of what the tokenizer is.
        told = {key: value for key, value in told.items() if key not in ("truncation", "padding")}
    told["special"] = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
