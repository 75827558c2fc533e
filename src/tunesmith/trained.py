"""From a prepared training to a model that is saved and proven, in a folder that explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tunesmith import account
from tunesmith.core.column import Row
from tunesmith.core.files import read_json, write_json, write_text, writing_folder
from tunesmith.core.mapped import Mapped
from tunesmith.core.panel import Result
from tunesmith.core.part import Task
from tunesmith.core.peak import peak_memory
from tunesmith.core.rows import each, take
from tunesmith.data import sources
from tunesmith.data.load import Splits
from tunesmith.evaluate.predict import Predictor
from tunesmith.interrupt import Interrupt
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.prepare import Prepared
from tunesmith.recipe import Recipe
from tunesmith.serve import session
from tunesmith.serve.folder import ENVIRONMENT, TOKENIZER
from tunesmith.serve.session import MODEL, PROBE, RECIPE, TASK
from tunesmith.train import faster, loop
from tunesmith.train.log import Log

CHECKPOINTS, DATA, PROOF = "checkpoints", "data.json", "proof.json"
PROBED = 16


def lay_out(folder: Path, prepared: Prepared, splits: Splits) -> None:
    """Write what a run's folder holds before the first update."""
    recipe = replace(prepared.recipe, data=sources.absolute(prepared.recipe.data))
    write_json(folder / TASK, recipe.task.state())
    write_json(folder / DATA, Result([], splits.panels).as_json())
    write_json(folder / ENVIRONMENT, account.environment(recipe, splits))
    write_json(folder / PROBE, _probe(recipe, splits))
    if recipe.model.tokenizer is not None:
        write_text(folder / TOKENIZER, recipe.model.tokenizer)
    write_text(folder / RECIPE, recipe.text())


def train(folder: Path, prepared: Prepared, splits: Splits, log: Log) -> bool:
    backbone, recipe = prepared.backbone, prepared.recipe
    predictor = Predictor(backbone.model, backbone.tokenizer, recipe.task, backbone.limit, recipe.train.precision)
    with Interrupt() as interrupt:
        outside = loop.Outside(
            folder / CHECKPOINTS, log, lambda: validate(predictor, splits.validation), interrupt.asked
        )
        ended = prepared.train(outside)
    log.write("memory", step=prepared.training.step, peak_bytes=peak_memory())
    if ended and splits.validation is not None and type(recipe.task).settle is not Task.settle:
        with faster.answering(backbone.model, recipe.speed):
            found = predictor.predict(splits.validation)
        recipe.task.settle(recipe.task.truths(each(splits.validation)), found.answers)
        write_json(folder / TASK, recipe.task.state())
    return ended


def validate(predictor: Predictor, rows: Mapped | None) -> Mapping[str, float]:
    """Loss and metrics on the validation split; nothing where there is none."""
    if rows is None:
        return {}
    task, found = predictor.task, predictor.predict(rows)
    return {"loss": found.loss, **task.metrics(task.truths(each(rows)), found.answers)}


def save(folder: Path, prepared: Prepared) -> Backbone:
    """Write model/, load it again and compare, before it takes its place; return what was loaded.

    A model that is there already (of a run that was killed later) was proven, and is only loaded.
    """
    recipe, backbone = prepared.recipe, prepared.backbone
    if not (folder / MODEL).is_dir():
        rows = read_json(folder / PROBE)
        trained = artifact.outputs(backbone.model, session.probe_batches(recipe, backbone, rows))
        artifact.check_finite(trained)
        with writing_folder(folder / MODEL) as temporary:
            artifact.write(backbone, recipe.method, recipe.task, temporary)
            saved = load(temporary, recipe)
            again = artifact.outputs(saved.model, session.probe_batches(recipe, saved, rows))
            difference = artifact.prove(trained, again, "The saved model")
            proof = {"folder": MODEL, "compared_rows": len(rows), "largest_difference": difference}
            write_json(folder / PROOF, proof)
    loaded = load(folder / MODEL, recipe)
    loaded.model.to(prepared.accelerator.device)
    return loaded


def load(folder: Path, recipe: Recipe) -> Backbone:
    return artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)


def _probe(recipe: Recipe, splits: Splits) -> list[Row]:
    """Rows on which the trained, the saved and the merged model are compared: inputs alone."""
    rows = splits.validation or splits.test or splits.train
    roles = [column.role for column in recipe.task.columns() if not column.target]
    return [{role: row[role] for role in roles if role in row} for row in take(rows, slice(0, PROBED))]
