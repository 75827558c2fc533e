"""Commands on several runs: their reports side by side, and the list of all that a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.core.lazy import Lazy
from tunesmith.core.lean import lean
from tunesmith.output import print_json, result

if TYPE_CHECKING:
    from tunesmith import comparison, inventory
    from tunesmith.report import compared, page, printed
    from tunesmith.serve import session as sessions
else:
    comparison, inventory = Lazy("tunesmith.comparison", lean), Lazy("tunesmith.inventory")
    page, printed = Lazy("tunesmith.report.page"), Lazy("tunesmith.report.printed")
    compared = Lazy("tunesmith.report.compared", lean)
    sessions = Lazy("tunesmith.serve.session", lean)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def report(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="The folder of a run, or of several.")],
    out: Annotated[Path | None, typer.Option(
        "--out", help="A new file for the page of several runs; compare.html where not given.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write a run's report.html anew; of several runs, compare them on a page of its own."""
    if len(run_folders) == 1 and out is None:
        sessions.read_recipe(run_folders[0])
        written = page.write(run_folders[0])
        result({"report": str(written)}, f"report: {written}", as_json)
        return
    written = Path(comparison.PAGE) if out is None else out
    comparison.check_new(written)
    found = comparison.compare(run_folders)
    comparison.write(written, found)
    if as_json:
        print_json({"report": str(written), **compared.as_json(found)})
    else:
        printed.show([*map(printed.lines, compared.summary(found)), *compared.told(found)])
        print(f"\nreport: {written}")


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, at any depth.")] = Path("runs"),
    sort: Annotated[str | None, typer.Option(
        "--sort", metavar="KEY", help="A column or a key of the recipe; -KEY for the largest first.")] = None,
    where: Annotated[list[str] | None, typer.Option(
        "--where", metavar="KEY=VALUE", help="Only runs with this: method=lora, train.learning_rate=2e-4.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List all runs below a folder with what they were, how they stand and what they came to."""
    wanted = inventory.conditions(where or [])
    found = inventory.runs(folder, wanted, sort)
    if as_json:
        print_json(found)
    else:
        extra = [key for key in [*wanted, (sort or "").removeprefix("-")] if key]
        printed.show(inventory.shown(found, folder, extra), whole=True)
