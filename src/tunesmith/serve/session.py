"""A finished run, loaded: predict rows, predict files, merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from tunesmith.core import document
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, RunFolderError, raise_faults
from tunesmith.core.files import check_writable, read_json, reading, writing_folder
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe, resolve
from tunesmith.train import precision

MODEL, RECIPE, TASK, PROBE = "model", "recipe.yaml", "task.json", "probe.json"


@dataclass(frozen=True)
class Session:
    """A model that was trained, with its task: ready to answer."""

    folder: Path
    recipe: Recipe
    backbone: Backbone

    @property
    def predictor(self) -> Predictor:
        """What answers rows."""
        return Predictor(self.backbone.model, self.backbone.tokenizer, self.recipe.task, self.backbone.limit)

    def predict(self, rows: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer texts, or rows with the columns of the training file; one dictionary a row, in order.

        Raises DataError with all faults: a row without a needed column, a blank text.
        """
        if isinstance(rows, str | Mapping):
            raise DataError("One row alone was given.", hint="Give a list of texts or rows: predict([row]).")
        checked = self._checked(list(rows))
        if not checked:
            return []
        lines: list[dict[str, Any]] = []
        self.predictor.predict(Dataset.from_list(checked), each=lines.append)
        return [{key: value for key, value in line.items() if key not in checked[0]} for line in lines]

    def predict_file(self, path: Path, out: Path | None, each: Callable[[dict[str, Any]], object]) -> int:
        """Answer every row of a file: as JSON Lines in `out`, or one by one to `each`; returns the number of rows.

        A file that is there already is never written over: that raises RunFolderError.
        """
        if out is not None:
            check_writable(out)
            if out.exists():
                raise RunFolderError(f"{out} exists: it is not touched.", hint="Give another name with --out.")
        table = read(path, self.recipe.task.columns(), need_targets=False)
        self.predictor.predict(table.rows, out=out, each=each)
        return len(table.rows)

    def merge(self, out: Path) -> float:
        """Write a plain transformers model to `out`; returns its largest difference to the attached one.

        The outputs are compared before anything is written: a difference raises ArtifactError.
        """
        check_writable(out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunFolderError(f"{out} exists and is not an empty folder.", hint="Give another one with --out.")
        batches = self.probe()
        before = artifact.outputs(self.backbone.model, batches)
        artifact.merge(self.backbone.model, self.recipe.method.shipped())
        difference = artifact.prove(before, artifact.outputs(self.backbone.model, batches), "The merged model")
        with writing_folder(out) as temporary:
            self.backbone.model.save_pretrained(temporary)
            self.backbone.tokenizer.save_pretrained(temporary)
        return difference

    def probe(self) -> list[Any]:
        """The batches with which models are compared."""
        rows = read_json(self.folder / PROBE)
        return probe_batches(self.recipe, self.backbone, rows)

    def _checked(self, rows: list[str | Mapping[str, Any]]) -> list[Row]:
        columns = [column for column in self.recipe.task.columns() if not column.target]
        faults: list[str] = []
        checked = []
        for number, row in enumerate(rows):
            values = {columns[0].role: row} if isinstance(row, str) else row
            if not isinstance(values, Mapping):
                faults.append(f"row {number}: is neither a text nor a mapping of columns but {row!r}")
                continue
            found: Row = {}
            for column in columns:
                name = _key(column, values)
                if name is None:
                    has = ", ".join(map(str, values)) or "nothing"
                    faults.append(f"row {number}: has no '{column.name or column.role}' (it has {has})")
                    continue
                try:
                    found[column.role] = column.parse(values[name])
                except ValueError as error:
                    faults.append(f"row {number}, '{name}': {error}")
            checked.append(found)
        raise_faults(DataError, "The rows can't be predicted:", faults)
        return checked


def _key(column: Column, row: Mapping[str, Any]) -> str | None:
    """The key that plays the column's role in a row: the recipe's name, the role's own, or else a likely one."""
    wanted = [column.name or column.role, column.role, *(() if column.name else column.likely)]
    lower = {str(key).lower(): key for key in reversed(list(row))}
    return next((name for name in wanted if name in row), None) or next(
        (lower[name.lower()] for name in wanted if name.lower() in lower), None
    )


def probe_batches(recipe: Recipe, backbone: Backbone, rows: list[Row]) -> list[Any]:
    """One batch of the given rows, as the model sees them."""
    examples = recipe.task.encode(rows, backbone.tokenizer, backbone.limit)
    return [recipe.task.collate(examples, backbone.tokenizer)]


def read_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run folder, its task as it had learned. No run raises RunFolderError."""
    path = folder / RECIPE
    if not path.is_file():
        told = "does not exist" if not folder.exists() else "is not a run: it has no recipe.yaml"
        raise RunFolderError(f"The folder {folder} {told}.", hint="Give the folder that `tunesmith train` named.")
    recipe = resolve(document.read(path), str(path))
    state = read_json(folder / TASK)
    with reading(folder / TASK):
        recipe.task.restore(state)
    return recipe


def load(folder: str | Path, device: str = "auto") -> Session:
    """Load the finished run in `folder`. A run that is not finished raises RunFolderError with the command that
    goes on.
    """
    folder = Path(folder)
    recipe = read_recipe(folder)
    if not (folder / MODEL).is_dir():
        raise RunFolderError(
            f"The run {folder} is not finished: it has no model yet.", hint=f"Go on with: tunesmith resume {folder}"
        )
    backbone = artifact.load(folder / MODEL, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    backbone.model.to(precision.choose_device(device))  # type: ignore[arg-type]
    backbone.model.eval()
    return Session(folder, recipe, backbone)
