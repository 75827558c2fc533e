"""The contract: what every part of a run may do, and what the loop may ask of it.

A part is one class in one file: its settings are its fields, its acts are the hooks below. The file name is the
recipe's word, the class name the same in CamelCase (`methods/lora.py`: `Lora`); nothing else registers it.

What a part learns while it runs lives in private attributes; `state` and `restore` carry them through a resume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from tunesmith.core.column import Column, Row
from tunesmith.core.panel import Panel, Result, Tokens
from tunesmith.core.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from tunesmith.core.finished import Finished
    from tunesmith.core.step import Batch, Step, Training, Update
    from tunesmith.core.world import World

Reader = Any
"""A backbone's tokenizer (`PreTrainedTokenizerBase`), or its image processor (`BaseImageProcessor`)."""


class Part(BaseModel):
    """Anything that a recipe names: immutable settings, and hooks that do nothing unless a part overrides them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    by_hand: ClassVar[bool] = True
    """Whether what it does in training may touch weights or gradients otherwise than by `Training`'s methods."""
    defines: ClassVar[Mapping[str, str]] = {}
    """What the figures are that it measures, by their names, in which `*` stands for anything."""

    @classmethod
    def word(cls) -> str:
        """The recipe's word for this part: its class name in snake_case, which is its file name."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def looks_back(self) -> bool:
        """Whether it works on what earlier stages taught: a stage that is trained without them leaves it out."""
        return False

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Change the model once, before anything else; draw random numbers from `generator` alone."""

    def check(self, model: nn.Module, world: World) -> None:
        """Refuse, before anything is written, a model or a world in which it can't work."""

    def setup(self, training: Training) -> None:
        """Prepare before step 0: starting weights, rates, reference models."""

    def batches(self, stream: Iterator[Update]) -> Iterator[Update]:
        """Wrap the stream of updates."""
        return stream

    def loss(self, step: Step) -> Tensor | None:
        """A scalar to add to this micro-batch's loss, or None."""

    def after_step(self, training: Training) -> None:
        """Act after every optimizer step, while the gradients are still there."""

    def after_eval(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Act after every evaluation on the validation split."""

    def end(self, training: Training, evaluate: Callable[[], Mapping[str, float]]) -> Sequence[Panel]:
        """Act after the last update; `evaluate` measures on the validation split. What it gives the report shows."""
        return ()

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """Factors on the learning rate, by the names of parameters; 1 for those that are not named."""
        return {}

    def parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Trainable tensors that belong to the part and not to the model, by name."""
        return ()

    def state(self) -> dict[str, Any]:
        """What an exact resume needs: tensors, and values that JSON can hold."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


class Task(Part):
    """What one example is and what a good answer looks like.

    A task turns rows into encoded examples, these into a batch, outputs into a summed loss and into answers. Answers
    and truths are arrays with one row an example ([examples] or [examples, classes]): metrics take any resampling.
    """

    metric: ClassVar[str]
    """The metric that decides which model is better."""
    higher_is_better: ClassVar[bool] = True
    gives: ClassVar[frozenset[str]] = frozenset({"targets"})
    """The fields of its batches, which an objective may need."""
    auto_classes: ClassVar[tuple[str, ...]]
    """The transformers classes that load a backbone with this task's head: the first that knows it is taken."""
    reads: ClassVar[Literal["text", "images"]] = "text"
    """What turns rows into numbers: the backbone's tokenizer, or its image processor."""
    looks: ClassVar[bool] = False
    """Whether what a recipe leaves unsaid is found by a look at the training file, even where the task is named."""
    untrained: ClassVar[str] = "untrained head"
    """What the model is before training: the name of that baseline."""

    @property
    def couples(self) -> bool:
        """Whether the loss of an example depends on the others of its micro-batch."""
        return False

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """The settings with which this task would read a file with these columns and first rows; None: it can't."""
        return None

    def columns(self) -> list[Column]:
        """The columns that a row must have."""
        raise NotImplementedError

    def meet(self, model: nn.Module) -> None:
        """Learn of the loaded backbone what examples look like; one that does not fit: RecipeError, ModelError."""

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn from the training split what the head and the answers need: class names, a scale."""

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """As `learn`, of a model trained elsewhere: its configuration says what outputs mean. No fit: ModelError."""
        raise NotImplementedError

    def head(self) -> dict[str, Any]:
        """Entries of the model's configuration that shape the head."""
        return {}

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """The training split as it is trained on; what it drops or cuts it says. Nothing to learn: DataError."""
        return rows

    def encode(self, rows: Sequence[Row], tokenizer: Reader, limit: int) -> list[dict[str, Any]]:
        """Turn rows into examples of at most `limit` tokens; the key `cut` says whether a text was cut.
        Where an example trains, its key `seed` is set before `collate`: another one in every epoch, for what is drawn
        anew. Where it is only measured there is none. Where a user asks for the answers themselves, `asked` is True.
        """
        raise NotImplementedError

    def size(self, example: Mapping[str, Any]) -> int:
        """How many positions an example takes in the model, over all its parts."""
        return sum(len(part["input_ids"]) for part in example.get("parts", [example]))

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Tokens]:
        """What the model sees of an example, decoded token by token, with the positions that carry loss."""
        parts = [list(part["input_ids"]) for part in example.get("parts", [example])]
        return [Tokens("input", tokenizer.convert_ids_to_tokens(ids), [False] * len(ids)) for ids in parts]

    def ahead(self, model: nn.Module, examples: list[dict[str, Any]], tokenizer: Reader) -> list[dict[str, Any]]:
        """The examples of many batches before they are measured, with what is best computed for all of them at once."""
        return examples

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: Reader) -> Batch:
        """Pad examples into one batch."""
        raise NotImplementedError

    def targets(self, batch: Batch) -> float:
        """How many targets the batch holds: what its summed loss is divided by."""
        raise NotImplementedError

    def loss(self, step: Step) -> Tensor:
        """The loss summed over the targets of the micro-batch: a scalar."""
        raise NotImplementedError

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Answers to a batch [examples, …], objects where they are no numbers; and of each a line of predictions."""
        raise NotImplementedError

    def reread(self, lines: Sequence[Row]) -> np.ndarray | None:
        """The answers that lines of a predictions file tell, as far as metrics need them; None: they do not."""
        return None

    def scores(self, step: Step) -> Tensor | None:
        """Scores of classes before any softmax [batch, classes]; None where an answer is no single class."""
        return None

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """The right answers of rows, in the form of `decode`'s."""
        raise NotImplementedError

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Every metric of this task; NaN where one is undefined on these rows."""
        raise NotImplementedError

    def settle(self, truths: np.ndarray, answers: np.ndarray) -> None:
        """Choose what is chosen on the validation split once training is over: a threshold. `state` holds it then."""

    def constant(self) -> tuple[str, Any] | None:
        """The best answer that looks at no input, as training taught it, and its name; None where there is none."""
        return None

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Tables and charts that show where the answers are right and wrong."""
        return []

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Positions of wrong answers, the worst first."""
        return truths[:0].nonzero()[0]  # none

    def companions(self, model: nn.Module) -> dict[str, Any]:
        """Further JSON files of a saved model, by name: what other libraries need to load it for this task."""
        return {}


class Method(Part):
    """Which weights train, and which modules are put into the backbone."""

    learning_rate: ClassVar[float] = 5e-5
    """The peak rate where the recipe names none."""
    delta: ClassVar[bool] = False
    """True where the method ships only what it added or trained; False where it ships the whole model."""
    keeps_backbone: ClassVar[bool] = False
    """True where every weight of the backbone stays as it is, so that it may be quantised."""
    cannot_merge: ClassVar[str] = ""
    """Why what it inserts can't be folded into the backbone's weights; empty: it can."""
    cannot_stack: ClassVar[str] = ""
    """Why no other delta can stand on its own, nor it on another; empty: it can, if it keeps the backbone."""
    needs_cache: ClassVar[bool] = False
    """True where what it adds travels in the cache of keys and values, which activation checkpointing leaves out."""
    equal_at_start: ClassVar[bool] = True
    """Whether the modified model gives the backbone's outputs before it is trained."""
    at_inference: ClassVar[str] = "nothing"
    """What a prediction costs more than the backbone's own, while nothing is merged."""

    def positions(self) -> int:
        """How many positions of a sequence the method takes for itself: texts may be shorter by as many tokens."""
        return 0

    def expected(self, model: nn.Module) -> int:
        """How many parameters train in the modified `model`, by the method's formula."""
        raise NotImplementedError

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """What a delta holds, by the names of its file; the head's tensors are added elsewhere.
        In a model that `shipped()` modified these are the model's own tensors, into which a file is read.
        """
        raise NotImplementedError

    def shipped(self) -> Method:
        """The method as whose delta this one's is saved; another one where training needs more than what ships."""
        return self

    def peft_config(self, model: nn.Module) -> dict[str, Any] | None:
        """The entries of peft's `adapter_config.json` that belong to this method; None where peft has no such type."""
        return None

    def merge(self, model: nn.Module) -> None:
        """Fold everything that was inserted into the backbone's own weights, in float32. Nothing where none was."""


class Objective(Part):
    """Which scalar a step minimises."""

    by_hand: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    """The fields of a batch that its loss reads; a task that does not give them is refused."""

    def meet(self, tasks: Mapping[str, int]) -> None:
        """Learn which tasks train together, with their training rows, in the order of `Batch.of`; before `modify`."""

    def shares(self, rows: Sequence[int], progress: float) -> Sequence[float]:
        """The part of an epoch's updates that each of several tasks gets, which add up to 1. rows: their training rows.
        progress: 0 in the first epoch, 1 in the last.
        """
        return [one / sum(rows) for one in rows]


class Schedule(Part):
    """What changes with progress. It asks for gradients by `Training.gradient`, for weights after `settle`."""

    by_hand: ClassVar[bool] = False
    sets: ClassVar[str] = ""
    """What it sets ("the learning rate"): two schedules that set the same thing are refused."""


class Suite(Part):
    """One measurement of a finished model."""

    asks: ClassVar[str] = ""
    """The question that it answers."""

    def measure(self, finished: Finished) -> Result:
        """Measure, and return figures with intervals and panels."""
        raise NotImplementedError
