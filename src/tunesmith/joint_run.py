"""Prepare, train, save and measure several tasks together: the chain of `run`, with a folder a task."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from tunesmith import account, examples, prepare, trained
from tunesmith import run as runs
from tunesmith.account import METRICS
from tunesmith.core import document
from tunesmith.core.files import read_json, remove_leftovers, write_json, write_text, writing_folder
from tunesmith.core.notes import listening, note, silent
from tunesmith.core.panel import Cell, Figure, Result, Table
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import each
from tunesmith.core.seeding import seed_everything
from tunesmith.core.step import Training
from tunesmith.data.load import Splits
from tunesmith.data.load import load as load_data
from tunesmith.evaluate.predict import Predictor
from tunesmith.interrupt import Interrupt
from tunesmith.joint import KEY, Joint, read
from tunesmith.measure import EVALUATION
from tunesmith.models import joint as models
from tunesmith.models.load import Backbone
from tunesmith.prepare import Prepared
from tunesmith.report import page
from tunesmith.run import Run
from tunesmith.serve.folder import MODEL, RECIPE, TASK, check_data, read_recipe
from tunesmith.train import faster, loop, precision
from tunesmith.train.log import Log, Watcher, lines
from tunesmith.train.several import SeveralBatches
from tunesmith.train.speed import SpeedSettings
from tunesmith.train.tracking import Tracking, tracked
from tunesmith.trained import CHECKPOINTS, DATA


class Mean(Task):
    """What a part that asks for the task's metric gets: the mean over all tasks."""

    metric: ClassVar[str] = "score"
    auto_classes: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Together:
    """A training of several tasks. each: by a task's name what a run of it alone would have; the one whose `several`
    is set trains for all.
    """

    joint: Joint
    each: Mapping[str, Prepared]
    splits: Mapping[str, Splits]

    @property
    def main(self) -> Prepared:
        """What trains: its model holds every head, its batches are those of all tasks."""
        return next(one for one in self.each.values() if one.several is not None)


def there(folder: Path) -> bool:
    """Whether a folder is a run of several tasks."""
    return (folder / RECIPE).is_file() and KEY in document.read(folder / RECIPE).values


def start(joint: Joint, out: str | Path | None = None, watch: Watcher | None = None) -> Run:
    """Run it in a new folder. Bad data, a bad model, a folder that is taken: raised before anything is written."""
    folder = runs.new_folder(joint.first, out)
    with listening() as notes:
        joint = joint.settled()
        splits = {name: load_data(one.data, one.task.columns()) for name, one in joint.tasks.items()}
        for name, one in joint.tasks.items():
            prepare.check_fit(one, splits[name])
            prepare.learn(one, splits[name])
        made = prepared(joint, splits, folder)
        with writing_folder(folder) as temporary:
            for name, alone in made.each.items():
                (temporary / name).mkdir()
                trained.lay_out(temporary / name, alone, splits[name])
            write_text(temporary / RECIPE, made.joint.placed().text())
        with runs.locked(folder):
            return _go_on(folder, made, watch, notes)


def resume(folder: Path, watch: Watcher | None = None) -> Run:
    """Go on where it stopped, exactly. Data that changed since raises RunFolderError."""
    known = read(document.read(folder / RECIPE), str(folder / RECIPE))
    with listening() as notes, runs.locked(folder):
        remove_leftovers(folder)
        if (folder / EVALUATION).is_file():
            note(f"The run {folder} is finished; its report is written anew.")
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            page.write(folder)
            return Run(folder, True)
        splits = {}
        for name, one in known.tasks.items():
            remove_leftovers(folder / name)
            one.task.restore(read_recipe(folder / name).task.state())
            splits[name] = load_data(one.data, one.task.columns())
            check_data(folder / name, splits[name])
        return _go_on(folder, prepared(known, splits, folder), watch, notes)


