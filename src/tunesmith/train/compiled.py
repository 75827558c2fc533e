"""torch.compile where it pays: on one batch the plain and the translated model are timed, and the faster one stays.

It translates models whose blocks run padded. Those that run on one row of real tokens, or as hand-written functions,
stay as they are: what it could join is joined there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any, Literal

import torch
from pydantic import PrivateAttr
from torch import nn

from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import note
from tunesmith.core.part import Schedule
from tunesmith.core.step import Step, Training

BACKEND = "inductor"
AT = 3
"""After how many updates it is decided: the first ones are slower than the rest."""
TIMED = 3
LIKELY = 0.3
"""The share of a step's time that a translation may well save."""
USUAL = 60.0
"""Seconds that a translation usually takes: nothing is tried where LIKELY of the time that is left is less."""


class Compiled(Schedule):
    """Translate the model by torch.compile: at once, or where a trial on a batch says that it pays.

    The trial runs a batch forward and backward, plain and translated, and learns nothing by it. What was decided is
    kept in checkpoints, so that a resumed run computes as the first did. A translation that fails is left out and said;
    where the recipe asks for one by name it raises RecipeError.
    """

    setting: bool | Literal["auto"] = "auto"

    _on: bool | None = PrivateAttr(default=None)
    _step: Step | None = PrivateAttr(default=None)
    _model: nn.Module | None = PrivateAttr(default=None)

    def setup(self, training: Training) -> None:
        """Keep the model, to translate it again in a resumed run."""
        self._model = training.model

    def loss(self, step: Step) -> None:
        """Keep the batch for the trial; no loss."""
        self._step = step if self._on is None else None

    def after_step(self, training: Training) -> None:
        """Decide, once. The gradients that a trial leaves are cleared by the loop."""
        if self._on is None and (self.setting is True or training.step == AT):
            assert self._step is not None
            with _undone(training.model):
                self._on = self._pays(self._step, training.total_steps - training.step)
            self._step = None
            switch(training.model, self._on)

    def state(self) -> dict[str, Any]:
        """What was decided."""
        return {"on": self._on}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what was decided."""
        self._on = state["on"]
        assert self._model is not None
        switch(self._model, bool(self._on))

    def _pays(self, step: Step, left: int) -> bool:
        plain = _seconds(step)
        if self.setting == "auto" and plain * left * LIKELY < USUAL:
            return False
        try:
            switch(step.model, True)
            began = time.perf_counter()
            _run(step)
            spent = time.perf_counter() - began
            translated = _seconds(step)
        except Exception as error:  # whatever a compiler that meets a model for the first time may raise
            if self.setting is True:
                raise RecipeError(
                    f"speed.compile: {type(step.model).__name__} can't be translated ({str(error).splitlines()[0]}).",
                    hint="Set speed.compile=false.",
                ) from error
            note(f"torch.compile can't translate this model ({type(error).__name__}); it runs as it is.")
            return False
        finally:
            switch(step.model, False)
        pays = self.setting is True or translated < plain
        note(
            f"torch.compile took {spent:.1f} s; a batch takes {translated * 1e3:.0f} ms with it and "
            f"{plain * 1e3:.0f} ms without: it is {'used' if pays else 'not used'}."
        )
        return pays


def switch(model: nn.Module, on: bool) -> None:
    """Let calls of the model go to its translation, made when it is first called, or to itself."""
    if on:
        model.compile(backend=BACKEND, dynamic=True)
    else:
        model._compiled_call_impl = None  # how `compile` is taken back: there is no public way


def _seconds(step: Step) -> float:
    return median(_timed(lambda: _run(step)) for _ in range(TIMED))


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _run(step: Step) -> None:
    """Forward and backward of a batch; on a GPU, until it is done."""
    again = Step(step.model, step.task, step.batch, step.targets, step.share, step.unread)
    step.task.loss(again).backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Inside the block batches may run: random numbers and the statistics of batch norms are put back."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng():
        yield
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
