"""The command line: a thin layer of words over the other modules.

Results go to standard output, messages to standard error; how a command ends says `exits.py`.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tunesmith import cli_runs, exits, options
from tunesmith.core import arguments as words
from tunesmith.core import registry, structure
from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.lazy import Lazy
from tunesmith.core.lean import lean
from tunesmith.core.notes import LOGGER
from tunesmith.output import print_json as _print_json
from tunesmith.output import result as _result
from tunesmith.version import VERSION

if TYPE_CHECKING:
    from tunesmith import catalogue, continual, progress, sequence, stages
    from tunesmith import check as checks
    from tunesmith import examine as examining
    from tunesmith import explain as explaining
    from tunesmith import find_rate as rates
    from tunesmith import run as runs
    from tunesmith import watch as watching
    from tunesmith.data import cache
    from tunesmith.report import page, printed, terminal
    from tunesmith.serve import merge as merges
    from tunesmith.serve import session as sessions
    from tunesmith.serve import soup as soups
else:
    cache = Lazy("tunesmith.data.cache")
    catalogue, explaining = Lazy("tunesmith.catalogue", lean), Lazy("tunesmith.explain")
    checks, examining = Lazy("tunesmith.check", lean), Lazy("tunesmith.examine", lean)
    progress, stages = Lazy("tunesmith.progress"), Lazy("tunesmith.stages", lean)
    continual, sequence = Lazy("tunesmith.continual", lean), Lazy("tunesmith.sequence", lean)
    rates, watching = Lazy("tunesmith.find_rate", lean), Lazy("tunesmith.watch")
    page, terminal = Lazy("tunesmith.report.page"), Lazy("tunesmith.report.terminal")
    printed = Lazy("tunesmith.report.printed")
    sessions, merges = Lazy("tunesmith.serve.session", lean), Lazy("tunesmith.serve.merge", lean)
    soups = Lazy("tunesmith.serve.soup", lean)

app = typer.Typer(help="Fine-tune pre-trained models, and see what it gained and what it cost.", no_args_is_help=True)
messages = Console(stderr=True, soft_wrap=True)

Source = Annotated[
    str, typer.Argument(metavar="DATA-or-RECIPE", help="A file of rows, a folder of splits, or a recipe (.yaml).")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe.")]
Model = Annotated[str | None, typer.Option("--model", help="Backbone: builtin:minilm, a folder or a hub name.")]
MethodName = Annotated[str | None, typer.Option("--method", help="Method: see `tunesmith list methods`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Fine-tune pre-trained models, and see what it gained and what it cost."""
    if version:
        print(VERSION)
        raise typer.Exit


