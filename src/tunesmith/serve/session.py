"""Finished runs on one backbone, loaded: predict rows, predict files, merge; one run is in use at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.core import anatomy
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import DataError, ModelError, RunFolderError, nearest, raise_faults
from tunesmith.core.files import check_writable
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import note
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve import attach, merge
from tunesmith.serve.attach import Attached
from tunesmith.serve.folder import MODEL, PROBE, RECIPE, TASK, probe_batches, read_recipe
from tunesmith.train import faster, precision

__all__ = ["MODEL", "PROBE", "RECIPE", "TASK", "Session", "load", "probe_batches", "read_recipe"]

MANY = 64
"""How many rows are answered before shortcuts pay: to enter them takes some tenths of a second."""


class Session:
    """Runs that were trained from one backbone, attached to it side by side, each with its task and its head.

    One is in use: `predict`, `merge`, `recipe` and the rest are its own. `use` takes another one, in microseconds: all
    share the backbone's memory, and no weight moves. A session is for one thread.
    """

    def __init__(self, name: str, run: Attached, base: Backbone | None = None) -> None:
        self._attached = {name: run}
        self._used: str | None = name
        self._base = base

    @property
    def names(self) -> list[str]:
        """The names of what is attached."""
        return list(self._attached)

    @property
    def used(self) -> str | None:
        """The name of the delta in use; None where the backbone is as it was."""
        return self._used

    @property
    def current(self) -> Attached:
        """The run in use. None in use raises ModelError."""
        if self._used is None:
            raise ModelError(
                f"No delta is in use. Attached: {', '.join(self._attached) or 'none'}.",
                hint="Take one: session.use(NAME).",
            )
        return self._attached[self._used]

    @property
    def folder(self) -> Path:
        """The folder of the run in use."""
        return self.current.folder

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run in use."""
        return self.current.recipe

    @property
    def backbone(self) -> Backbone:
        """The model in use with its tokenizer; without a delta the backbone as it was, without a head."""
        if self._used is not None:
            return self._attached[self._used].backbone
        base = self._bare()
        bare = anatomy.backbone(base.model) if anatomy.head(base.model) else base.model
        return replace(base, model=bare)  # type: ignore[arg-type]

    @property
    def predictor(self) -> Predictor:
        """What answers rows: in the precision in which the run was measured, on a device of the same kind; its
        confidences at the temperature that the run keeps, where it keeps one.
        """
        backbone, train = self.current.backbone, self.recipe.train
        device = backbone.model.device.type
        kind = train.precision if device == train.device else precision.choose_precision("auto", device)
        return Predictor(
            backbone.model, backbone.tokenizer, self.recipe.task, backbone.limit, kind, asked=True,
            temperature=self.current.temperature,
        )  # fmt: skip

    def attach(self, name: str, folder: str | Path) -> None:
        """Attach another run of the same backbone, of any method and task, under a name; the one in use stays.

        Of a run that holds its whole model, the tensors that it changed are kept in memory: up to one model more.
        Raises ModelError where the name is taken or the backbone is another; nothing has changed then.
        """
        if name in self._attached:
            raise ModelError(
                f"A delta called '{name}' is attached already: {self._attached[name].folder}.",
                hint=f"Give another name, or take it away first: session.detach('{name}').",
            )
        self._attached[name] = attach.beside(Path(folder), self._bare())

    def detach(self, name: str) -> None:
        """Forget what is attached under a name; if it was in use, none is."""
        self._check(name)
        self._bare()  # which a whole model must still tell
        del self._attached[name]
        if self._used == name:
            self._used = None

    def use(self, name: str | None) -> None:
        """Take what is attached under a name; None takes the backbone as it was. Raises ModelError for an unknown
        name.
        """
        if name is not None:
            self._check(name)
        self._used = name

    def predict(self, rows: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer texts, or rows with the columns of the training file; one dictionary a row, in order.

        Raises DataError with all faults: a row without a needed column, a blank text.
        """
        if isinstance(rows, str | Mapping):
            raise DataError("One row alone was given.", hint="Give a list of texts or rows: predict([row]).")
        checked = _checked(list(rows), [column for column in self.recipe.task.columns() if not column.target])
        if not checked:
            return []
        lines: list[dict[str, Any]] = []
        with self._quickly(len(checked)):
            self.predictor.predict(Mapped.from_list(checked), each=lines.append)
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
        with self._quickly(len(table.rows)):
            cut = self.predictor.predict(table.rows, out=out, each=each).cut
        if cut:
            note(f"{cut:,} of {len(table.rows):,} rows are longer than the limit and were cut.")
        return len(table.rows)

    def merge(self, out: Path) -> float:
        """Write the run in use as a plain transformers model to `out`; returns its largest difference to the attached
        one.

        The outputs are compared before anything is written: a difference raises ArtifactError. The session stays as it
        is.
        """
        return merge.write_one(self.current, out)

    def probe(self) -> list[Any]:
        """The batches with which models are compared."""
        return self.current.probe()

    def _quickly(self, rows: int) -> AbstractContextManager[object]:
        # Few rows are answered before the shortcuts are ready.
        return faster.answering(self.current.backbone.model, self.recipe.speed) if rows > MANY else nullcontext()

    def _check(self, name: str) -> None:
        if name not in self._attached:
            raise ModelError(f"No delta called '{name}' is attached. {nearest(name, self._attached)}")

    def _bare(self) -> Backbone:
        """The backbone as it was: of a whole model, loaded when it is first asked for."""
        if self._base is None:
            self._base = attach.backbone_of(next(iter(self._attached.values())))
        return self._base


def _checked(rows: list[str | Mapping[str, Any]], columns: list[Column]) -> list[Row]:
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
            if name is None and not column.optional:
                has = ", ".join(map(str, values)) or "nothing"
                faults.append(f"row {number}: has no '{column.name or column.role}' (it has {has})")
                continue
            try:
                found[column.role] = column.parse(None if name is None else values[name])
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


def load(folder: str | Path, device: str = "auto") -> Session:
    """Load the finished run in `folder`, under the folder's name. A run that is not finished raises RunFolderError with
    the command that goes on.
    """
    folder = Path(folder)
    run, base = attach.first(folder, precision.choose_device(device))
    return Session(folder.resolve().name, run, base)
