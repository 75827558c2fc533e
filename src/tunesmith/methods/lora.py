"""LoRA: a low-rank matrix learned beside each frozen one."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.files import read_json, write_json
from tunesmith.core.part import Method
from tunesmith.core.step import Training

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
NOT_PLAIN = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "lora_bias")


class LoraLinear(surgery.Wrapper):
    """A frozen linear with a low-rank product beside it: `base(x) + scale * (dropout(x) A^T) B^T`.

    A [rank, in] starts uniform in ±1/sqrt(in), B [out, rank] at zero, so that the first output is the base's.
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__(base)
        inputs, outputs = anatomy.features(base)
        bound = 1 / math.sqrt(inputs)
        start = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(self.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=self.weight.device))
        self.scale = scale
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = self.base(x)
        if not self.active:
            return y
        if not torch.is_autocast_enabled(x.device.type):
            # A backbone in bfloat16 with matrices in float32; autocast would bring both to one type by itself.
            x = x.to(self.lora_A.dtype)
        low = nn.functional.linear(self.dropout(x), self.lora_A)  # [batch, time, rank]
        return y + (self.scale * nn.functional.linear(low, self.lora_B)).to(y.dtype)

    def delta(self) -> Tensor:
        """What is added to the base's weight, in float32: scale * B A, [out, in] (transposed for Conv1D)."""
        product = self.scale * (self.lora_B.float() @ self.lora_A.float())
        return product.T if isinstance(self.base, Conv1D) else product

    def merged(self) -> nn.Module:
        """The base with `delta` added to its weight, in float32, then in the base's type."""
        plain = copy.deepcopy(self.base)
        plain.weight.data = (self.weight.float() + self.delta()).to(self.weight.dtype)
        return plain