def prepared(joint: Joint, splits: Mapping[str, Splits], folder: Path | None = None) -> Together:
    """Load a backbone with every task's head, join them over one body, and build what trains them."""
    backbones: dict[str, Backbone] = {}
    for name, one in joint.tasks.items():
        # What there is to say of the backbone is said once.
        with silent() if backbones else nullcontext():
            backbones[name] = prepare.load_backbone(one)
    main = models.first_of({name: one.model for name, one in backbones.items()})
    names = [main, *(name for name in joint.tasks if name != main)]
    models.join(backbones[main].model, {name: backbones[name].model for name in names[1:]})
    objective = joint.first.objective
    objective.meet({name: len(splits[name].train) for name in names})
    accelerator, world = prepare.modified(joint.tasks[main], backbones[main], (), folder, splits[main].judged)
    fed = {name: prepare.fed(joint.tasks[name], splits[name], backbones[name]) for name in names}
    recipes = {name: found for name, (found, _) in fed.items()}
    batches = {name: found for name, (_, found) in fed.items()}
    recipe = recipes[main]
    sizes = [len(one.rows) for one in batches.values()]
    several = SeveralBatches(
        list(batches.values()),
        names,
        partial(objective.shares, sizes),
        recipe.train.epochs,
        recipe.data.ordered_by(recipe.train.seed),
    )
    training = prepare.built(recipe, backbones[main], several, world)
    training.task = Mean()
    # The first is cast when the loop prepares it.
    cast = [backbones[main].model, *(world.cast(backbones[name].model) for name in names[1:])]
    training.sides = [(model, recipes[name].task) for model, name in zip(cast, names, strict=True)]
    seed_everything(recipe.train.seed)
    each = {
        name: Prepared(
            recipes[name], backbones[name], _as_one(training, backbones[name].model), batches[name], accelerator,
            several if name == main else None,
        )
        for name in joint.tasks
    }  # fmt: skip
    each[main] = replace(each[main], training=training)
    return Together(Joint({name: recipes[name] for name in joint.tasks}), each, splits)


def _as_one(training: Training, model: nn.Module) -> Training:
    """The training as that of one of its models: which of its parameters train."""
    trained = {id(p) for name, p in training.model.named_parameters() if name in training.trained}
    return replace(
        training, model=model, trained=frozenset(name for name, p in model.named_parameters() if id(p) in trained)
    )


def _go_on(folder: Path, made: Together, watch: Watcher | None, notes: list[str]) -> Run:
    with tracked(made.joint.first.trackers, folder, made.joint.values(), watch) as told:
        return _to_the_end(folder, made, told, notes)


def _to_the_end(folder: Path, made: Together, told: Tracking, notes: list[str]) -> Run:
    log = Log(folder / METRICS, told)
    if not all((folder / name / MODEL).is_dir() for name in made.each) and not _train(folder, made, log):
        return Run(folder, False)
    account.judge(folder)
    for text in notes:
        log.write("note", text=text)
    found: dict[str, Any] = {}
    for name, one in made.each.items():
        place, splits = folder / name, made.splits[name]
        write_text(place / METRICS, _record(folder, name))
        panels = [*splits.panels, *account.mixed(place, one), *examples.sample(one).panels()]
        write_json(place / DATA, Result([], panels).as_json())
        with models.alone(one.backbone.model):
            own = replace(one, training=_as_one(made.main.training, one.backbone.model))
            loaded = trained.save(place, own)
            runs.evaluate(place, own, loaded, splits)
        runs.show(place)
        found[name] = read_json(place / EVALUATION)
    write_json(folder / EVALUATION, evaluation(made.joint.title, found, account.cost(folder, made.main)))
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    told.finish({"": read_json(folder / EVALUATION), **found}, page.write(folder))
    return Run(folder, True)


