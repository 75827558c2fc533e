"""AFLoRA: low-rank matrices between trained vectors, which stop training one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn

from tunesmith.core import anatomy, surgery, targets
from tunesmith.core.errors import ModelError
from tunesmith.core.linear import features, in_type_of, weight_of, with_weight
from tunesmith.core.notes import note
from tunesmith.core.part import Method
from tunesmith.core.step import Training
from tunesmith.methods.freezing_score import Scores, keep_ratio, who_freezes
from tunesmith.methods.low_rank import check_rank

FEED_FORWARD = ("up", "down")


class Aflora(Method):
    """Train two vectors a linear around low-rank matrices, of which the feed-forward's train too until they freeze.

    Formula: y = W x + b + l_b * (B (l_d * (A dropout(x)))); merged: W + diag(l_b) B diag(l_d) A. A and B of attention's
    linears (query, key, value, output) stay at their random start. Those of the feed-forward train, and freeze for
    good: over every `interval` updates I is the mean of |g|, g their gradient; then Ibar = beta1 Ibar + (1 - beta1) I,
    Ubar = beta2 Ubar + (1 - beta2) |I - Ibar|, and an element's score is Ibar Ubar. A matrix freezes when its mean
    score is below the (1 - rho) quantile of all elements that still train, where rho(t) is 1 up to t0, 0 from t1 on
    and (1 - (t - t0) / (t1 - t0))^3 between them.
    Symbols: W [out, in] frozen; A [r, in], uniform in ±sqrt(6 / in); B [out, r], uniform in ±sqrt(6 / r); l_d [r],
    0.1 at the start; l_b [out], zero at the start. t counts updates; t0, t1 are `freeze_from` and `freeze_until` of
    all updates.
    Parameters: at the start the sum of r + out over the linears, and of r (in + out) over those of the feed-forward; at
    the end the sum of r + out; and the head's.
    Paper: Liu, Kundu, Li, Wan, Jiang, Beerel, "AFLoRA: Adaptive Freezing of Low Rank Adaptation in Parameter Efficient
    Fine-Tuning of Large Models", 2024. Initial values, score and schedule are those of its released code for GLUE,
    which freezes from epoch 1 of 20 to epoch 6. It takes square matrices for attention's; we go by role, the same in
    BERT and DeBERTa, not where one matrix makes query, key and value or heads share keys. It reads every micro-batch's
    gradient before clipping; we read the whole update's after it, which multiplies all matrices' by one factor.
    """

    # The most frequent in the released scripts: 1e-2 (CoLA, MRPC, RTE, MNLI); the head's is below.
    learning_rate = 1e-2
    delta = True
    keeps_backbone = True
    at_inference = "nothing once merged; before, two small products a layer"

    rank: int = Field(4, ge=1)
    """Inner size r of the two matrices."""
    targets: str = "all-linear"
    """`all-linear` (every linear of the blocks), `attention` (queries and values: nothing is left to freeze), or a
    pattern that must match a path whole or its last words (`value`, `output.dense`).
    """
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the input's features dropped before A, in training."""
    freeze_from: float = Field(0.05, ge=0, le=1)
    """Share of the whole training after which matrices begin to freeze."""
    freeze_until: float = Field(0.3, ge=0, le=1)
    """Share of the whole training after which all are frozen."""
    interval: int = Field(10, ge=1)
    """Updates from one choice of what freezes to the next; a training that is shorter freezes nothing."""
    beta1: float = Field(0.85, ge=0, lt=1)
    """How slowly the mean size of gradients moves."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """How slowly the mean distance from it moves."""
    head_rate_ratio: float = Field(0.4, gt=0)
    """How many times the learning rate the head's is (4e-3 in the scripts of SST-2, QNLI, QQP and MNLI)."""

    _training: Training | None = PrivateAttr(default=None)
    _scores: Scores | None = PrivateAttr(default=None)
    _frozen: list[str] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.freeze_from > self.freeze_until:
            raise ValueError(
                f"freeze_from {self.freeze_from:g} is after freeze_until {self.freeze_until:g}: freezing must begin "
                "before it ends"
            )
        return self

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Freeze the backbone and wrap the chosen linears. Targets that match nothing, linears that are of no known use
        and ranks larger than their layer raise ModelError.
        """
        places, roles = targets.choose(model, self.targets), anatomy.roles(model)
        if unknown := [path for path in places if path not in roles]:
            raise ModelError(
                f"aflora can't tell attention from feed-forward in {type(model).__name__}: {unknown[0]} is in a block "
                "without queries and values.",
                hint="Choose other places with method.targets, or another method.",
            )
        for path, place in places.items():
            check_rank(self.rank, path, place)
        surgery.freeze_backbone(model)
        for path, place in places.items():
            trains = roles[path] in FEED_FORWARD
            surgery.replace(model, path, AfloraLinear(place, self.rank, self.dropout, trains, generator))

    def setup(self, training: Training) -> None:
        """Begin the scores of every matrix that trains."""
        self._training, self._frozen = training, []
        self._scores = Scores(_matrices(training.model), self.beta1, self.beta2)

    def after_step(self, training: Training) -> None:
        """Take in this update's gradients; at the end of an interval, freeze."""
        assert self._scores is not None
        if not self._scores.names:
            return
        parameters = _matrices(training.model)
        self._scores.gather({name: parameters[name].grad for name in self._scores.names})
        if training.step % self.interval == 0:
            start, end = (share * training.total_steps for share in (self.freeze_from, self.freeze_until))
            chosen = who_freezes(self._scores.close(), keep_ratio(training.step, start, end))
            self._freeze(training, chosen)
            if not self._scores.names:
                note(f"All {len(self._frozen)} matrices are frozen after update {training.step}: vectors train on.")

    @property
    def still_training(self) -> list[str]:
        """Names of the matrices that are not frozen yet."""
        return [] if self._scores is None else self._scores.names

    def state(self) -> dict[str, Any]:
        """What is frozen, and the scores of what is not."""
        return {"frozen": list(self._frozen), **({} if self._scores is None else self._scores.state())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Freeze again what was frozen, and take back the scores."""
        assert self._training is not None and self._scores is not None
        self._freeze(self._training, state["frozen"])
        self._scores.restore(state)

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """The head's factor."""
        return {
            f"{path}.{name}": self.head_rate_ratio
            for path, head in anatomy.head(model).items()
            for name, _ in head.named_parameters()
        }

    def expected(self, model: nn.Module) -> int:
        """Sum of r + out, of r (in + out) over the matrices that train at the start, and the head."""
        return anatomy.head_parameters(model) + sum(
            self.rank + outputs + (self.rank * (inputs + outputs) if wrapper.trains else 0)
            for _, wrapper in _linears(model)
            for inputs, outputs in [features(wrapper.base)]
        )

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Matrices, which are random and so belong to the delta, and vectors, by their paths in the model."""
        return {
            f"{path}.{name}": getattr(wrapper, name)
            for path, wrapper in _linears(model)
            for name in ("aflora_A", "aflora_B", "aflora_d", "aflora_b")
        }

    def merge(self, model: nn.Module) -> None:
        """W + diag(l_b) B diag(l_d) A in place of every wrapper."""
        surgery.merge(model)

    def _freeze(self, training: Training, names: list[str]) -> None:
        assert self._scores is not None
        training.freeze(set(names))
        self._frozen += names
        for name in names:
            self._scores.drop(name)


class AfloraLinear(surgery.Wrapper):
    """A frozen linear with scaled low-rank matrices beside it: `base(x) + l_b * (B (l_d * (A dropout(x))))`.

    The matrices are parameters where they train at the start, else buffers: saved, as they are random, but not trained.
    """

    aflora_A: Tensor
    aflora_B: Tensor

    def __init__(self, base: nn.Module, rank: int, dropout: float, trains: bool, generator: torch.Generator) -> None:
        super().__init__(base)
        inputs, outputs = features(base)
        device = self.weight.device
        self.trains = trains
        for name, shape in (("aflora_A", (rank, inputs)), ("aflora_B", (outputs, rank))):
            bound = math.sqrt(6 / shape[1])
            matrix = torch.empty(shape).uniform_(-bound, bound, generator=generator).to(device)
            if trains:
                self.register_parameter(name, nn.Parameter(matrix))
            else:
                self.register_buffer(name, matrix)
        self.aflora_d = nn.Parameter(torch.full((rank,), 0.1, device=device))
        self.aflora_b = nn.Parameter(torch.zeros(outputs, device=device))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, in] -> [batch, time, out]."""
        y: Tensor = self.base(x)
        if not self.active:
            return y
        low = nn.functional.linear(self.dropout(in_type_of(self.aflora_A, x)), self.aflora_A)  # [batch, time, rank]
        back = nn.functional.linear(self.aflora_d * low, self.aflora_B)  # [batch, time, out]
        return y + (self.aflora_b * back).to(y.dtype)

    def merged(self) -> nn.Module:
        """The base with diag(l_b) B diag(l_d) A [out, in] added to its weight, in float32, then in the base's type."""
        weight = weight_of(self.base)
        inserted = (self.aflora_A, self.aflora_B, self.aflora_d, self.aflora_b)
        a, b, inner, outer = (tensor.detach().to(weight.dtype) for tensor in inserted)
        return with_weight(self.base, weight + outer[:, None] * (b @ (inner[:, None] * a)))


def _linears(model: nn.Module) -> list[tuple[str, AfloraLinear]]:
    return [(path, found) for path, found in surgery.wrappers(model).items() if isinstance(found, AfloraLinear)]


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    """The matrices that train or did, by the names of their parameters."""
    return {
        f"{path}.{name}": getattr(wrapper, name)
        for path, wrapper in _linears(model)
        if wrapper.trains
        for name in ("aflora_A", "aflora_B")
    }
