"""EWC: elastic weight consolidation, which pulls most on the weights that mattered most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field, PrivateAttr
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.errors import RecipeError
from tunesmith.core.files import writing
from tunesmith.core.notes import note
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.core.world import Old, World
from tunesmith.regularizers.ewc_fisher import fisher, tables
from tunesmith.regularizers.ewc_pull import penalty

FILE = "fisher.safetensors"


class Ewc(Part):
    """Penalise the distance of each weight from its start by how much it mattered to what the model could do.

    Formula: strength / 2 * sum over weights of F_i (w_i - w0_i)^2; F_i = mean over examples x of (d log p(y|x) / d
    w_i)^2 with y drawn from the model's p(y|x).
    Symbols: w the backbone's trained weights, w0 the same before step 0; F, of w's shape, the sum over earlier stages,
    each with its own head, from at most `examples` of its training rows, one by one. Shapes: a scalar, counted once an
    update.
    Paper: Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", 2017. There every earlier task
    has its own F and w0; here all F are taken at w0, the start of this stage, as its rows are still there. F is kept in
    the run's folder.
    """

    by_hand: ClassVar[bool] = False

    strength: float = Field(1000.0, ge=0)
    """Weight of the penalty. The size of F depends on the task: try powers of ten."""
    examples: int = Field(200, ge=1)
    """Examples of each earlier stage, or of the file, from which F is taken."""
    data: str | None = None
    """A file of rows like the training file's, in the place of earlier stages: general text for a language model."""

    _held: list[_Held] | None = PrivateAttr(default=None)

    @property
    def looks_back(self) -> bool:
        """Where no file is named."""
        return self.data is None

    def check(self, model: nn.Module, world: World) -> None:
        """Nothing that was learned before, and a file whose answers a new head would give, raise RecipeError."""
        if self.strength and self.data is None and not world.earlier:
            raise RecipeError(
                "ewc: no stage comes before this one, and no file is named: nothing tells which weights matter.",
                hint="Name a file with `data` (general text, for a language model), or use it in a later stage.",
            )
        if self.strength and self.data is not None and anatomy.head(model):
            raise RecipeError(
                f"ewc.data: the head of this task is new: what it says of {self.data} tells nothing of what matters.",
                hint="Use it in a later stage, or with a task whose scores were trained before, such as generate.",
            )

    def setup(self, training: Training) -> None:
        """Take F, or read it where it was taken before."""
        world = training.world
        if not self.strength:
            return
        assert world is not None
        named = {name: training.model.get_parameter(name) for name in training.start.weights}
        path = None if world.folder is None else world.folder / FILE
        if path is not None and path.is_file():
            information = {name: tensor.to(named[name].device) for name, tensor in load_file(path).items()}
        else:
            information = self._taken(training, world, named)
            if path is not None and named:
                with writing(path) as temporary:
                    save_file({name: tensor.cpu().contiguous() for name, tensor in information.items()}, temporary)
        looked = {id(module.weight): module for module in tables(training.model)}
        self._held = [
            _held(weight, training.start.weights[name], information[name], looked.get(id(weight)))
            for name, weight in named.items()
        ]

    def loss(self, step: Step) -> Tensor | None:
        """The penalty, in this micro-batch's share."""
        if self._held is None:
            return None
        known = [(one.now(), one.start, one.information) for one in self._held]
        device = next(step.model.parameters()).device
        return penalty(known, step.share * self.strength).to(device)

    def _taken(self, training: Training, world: World, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """F of the named weights, over all that came before."""
        draw = training.generator_of(self)
        total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in named.items()}
        for old in world.old(self.data) if named else []:
            model = training.model if old.shell is None else old.shell(anatomy.backbone(training.model))
            with world.answering(model, True):
                found = fisher(model, list(named.values()), self._steps(old, model, world.limit, draw), draw)
            for name, information in zip(named, found, strict=True):
                total[name] += information
            note(f"ewc: what matters to {old.name} is taken from {min(self.examples, len(old.rows)):,} of its rows.")
        return total

    def _steps(self, old: Old, model: nn.Module, limit: int, draw: torch.Generator) -> Iterator[Step]:
        """Steps of one example each, in float32."""
        device = next(model.parameters()).device
        numbers = torch.randperm(len(old.rows), generator=draw)[: self.examples].tolist()
        for number in numbers:
            batch = old.collate(old.encode([number], limit), [number])
            yield Step(model, old.task, batch.to(device), unread=False)


@dataclass(frozen=True)
class _Held:
    """A weight, its start and its F; of a table, from which rows are looked up, the `rows` that matter alone."""

    weight: Tensor
    start: Tensor
    information: Tensor
    table: nn.Embedding | None = None
    rows: Tensor | None = None

    def now(self) -> Tensor:
        """What is held, with gradients: rows by a look-up, as everybody reads them."""
        if self.table is None:
            return self.weight
        found: Tensor = self.table.forward(self.rows)  # type: ignore[arg-type]
        return found


def _held(weight: Tensor, start: Tensor, information: Tensor, table: nn.Embedding | None) -> _Held:
    start = start.to(weight.device)
    if table is None:
        return _Held(weight, start, information)
    rows = information.any(dim=1).nonzero()[:, 0]
    return _Held(weight, start[rows], information[rows], table, rows)
