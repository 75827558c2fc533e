"""The one training loop: every task, method, objective, regularizer and schedule goes through this page."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from tunesmith.core import surgery
from tunesmith.core.errors import DivergedError
from tunesmith.core.notes import note
from tunesmith.core.panel import Result
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training, Update
from tunesmith.train import checkpoint, clip, precision
from tunesmith.train.batches import Batches
from tunesmith.train.flow import Flow
from tunesmith.train.log import Log
from tunesmith.train.settings import TrainSettings
from tunesmith.train.several import SeveralBatches

CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class Outside:
    """What the loop asks of the world around it.

    evaluate: metrics of the model on the validation split. interrupted: whether the user asked to stop.
    checkpoints: their folder. ready: called once, when every part is set up and no weight will be put back any more.
    unread: whether scores that no loss reads are left out.
    """

    checkpoints: Path
    log: Log
    evaluate: Callable[[], Mapping[str, float]]
    interrupted: Callable[[], bool]
    ready: Callable[[], object] = lambda: None
    unread: bool = True


def train(  # noqa: C901 - one page on purpose
    training: Training,
    parts: Sequence[Part],
    batches: Batches | SeveralBatches,
    settings: TrainSettings,
    accelerator: Accelerator,
    outside: Outside,
) -> bool:
    """Train `training.model` to its end; returns False when the user interrupted it, after a checkpoint.

    Goes on from the last whole checkpoint where there is one. Raises DivergedError when a loss or a gradient is not
    finite, before the weights are touched.
    """
    model, task, optimizer, log = training.model, training.task, training.optimizer, outside.log
    evaluate_every = settings.evaluate_every or batches.updates_an_epoch
    best = ""

    # 1. Parts set up on the modified model, then take back their state.
    for part in parts:
        part.setup(training)
    start = checkpoint.last_whole(outside.checkpoints)
    if start is not None:
        state = checkpoint.load(start, training, parts)
        best, batches.cut, training.stop = state["best"], state["cut"], state["stop"]
        batches.seen = state.get("seen", ())
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        log.forget_after(training.step)
        log.write("resume", step=training.step, total_steps=training.total_steps)
    else:
        log.forget_after(-1)
        trains = sum(p.numel() for name, p in model.named_parameters() if name in training.trained)
        log.write("start", step=0, total_steps=training.total_steps, trained_parameters=trains)
    outside.ready()
    # Preparing moves the model to the device and lets its forward pass run in the chosen precision.
    prepared, stepper = accelerator.prepare(model, optimizer)
    flow = Flow(model)

    def save() -> None:
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        extra = {"best": best, "cut": batches.cut, "seen": batches.seen, "stop": training.stop, "scaler": scaler}
        checkpoint.save(outside.checkpoints, training, parts, extra)

    # 2. The stream of updates, wrapped by the parts.
    stream = batches.stream(training.step)
    for part in parts:
        stream = part.batches(stream)
    log.restart()
    saved_at = time.perf_counter()
    surgery.train(model, training.trained)
    # What was tried out before leaves no gradient behind.
    stepper.zero_grad()
    while training.step < training.total_steps and not training.stop:
        update = next(stream)

        # 3. Forward, and the losses of every part, each by name, in the update's own normalisation.
        sides = [training.sides[batch.of] if training.sides else (prepared, task) for batch in update.batches]
        counts = [one.targets(batch) for (_, one), batch in zip(sides, update.batches, strict=True)]
        targets = max(sum(counts), 1e-12)
        found: list[tuple[str, Tensor]] = []
        for side, batch, count in zip(sides, update.batches, counts, strict=True):
            step = Step(side[0], side[1], batch.to(accelerator.device), targets, count / targets, outside.unread)
            terms = {part.word(): term for part in parts if (term := part.loss(step)) is not None}
            total = torch.stack([term.float() for term in terms.values()]).sum()
            found += [(name, term.detach().float()) for name, term in terms.items()]
            # 4. Backward; gradients add up over the micro-batches.
            accelerator.backward(total)
        scaled, number = accelerator.scaler is not None, training.step + 1
        told = any(number % every == 0 for every in (settings.log_every, evaluate_every, training.total_steps))
        size = accelerator.clip_grad_norm_(_gradients(training), settings.clip) if scaled else None
        sizes = clip.norms(optimizer) if not scaled or told else {}
        losses, norm = _read(found, clip.total(sizes) if size is None else size)
        reached = {"gradients": flow.of(sizes, clip.undone(norm, settings.clip) if scaled else 1.0)} if told else {}
        if not math.isfinite(sum(losses.values())):
            raise _diverged("loss", training, update, batches, losses)
        if scaled:
            stepper.step()
        elif math.isfinite(norm):
            clip.step(optimizer, norm, settings.clip)
        else:
            raise _diverged("gradient", training, update, batches, losses)
        training.step += 1
        # In float16 a step whose gradients overflow is left out: nothing may act on it.
        if not accelerator.optimizer_step_was_skipped:
            for part in parts:
                part.after_step(training)
        stepper.zero_grad()
        log.update(losses, sum(len(batch.rows) for batch in update.batches))

        # 5. Log, evaluate, save. What is saved or measured is logged up to here, so that a resume leaves nothing out.
        last = training.step == training.total_steps
        evaluating = saving = training.step % evaluate_every == 0 or last
        if settings.checkpoint_every is not None:
            saving = training.step % settings.checkpoint_every == 0 or last
        elif time.perf_counter() - saved_at > CHECKPOINT_SECONDS:
            saving = True
        interrupted = outside.interrupted()
        if evaluating or saving or interrupted or training.step % settings.log_every == 0:
            rate = optimizer.param_groups[0]["lr"]
            trained = sum(parameter.numel() for parameter in _gradients(training))
            where = {"learning_rate": rate, "gradient_norm": norm, "trained": trained, **reached}
            log.step(step=training.step, epoch=update.epoch, **where)
        if training.step == min(batches.updates_an_epoch, training.total_steps) and batches.cut:
            seen = min(training.step * batches.size, len(batches.rows))
            note(f"{batches.cut:,} of {seen:,} training examples are longer than the limit and were cut.")
        if evaluating:
            with log.paused("evaluations"):
                metrics = outside.evaluate()
            surgery.train(model, training.trained)
            if metrics:
                log.write(
                    "evaluation", step=training.step, epoch=update.epoch, split="validation", metrics=dict(metrics)
                )
                for part in parts:
                    part.after_eval(training, metrics)
            if training.keep:
                best, training.keep = checkpoint.save_best(outside.checkpoints, training), False
        if saving or interrupted or training.stop:
            with log.paused("checkpoints"):
                save()
            saved_at = time.perf_counter()
        if interrupted and not last and not training.stop:
            return False

    # 6. The best weights, if a part kept some, and what parts make of them.
    if best:
        checkpoint.restore_best(outside.checkpoints, best, training)
        note("The weights of the best evaluation are restored.")
    for part in parts:
        with log.paused("parts"):
            shown = Result([], list(part.end(training, outside.evaluate)))
        if shown.panels:
            log.write("found", step=training.step, part=part.word(), **shown.as_json())
    if training.stop:
        note(f"Stopped after {training.step} of {training.total_steps} updates: {training.stop}.")
    precision.uncast(prepared)
    log.write("end", step=training.step, stop=training.stop, aside=dict(log.aside))
    return True


def _read(found: Sequence[tuple[str, Tensor]], size: Tensor) -> tuple[dict[str, float], float]:
    """The sums of the losses by name, and the gradient's size: one wait for the device."""
    *values, norm = torch.stack([*(term for _, term in found), size.to(found[0][1])]).tolist()
    losses: dict[str, float] = defaultdict(float)
    for (name, _), value in zip(found, values, strict=True):
        losses[name] += value
    return losses, norm


def _gradients(training: Training) -> list[torch.nn.Parameter]:
    return [parameter for group in training.optimizer.param_groups for parameter in group["params"]]


def _diverged(
    what: str, training: Training, update: Update, batches: Batches | SeveralBatches, losses: Mapping[str, float]
) -> DivergedError:
    named = ", ".join(f"{name} {value}" for name, value in losses.items())
    rate = training.optimizer.param_groups[0]["lr"]
    bad = [name for name, parameter in training.model.named_parameters() if not parameter.isfinite().all()]
    if training.step == 0:
        cause = "the untrained model already gives it: its weights or these rows hold extreme values"
    elif bad:
        cause = f"weights are no longer numbers ({bad[0]} for one): the learning rate {rate:g} is too high"
    else:
        cause = f"the learning rate {rate:g} is too high, or these rows hold extreme values"
    where = batches.where(update)
    return DivergedError(
        f"The {what} is not a finite number at step {training.step + 1} (loss: {named}). The batch's rows: {where}. "
        f"Likely: {cause}.",
        hint="Start a new run with a lower train.learning_rate (a tenth is a good next try), or with train.precision "
        "float32.",
    )