class Lora(Method):
    """Train two small matrices beside each chosen linear, and the head; the backbone stays as it is.

    Formula: y = W x + b + (alpha / r) B A dropout(x); merged: W + (alpha / r) B A.
    Symbols: W [out, in] frozen; A [r, in], uniform in ±1/sqrt(in) at the start; B [out, r], zero at the start.
    Parameters: the sum of r (in + out) over the chosen linears, and the head's.
    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. The paper's text starts A Gaussian,
    its code and ours uniform. Weights are saved in peft's layout, with the head inside.
    """

    learning_rate = 5e-4
    delta = True

    rank: int = Field(8, ge=1)
    """Inner size r of the two matrices."""
    alpha: float = Field(16.0, gt=0)
    """Strength: the product is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the input's features dropped before A, in training."""
    targets: str = "attention"
    """`attention` (queries and values), `all-linear` (every linear of the blocks), or a pattern that must match a
    whole path.
    """

    start: str | None = None
    """Folder of a LoRA delta in peft's layout, of the same rank, alpha and targets, to start from."""

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen linears; targets that match nothing raise ModelError."""
        chosen = self._chosen(model)
        surgery.freeze(model)
        for head in anatomy.head(model).values():
            surgery.thaw(head)
        for path, linear in chosen.items():
            scale = self.alpha / self.rank
            surgery.replace(model, path, LoraLinear(linear, self.rank, scale, self.dropout, generator))

    def setup(self, training: Training) -> None:
        """Take the delta to start from, where the recipe names one."""
        if self.start is not None:
            self.load(training.model, Path(self.start))

    def expected(self, model: nn.Module) -> int:
        """Sum of r (in + out), and the head."""
        inserted = sum(self.rank * sum(anatomy.features(w.base)) for w in surgery.wrappers(model).values())
        return inserted + sum(p.numel() for head in anatomy.head(model).values() for p in head.parameters())

    def save(self, model: nn.Module, folder: Path, backbone: str) -> None:
        """peft's two files; the model's configuration beside them keeps the names of the classes."""
        assert isinstance(model, PreTrainedModel)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _places(model).items()}
        save_file(tensors, folder / WEIGHTS)
        write_json(folder / CONFIG, self._peft_config(model, backbone))
        config: PreTrainedConfig = model.config
        config.save_pretrained(folder)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Read peft's two files into the wrapped model; tensors that are missing or of another shape raise
        ModelError.
        """
        tensors, config = _read(folder)
        other = [name for name in NOT_PLAIN if config.get(name)]
        if other or config["r"] != self.rank or config["lora_alpha"] != self.alpha:
            told = f" and {', '.join(other)}, which plain LoRA has not" if other else ""
            raise ModelError(
                f"The delta in {folder} has r={config['r']}, lora_alpha={config['lora_alpha']}{told}; the method has "
                f"rank {self.rank} and alpha {self.alpha:g}.",
                hint="Set method.rank and method.alpha to the delta's.",
            )
        places = _places(model)
        missing = sorted(set(places) - set(tensors))
        extra = sorted(set(tensors) - set(places))
        if missing or extra:
            raise ModelError(
                f"The delta in {folder} doesn't fit: {len(missing)} tensors missing ({missing[:2]}), "
                f"{len(extra)} not wanted ({extra[:2]}).",
                hint="Set method.targets to the linears that the delta was made for.",
            )
        wrong = [name for name, place in places.items() if place.shape != tensors[name].shape]
        if wrong:
            found, wanted = tuple(tensors[wrong[0]].shape), tuple(places[wrong[0]].shape)
            raise ModelError(
                f"The delta in {folder} doesn't fit: {wrong[0]} has shape {found}, the model asks for {wanted} "
                f"({len(wrong)} such tensors).",
                hint="It was made for another backbone, or for another number of classes.",
            )
        with torch.no_grad():
            for name, place in places.items():
                place.copy_(tensors[name])

    def merge(self, model: nn.Module) -> None:
        """W + (alpha / r) B A in place of every wrapper."""
        surgery.merge(model)

    def _chosen(self, model: nn.Module) -> dict[str, Any]:
        if self.targets == "attention":
            chosen = anatomy.query_and_value(model)
        elif self.targets == "all-linear":
            chosen = anatomy.linears(model)
        else:
            try:
                pattern = re.compile(self.targets)
            except re.error as error:
                raise ModelError(f"method.targets {self.targets!r} is no pattern: {error}.") from None
            chosen = {path: linear for path, linear in anatomy.linears(model).items() if pattern.fullmatch(path)}
        if not chosen:
            raise ModelError(
                f"method.targets {self.targets!r} matches no linear of {type(model).__name__}.",
                hint=f"Its linears: {', '.join(list(anatomy.linears(model))[:8])}, …",
            )
        return chosen

    def _peft_config(self, model: nn.Module, backbone: str) -> dict[str, Any]:
        places = surgery.wrappers(model)
        return {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS" if anatomy.head(model) else None,
            "base_model_name_or_path": backbone,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": sorted(places),
            "bias": "none",
            "fan_in_fan_out": any(isinstance(wrapper.base, Conv1D) for wrapper in places.values()),
            "modules_to_save": sorted(anatomy.head(model)) or None,
            "inference_mode": True,
            "init_lora_weights": True,
            "use_rslora": False,
            "use_dora": False,
        }


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    lacking = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if lacking:
        raise ModelError(f"The folder {folder} is no LoRA delta: it has no {' and no '.join(lacking)}.")
    try:
        return load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    except SafetensorError as error:
        raise ModelError(f"The delta {folder / WEIGHTS} is damaged: {error}.", hint="Copy the file again.") from error


def _head_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, head in anatomy.head(model).items()
        for key, tensor in head.state_dict(keep_vars=True).items()
    }


def _places(model: nn.Module) -> dict[str, Tensor]:
    places = {f"{PREFIX}{name}": tensor for name, tensor in _head_tensors(model).items()}
    for path, wrapper in surgery.wrappers(model).items():
        places[f"{PREFIX}{path}.lora_A.weight"] = wrapper.lora_A  # type: ignore[assignment]
        places[f"{PREFIX}{path}.lora_B.weight"] = wrapper.lora_B  # type: ignore[assignment]
    return places