def _train(folder: Path, made: Together, log: Log) -> bool:
    main = made.main
    predictors = {name: _predictor(one) for name, one in made.each.items()}
    with Interrupt() as interrupt:
        outside = loop.Outside(folder / CHECKPOINTS, log, lambda: _validate(predictors, made.splits), interrupt.asked)
        ended = replace(main, recipe=replace(main.recipe, speed=_speed(main))).train(outside)
    log.write("memory", step=main.training.step, peak_bytes=peak_memory())
    for name, one in made.each.items():
        if ended and one.batches.mix is not None:
            log.write("files", step=main.training.step, task=name, seen=list(one.batches.seen))
    for name, predictor in predictors.items():
        precision.uncast(predictor.model)
        rows, task = made.splits[name].validation, predictor.task
        if ended and rows is not None and type(task).settle is not Task.settle:
            with faster.answering(predictor.model, main.recipe.speed):
                answers = predictor.predict(rows).answers
            task.settle(task.truths(each(rows)), answers)
            write_json(folder / name / TASK, task.state())
    return ended


def _predictor(one: Prepared) -> Predictor:
    backbone, recipe = one.backbone, one.recipe
    return Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)


def _speed(main: Prepared) -> SpeedSettings:
    """The section `speed` as it can be had: what one head does not read, another may."""
    speed, classes = main.recipe.speed, {type(model) for model, _ in main.training.sides}
    if len(classes) == 1 or not speed.unread:
        return speed
    note("speed.unread is off: heads of several kinds read other tokens of the last block.")
    return speed.model_copy(update={"unread": False})


def _validate(predictors: Mapping[str, Predictor], splits: Mapping[str, Splits]) -> dict[str, float]:
    """Every task's metrics on its validation split, under its name; the mean of the tasks' losses, and of their main
    metrics, with the sign turned where less is better.
    """
    found: dict[str, float] = {}
    losses, scores = [], []
    for name, predictor in predictors.items():
        values = trained.validate(predictor, splits[name].validation)
        found |= {f"{name} {key}": value for key, value in values.items()}
        if values:
            losses.append(values["loss"])
            scores.append(values[predictor.task.metric] * (1 if predictor.task.higher_is_better else -1))
    if not scores:
        return {}
    return {"loss": sum(losses) / len(losses), Mean.metric: sum(scores) / len(scores), **found}


def _record(folder: Path, name: str) -> str:
    """The record of the training as that of one task: of evaluations its own metrics."""
    kept = []
    for line in lines(folder / METRICS):
        if line.get("task", name) != name:
            continue
        if line["event"] == "evaluation":
            own = {key.removeprefix(f"{name} "): value for key, value in line["metrics"].items()
                   if key.startswith(f"{name} ")}  # fmt: skip
            line = {**line, "metrics": own}
        kept.append(json.dumps(line, ensure_ascii=False))
    return "".join(f"{line}\n" for line in kept)


def evaluation(title: str, found: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluation.json` says of all tasks: each one's main metric beside its baselines, and their means.

    found: the tasks' own, by name.
    """
    rows: list[list[Cell]] = []
    means: dict[str, list[float]] = {}
    for name, one in found.items():
        sign = 1 if one["higher_is_better"] else -1
        for figure in one["suites"].get("task", {}).get("figures", []):
            if figure["name"] == one["metric"]:
                rows.append([name, figure["name"], figure["split"], figure["subject"], figure["value"], figure["low"],
                             figure["high"]])  # fmt: skip
                if figure["subject"] == "model":
                    means.setdefault(figure["split"], []).append(sign * figure["value"])
    figures = [
        Figure(Mean.metric, sum(values) / len(values), split)
        for split, values in means.items()
        if len(values) == len(found)
    ]
    columns = ["task", "metric", "split", "subject", "value", "from", "to"]
    told = "The score is the mean of the tasks' main metrics, with the sign turned where less is better."
    table = Table("Every task", columns, rows, told)
    return {
        "title": title,
        "metric": Mean.metric,
        "higher_is_better": True,
        "suites": {"task": Result(figures, [table]).as_json()},
        "cost": dict(cost),
        "artifact": {},
    }