@app.command()
def train(
    source: Source, model: Model = None, method: MethodName = None, set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fine-tune on a data file or by a recipe, measure, and write a report."""
    found = stages.read(source, _overrides(model, method, set_))
    with progress.shown(messages) as show:
        run = stages.start(found, out, show)
    _ended(run, as_json)


@app.command()
def resume(run: RunFolder, as_json: AsJson = False) -> None:
    """Go on with a run that was killed or interrupted, exactly where it stopped."""
    with progress.shown(messages) as show:
        done = stages.resume(run, show)
    _ended(done, as_json)


@app.command()
def watch(
    run: RunFolder, as_json: AsJson = False,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and leave.")] = False,
) -> None:  # fmt: skip
    """Show the curves of a run while it trains; ends with it, or with Ctrl-C."""
    if as_json:
        _print_json(watching.facts(run))
    else:
        watching.watch(run, Console(), once)


@app.command()
def check(
    source: Source, model: Model = None, method: MethodName = None, set_: Set = None, as_json: AsJson = False,
    to_page: Annotated[Path | None, typer.Option("--page", help="Write what the model sees as a page here.")] = None,
) -> None:  # fmt: skip
    """Train nothing: show what the model will see, what would train, and how long it would take."""
    checked = checks.check_all(stages.read(source, _overrides(model, method, set_)), checks.process_began())
    if to_page is not None:
        page.write_panels(to_page, f"What {source} trains on", checked.panels)
    if as_json:
        _print_json(checked.as_json())
    else:
        printed.show([*printed.panels(checked.panels), printed.facts(checked.facts), f"\n{checked.told()}"])


@app.command()
def find_rate(
    source: Source, model: Model = None, set_: Set = None, as_json: AsJson = False,
    updates: Annotated[int, typer.Option("--updates", help="How many rates are tried, one an update.")] = 100,
    to_page: Annotated[Path | None, typer.Option("--page", help="Write the curve as a page here.")] = None,
) -> None:  # fmt: skip
    """Train on a copy with a rate that grows, and name a learning rate with its reason."""
    given = stages.read(source, _overrides(model, None, set_))
    first, *later = given if isinstance(given, stages.Stages) else [given]
    if later:
        messages.print("The rate is that of the first stage: later ones start from what it made.")
    found = rates.find_rate(first, updates)
    if to_page is not None:
        page.write_panels(to_page, f"Learning rates for {source}", found.panels())
    if as_json:
        _print_json(found.as_json())
    else:
        printed.show([*printed.panels(found.panels()), f"\n{found.told()}"])


@app.command()
def predict(
    run: RunFolder,
    data: Annotated[Path, typer.Argument(help="A file of rows to answer.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write JSON Lines here; else to standard output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer the rows of a file with a finished run: one JSON line a row."""
    rows = sessions.load(run).predict_file(data, out, lambda line: print(json.dumps(line, ensure_ascii=False)))
    if out is not None:
        _result({"rows": rows, "predictions": str(out)}, f"{rows:,} rows answered: {out}", as_json)


@app.command()
def evaluate(
    model: options.Examined, data: options.Labelled = None, suite: options.Suites = None, of: options.Of = None,
    out: options.Measured = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure a run or any other model on a labelled file, a run by further suites; or print what was measured."""
    with progress.shown(messages) as show:
        measured = examining.evaluate(model, examining.wanted(data, suite or [], of or []), out, show)
    if as_json:
        _print_json(measured)
    else:
        printed.show(printed.figures(measured))


app.command()(cli_runs.report)
app.command()(cli_runs.runs)


@app.command()
def merge(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs on one backbone.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of what is written.")],
    weights: Annotated[list[float] | None, typer.Option(
        "--weights", metavar="NUMBER...", help="One a run; -1 takes a run away. Else the runs' mean.")] = None,
    how: Annotated[list[str] | None, typer.Option(
        "--how", metavar="WAY [density=D] [seed=S]", help="linear, ties, dare or dare_ties; the share D of changes "
        "that the last three keep (0.2), the seed S of what dare drops (0). Also: --density D, --seed S. Or: --soup "
        "uniform, the mean, or --soup greedy, of the runs that validation chooses; both measured.")] = None,
    as_delta: Annotated[str | None, typer.Option(
        "--as-delta", metavar="[exact|rank=N]", help="Write a small run: what the backbone has not, or of rank N.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fold runs into their backbone and write one plain transformers model, proven before it is written."""
    mix = merges.mix_of(how or [], weights or [])
    done = (merges.merge if mix.soup is None else soups.make)(run_folders, out, mix, as_delta)
    if mix.soup is not None and not as_json:
        printed.show(printed.panels(soups.panels(done)))
    _result(done, merges.told(done), as_json)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="One kind of part; all where not given.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="With `methods`: what each would train on it.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the parts that a recipe may name."""
    if kind is not None and kind not in registry.KINDS:
        raise RecipeError(f"There is no kind of part '{kind}'. {nearest(kind, registry.KINDS)}")
    if model is not None:
        _list_on(kind, model, as_json)
        return
    found = {one: registry.entries(one) for one in ([kind] if kind else registry.KINDS)}
    if as_json:
        _print_json({one: {name: entry.sentence for name, entry in parts.items()} for one, parts in found.items()})
        return
    for one, parts in found.items():
        print(one)
        for name, entry in parts.items():
            print(f"  {name:<16} {entry.sentence}")


def _list_on(kind: str | None, model: str, as_json: bool) -> None:
    if kind != "methods":
        raise RecipeError(
            f"--model says what methods would train, but the list asked for is that of {kind or 'all kinds'}.",
            hint=f"Ask for: tunesmith list methods --model {model}",
        )
    found = catalogue.of_model(model)
    if as_json:
        _print_json(found.as_json())
    else:
        printed.show(printed.panels(found.panels()))


@app.command()
def explain(
    name: Annotated[
        str, typer.Argument(metavar="NAME-or-RECIPE", help="A part, a section of the recipe, or a recipe.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show a part's settings with their sentences, or the steps of a recipe's loop with the parts that act at each."""
    found = explaining.explain(name)
    if as_json:
        _print_json(found.as_json())
    else:
        printed.show(printed.explanation(found.as_json()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    LOGGER.setLevel(logging.INFO)
    given = words.expand(sys.argv[1:] if arguments is None else arguments)
    return exits.status_of(lambda: app(args=given, standalone_mode=False), messages)


def _overrides(model: str | None, method: str | None, settings: list[str] | None) -> list[str]:
    named = [
        f"{key}.name={json.dumps(value)}" for key, value in (("model", model), ("method", method)) if value is not None
    ]
    return [*named, *(settings or [])]


def _ended(run: runs.Run, as_json: bool) -> None:
    if not run.finished:
        messages.print(f"The run is saved. Go on with: tunesmith resume {run.folder}", highlight=False)
        raise typer.Exit(130)
    known = continual.read(run.sequence) if run.sequence is not None else None
    if as_json:
        _print_json({"run": str(run.folder), **run.evaluation, **({} if known is None else {"sequence": known})})
    elif known is None:
        printed.show([terminal.summary(run.folder)])
    else:
        shown = [*printed.panels(sequence.tables(known["stages"])), f"{sequence.verdict(known['stages'])}\n"]
        printed.show([*shown, terminal.summary(run.folder, run.sequence)])


def run_from_shell() -> None:
    """The console script: `main`, with its status given to the shell. It acts on the whole process."""
    with structure.kept(lambda: cache.folder()):
        status = main()
    # What is still there goes back to the system as it is: to look through it once more takes half a second.
    gc.freeze()
    sys.exit(status)
