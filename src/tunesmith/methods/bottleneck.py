"""Bottleneck adapters: small networks put into every block, after its parts or beside its feed-forward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, in_type_of
from tunesmith.core.part import Method
from tunesmith.core.sealed import core, plain

PHI: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


class Form(NamedTuple):
    """What the authors of a form take where the recipe says nothing."""

    activation: str
    train_norms: bool
    scale: float


FORMS = {
    "houlsby": Form("gelu", True, 1.0),
    "pfeiffer": Form("relu", False, 1.0),
    "parallel": Form("relu", False, 4.0),
}


class Bottleneck(Method):
    """Train small two-layer networks with a narrow middle in every block, and the head; the backbone stays as it is.

    Formula: f(y) = W_up phi(W_down y + b_down) + b_up.
    houlsby: y + f(y), with y the output of every attention, and of the feed-forward, before the residual is added.
    pfeiffer: one a block. Norm after the residual (BERT): out = LN(s + f(LN(s))), with s the feed-forward's output plus
    its input. The authors' steps are the same: u = LN(z + input), out = LN(f(u) + z + input), z the output. Norm before
    (GPT-2, Llama, T5): y + f(y), with y the feed-forward's output. Which it is, is seen in a run on two tokens.
    parallel: y + scale f(x), with x the feed-forward's input (after the norm where that stands before).
    Symbols: W_down [size, hidden], uniform in ±1/sqrt(hidden) at the start; W_up [hidden, size] and both biases, zero.
    Parameters: 2 hidden size + size + hidden a network, two (houlsby; three where there are two attentions) or one a
    block; the norms of the blocks where they train; the head's. BERT-base: 2,379,264 + 36,864 (houlsby, size 64),
    894,528 (pfeiffer, size 48).
    Paper: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019; Pfeiffer et al., "AdapterFusion",
    2021; He et al., "Towards a Unified View of Parameter-Efficient Transfer Learning", 2022. The first two start both
    matrices near zero; our W_up is zero, as He et al.'s, so that the first outputs are the backbone's. Houlsby et al.
    put theirs after the dropout that follows the linear, we before it (the same where nothing is dropped). They train
    every norm; we train copies of the blocks' norms, not of the embeddings' nor the final one, and the backbone keeps
    its own. The rate lies within their sweep (3e-5 to 3e-3).
    """

    learning_rate = 1e-3
    delta = True
    keeps_backbone = True
    cannot_merge = "its networks have a non-linearity, which no weight of the backbone can hold"
    at_inference = "two small products and a non-linearity for each network"

    form: Literal["houlsby", "pfeiffer", "parallel"] = "houlsby"
    """Where the networks stand: after attention and feed-forward (`houlsby`), after the feed-forward (`pfeiffer`), or
    beside it (`parallel`).
    """
    size: int = Field(64, ge=1)
    """Width of the narrow middle."""
    activation: Literal["gelu", "relu", "silu", "tanh"] | None = None
    """The non-linearity phi; left out: gelu for houlsby, relu for the others."""
    scale: float | None = Field(None, gt=0)
    """Strength of the parallel form; left out: 4. The others have none."""
    train_norms: bool | None = None
    """Whether copies of the blocks' norms train too; left out: as the authors do, for houlsby yes, else no."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.scale is not None and self.form != "parallel":
            raise ValueError(f"scale belongs to form 'parallel'; '{self.form}' has none: leave it out")
        return self

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and put the networks in. A block without one feed-forward of linears (a mixture of
        experts has many) raises ModelError.
        """
        places = self._places(model)
        surgery.freeze_backbone(model)
        if FORMS[self.form].train_norms if self.train_norms is None else self.train_norms:
            for path, norm in _norms_of_blocks(model).items():
                surgery.replace(model, path, TrainedNorm(norm))
        phi = PHI[self.activation or FORMS[self.form].activation]
        for place in places:
            base = model.get_submodule(place.path)
            adapter = Adapter(place.hidden, self.size, phi, generator).to(anatomy.device_of(base))
            surgery.replace(model, place.path, self._wrapper(model, base, adapter, place.first))

    def expected(self, model: nn.Module) -> int:
        """Each network's 2 hidden size + size + hidden, the copied norms, and the head."""
        put_in = list(_put_in(model).values())
        widths = [module.up_bias.numel() for module in put_in if isinstance(module, Adapter)]
        norms = [module for module in put_in if not isinstance(module, Adapter)]
        return (
            sum(2 * hidden * self.size + self.size + hidden for hidden in widths)
            + sum(parameter.numel() for norm in norms for parameter in norm.parameters())
            + anatomy.head_parameters(model)
        )

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The networks and the copied norms, by the model's own names."""
        return {
            f"{path}.{name}": parameter
            for path, module in _put_in(model).items()
            for name, parameter in module.named_parameters()
        }

    def _places(self, model: nn.Module) -> list[Place]:
        every = _feed_forwards(model)
        if self.form == "parallel":
            return every
        linears, roles = anatomy.linears(model), anatomy.roles(model)
        if self.form == "houlsby":
            wrapped = {place.path for place in every} | {path for path, role in roles.items() if role == "attention"}
            return [Place(path, features(linear)[1], "") for path, linear in linears.items() if path in wrapped]
        after = anatomy.norms_after(model)
        return [Place(after.get(place.path, place.path), place.hidden, "") for place in every]

    def _wrapper(self, model: nn.Module, base: nn.Module, adapter: Adapter, first: str) -> surgery.Wrapper:
        if self.form != "parallel":
            return (After if isinstance(core(base), nn.Linear | Conv1D) else AroundNorm)(base, adapter)
        tap = Tap(model.get_submodule(first))
        surgery.replace(model, first, tap)
        return Beside(base, adapter, FORMS[self.form].scale if self.scale is None else self.scale, tap.seen)


