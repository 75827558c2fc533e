"""Every shortcut of the section `speed` at once, each inside the one that it stands on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from torch import nn

from tunesmith.core.dropout import fast_dropout
from tunesmith.core.notes import note
from tunesmith.core.part import Part
from tunesmith.core.step import Training
from tunesmith.core.unpadded import unpadded
from tunesmith.train.frozen import Report, frozen
from tunesmith.train.fused.blocks import fused
from tunesmith.train.memory import keep_memory, offloaded
from tunesmith.train.settings import TrainSettings
from tunesmith.train.speed import SpeedSettings
from tunesmith.train.touched import NONE_TRAIN, touched


@contextmanager
def answering(model: nn.Module, settings: SpeedSettings) -> Iterator[None]:
    """Inside the block the model answers rows as fast as the settings allow: for measuring and predicting."""
    with ExitStack() as stack:
        _blocks(model, settings, stack)
        yield


def beside(settings: SpeedSettings, model: nn.Module, unread: bool) -> AbstractContextManager[None]:
    """`answering` for a model that is asked beside the one that trains; unread: whether what nothing reads may be left
    out of it, where the settings leave it out.
    """
    return answering(model, settings.model_copy(update={"unread": settings.unread and unread}))


@contextmanager
def training(state: Training, parts: Sequence[Part], speed: SpeedSettings, train: TrainSettings) -> Iterator[Report]:
    """Inside the block the model trains as fast as the settings allow; what can't be had is said, with the reason.

    Yields what became of frozen blocks, which grows while the model trains.
    """
    model = state.model
    with ExitStack() as stack:
        reasons = []
        if speed.keep_memory and (why := stack.enter_context(keep_memory())):
            reasons.append(f"Memory goes back to the system after every step: {why}.")
        if speed.offload:
            stack.enter_context(offloaded(model, train.device))
        if speed.fast_dropout:
            stack.enter_context(fast_dropout(model))
        reasons += _blocks(model, speed, stack)
        # In one pass nothing is read again; a model that is translated as a whole has no place to stop at.
        again = (train.steps is not None or train.epochs > 1) and speed.compile is not True
        kept = stack.enter_context(frozen(model, speed.frozen_megabytes if again else 0, speed.frozen_dropout))
        if speed.touched_rows:
            why = stack.enter_context(touched(model, state.optimizer, parts, train.precision))
            if why not in ("", NONE_TRAIN):
                reasons.append(f"Word embeddings get whole gradients: {why}.")
        for reason in reasons:
            note(reason)
        yield kept


def _blocks(model: nn.Module, settings: SpeedSettings, stack: ExitStack) -> list[str]:
    """Enter what changes how blocks run; returns what can't be had, in sentences."""
    if not settings.unpadded or settings.compile is True:
        return []
    reason = stack.enter_context(unpadded(model, settings.unread, settings.fast_dropout))
    if reason:
        return [reason]
    if not settings.fused:
        return []
    report = stack.enter_context(fused(model))
    return [str(report)] if report.reasons else []
