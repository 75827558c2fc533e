"""What `tunesmith evaluate` takes, as the command line declares it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Examined = Annotated[
    str, typer.Argument(metavar="RUN-or-MODEL", help="The folder of a run; or a model's folder, or its hub name.")
]
Labelled = Annotated[
    Path | None, typer.Option("--data", help="A file of labelled rows; else the run's own figures.")
]  # fmt: skip
Suites = Annotated[
    list[str] | None,
    typer.Option("--suite", help="Suite: see `tunesmith list evaluate`. Without --data on the run's own rows."),
]
Of = Annotated[list[str] | None, typer.Option(
    "--of", metavar="KEY=VALUE", help="Of a model that is no run: its task=NAME; train=FILE, the rows that it was "
    "trained on; before=MODEL, what it was before; label=HEAD=FILE, what the file calls an output of its head; "
    "set=task.text=COLUMN, any value of a recipe. Also: --task, --train, --before, --label, --set.")]  # fmt: skip
Measured = Annotated[
    Path | None, typer.Option("--out", help="Write evaluation.json, report.html and the predictions here.")
]