class Place(NamedTuple):
    """What is wrapped, by its path, the width of its output, and the first linear of its feed-forward."""

    path: str
    hidden: int
    first: str


class Adapter(nn.Module):
    """f(y) = W_up phi(W_down y + b_down) + b_up, zero at the start."""

    def __init__(self, hidden: int, size: int, phi: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        start = torch.empty(size, hidden).uniform_(-bound, bound, generator=generator)
        self.down_weight = nn.Parameter(start)
        self.down_bias = nn.Parameter(torch.zeros(size))
        self.up_weight = nn.Parameter(torch.zeros(hidden, size))
        self.up_bias = nn.Parameter(torch.zeros(hidden))
        self.phi = phi

    def forward(self, y: Tensor) -> Tensor:
        """[batch, time, hidden] -> [batch, time, hidden]."""
        y = in_type_of(self.down_weight, y)
        low = self.phi(nn.functional.linear(y, self.down_weight, self.down_bias))  # [batch, time, size]
        return nn.functional.linear(low, self.up_weight, self.up_bias)


class After(surgery.Wrapper):
    """A linear with a network after it: y + f(y), with y its output."""

    def __init__(self, base: nn.Module, adapter: Adapter) -> None:
        super().__init__(base)
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, hidden]."""
        y: Tensor = self.base(x)
        return y + self.adapter(y).to(y.dtype) if self.active else y


class AroundNorm(surgery.Wrapper):
    """A norm with a network between two uses of it: LN(s + f(LN(s)))."""

    def __init__(self, base: nn.Module, adapter: Adapter) -> None:
        super().__init__(base)
        self.adapter = adapter

    def forward(self, s: Tensor) -> Tensor:
        """[batch, time, hidden] -> [batch, time, hidden]."""
        u: Tensor = self.base(s)
        return cast(Tensor, self.base(s + self.adapter(u).to(s.dtype))) if self.active else u


class Tap(surgery.Wrapper):
    """The feed-forward's first linear; it leaves its input in `seen` for the last one, which takes it away."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, hidden] -> [batch, time, out]."""
        if self.active:
            self.seen[:] = [x]
        return cast(Tensor, self.base(x))


class Beside(surgery.Wrapper):
    """The feed-forward's last linear with a network beside it all: y + scale f(x), with x the feed-forward's input."""

    def __init__(self, base: nn.Module, adapter: Adapter, scale: float, seen: list[Tensor]) -> None:
        super().__init__(base)
        self.adapter = adapter
        self.scale = scale
        self.seen = seen  # the tap's own list: a deep copy of the model copies it once, for both

    def forward(self, inner: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, hidden]."""
        if not self.active:
            return cast(Tensor, self.base(inner))
        x = self.seen.pop()  # [batch, time, hidden]
        y: Tensor = self.base(inner)
        added: Tensor = self.scale * self.adapter(x)
        return y + added.to(y.dtype)


class TrainedNorm(surgery.Wrapper):
    """A norm whose copy trains and acts in its place."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        kind = next(base.parameters()).dtype
        self.trained = copy.deepcopy(plain(base)).to(torch.promote_types(kind, torch.float32))
        surgery.thaw(self.trained)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, hidden] -> [batch, time, hidden]."""
        if not self.active:
            return cast(Tensor, self.base(x))
        first = next(self.trained.parameters())
        y: Tensor = self.trained(in_type_of(first, x))
        return y if torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)

    def merged(self) -> nn.Module:
        """The copy that trained."""
        return self.trained


def _put_in(model: nn.Module) -> dict[str, nn.Module]:
    """The networks and the copied norms, by the paths that a file calls them by."""
    found: dict[str, nn.Module] = {}
    for path, wrapper in surgery.wrappers(model).items():
        if isinstance(wrapper, TrainedNorm):
            found[path] = wrapper.trained
        elif isinstance(wrapper, After | AroundNorm | Beside):
            found[f"{path}.adapter"] = wrapper.adapter
    return found


def _norms_of_blocks(model: nn.Module) -> dict[str, nn.Module]:
    starts = tuple(f"{path}." for path in anatomy.blocks(model))
    every = anatomy.norms(model).items()
    return {path: norm for path, norm in every if path.startswith(starts) and any(True for _ in norm.parameters())}


def _feed_forwards(model: nn.Module) -> list[Place]:
    """The last and the first linear of every block's feed-forward."""
    roles, every = anatomy.roles(model), anatomy.linears(model)
    found = []
    for block in anatomy.blocks(model):
        inside = {path: role for path, role in roles.items() if path.startswith(f"{block}.")}
        ups, downs = ([path for path, role in inside.items() if role == wanted] for wanted in ("up", "down"))
        if not inside:  # a block of something else
            continue
        if len(downs) != 1 or not ups or "attention" not in inside.values():
            raise _refusal(model, f"{block} has {len(downs)} with {len(ups)} linears on the way in")
        hidden = features(every[downs[0]])[1]
        if features(every[ups[0]])[0] != hidden:
            raise _refusal(model, f"that of {block} takes {features(every[ups[0]])[0]} numbers and gives {hidden}")
        found.append(Place(downs[0], hidden, ups[0]))
    if not found:
        raise _refusal(model, "it has no block with attention")
    return found


def _refusal(model: nn.Module, told: str) -> ModelError:
    return ModelError(
        f"bottleneck needs blocks of attention and one feed-forward of plain linears; {type(model).__name__} has "
        f"others: {told}.",
        hint="Use another method: lora.",
    )
