"""A finished run, loaded: predict rows, predict files, merge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, RunFolderError, raise_faults
from tunesmith.core.files import read_json, writing_folder
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.models import artifact
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe, from_values
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
        checked = self._checked(list(rows))
        if not checked:
            return []
        lines: list[dict[str, Any]] = []
        self.predictor.predict(Dataset.from_list(checked), each=lines.append)
        return [{key: value for key, value in line.items() if key not in checked[0]} for line in lines]

    def predict_file(self, path: Path, out: Path | None, each: Callable[[dict[str, Any]], object]) -> int:
        """Answer every row of a file: as JSON Lines in `out`, or one by one to `each`; returns the number of rows."""
        table = read(path, self.recipe.task.columns(), need_targets=False)
        self.predictor.predict(table.rows, out=out, each=each)
        return len(table.rows)

    def merge(self, out: Path) -> float:
        """Write a plain transformers model to `out`; returns its largest difference to the attached one.

        The outputs are compared before anything is written: a difference raises ArtifactError.
        """
        if out.exists() and any(out.iterdir()):
            raise RunFolderError(f"The folder {out} exists and is not empty.", hint="Give another one with --out.")
        batches = self.probe()
        before = artifact.outputs(self.backbone.model, batches)
        self.recipe.method.merge(self.backbone.model)
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
            found: Row = {}
            for column in columns:
                name = column.name if column.name is not None and column.name in values else column.role
                if name not in values:
                    faults.append(f"row {number}: has no '{column.name or column.role}' (it has {', '.join(values)})")
                    continue
                try:
                    found[column.role] = column.parse(values[name])
                except ValueError as error:
                    faults.append(f"row {number}, '{name}': {error}")
            checked.append(found)
        raise_faults(DataError, "The rows can't be predicted:", faults)
        return checked


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
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"The file {path} is damaged: {error}.") from None
    recipe = from_values(values)
    recipe.task.restore(read_json(folder / TASK))
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
