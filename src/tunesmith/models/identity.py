"""Which backbone a delta belongs to: hashes of its weights and of its tokenizer, kept beside what was trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
    """A backbone as it was loaded: its name, the SHA-256 of its body's weights, that of its tokenizer, and those of the
    deltas that stay below what is trained, the lowest first.
    """

    name: str
    weights: str
    tokenizer: str
    earlier: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Keep it in `folder`."""
        values = {**asdict(self), "earlier": list(self.earlier)}
        write_json(folder / FILE, values if self.earlier else {k: v for k, v in values.items() if k != "earlier"})


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
        return Identity(**{**values, "earlier": tuple(values.get("earlier", ()))})


def check(expected: Identity, found: Identity, folder: Path) -> None:
    """Refuse to put a delta on a backbone that it was not trained on. Raises ModelError with both named."""
    other = [what for what in ("weights", "tokenizer") if getattr(expected, what) != getattr(found, what)]
    if not other and expected.earlier != found.earlier:
        raise ModelError(
            f"The delta in {folder} was trained on top of {_counted(expected)}, and is not to stand on "
            f"{_counted(found)}: each is known by its hash.",
            hint="Name the deltas that it was trained on, unchanged and in their order.",
        )
    if other:
        both = " and ".join(other)
        raise ModelError(
            f"The delta in {folder} belongs to the backbone {_told(expected)}, not to {_told(found)}: their {both} "
            "differ.",
            hint="Give the backbone that the delta was trained on.",
        )


def _told(identity: Identity) -> str:
    return f"{identity.name} (weights {identity.weights[:12]}, tokenizer {identity.tokenizer[:12]})"


def _counted(identity: Identity) -> str:
    hashes = ", ".join(one[:12] for one in identity.earlier)
    return f"earlier deltas ({hashes})" if hashes else "the backbone alone"


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
