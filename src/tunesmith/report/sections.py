"""The body of the page, section by section; each says so where the run has not written what it shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from tunesmith.core.panel import Lines, Result
from tunesmith.report.blocks import absent, facts, folded, grid, panel, table
from tunesmith.report.headline import compared, figure_table
from tunesmith.report.lead import lead
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.plots import LINE_POINTS
from tunesmith.report.record import Event, Record
from tunesmith.report.wording import cell, duration, listing, number, percent, size, title, words

SHORT = 3
"""Names of so few letters are abbreviations."""
Series = dict[str, tuple[list[float], list[float]]]


def curves(record: Record) -> Markup:
    """Loss, metrics, learning rate and gradient norm against the step."""
    steps, validations = record.of_kind("step"), record.of_kind("evaluation")
    if not steps and not validations:
        return absent("logged step in metrics.jsonl")
    note = f"Each point is the mean of neighbouring steps, {number(LINE_POINTS)} points at most."
    note = note if len(steps) > LINE_POINTS else ""
    charts = [Lines("Loss", _losses(steps, validations), "step", "loss", note)]
    charts += [Lines(f"{title(name)} on validation", series, "step") for name, series in _metrics(validations).items()]
    for name in ("learning_rate", "gradient_norm"):
        charts.append(Lines(title(name), {words(name): _series(steps, name)}, "step", "", note))
    shown = [chart for chart in charts if any(xs for xs, _ in chart.series.values())]
    return grid(panel(one) for one in [*shown, *record.found()])


def cost(record: Record) -> Markup:
    """What was trained, where, how fast, with how much memory; and that the saved model is the trained one."""
    if record.evaluation is None:
        return absent("evaluation.json")
    found = dict(record.evaluation.cost)
    trained, total = found.pop("trained_parameters", None), found.pop("total_parameters", None)
    shown: dict[str, object] = {}
    if trained is not None:
        shown["trained parameters"] = number(trained)
        if total:
            shown["trained parameters"] = f"{number(trained)} of {number(total)} ({percent(trained / total)})"
    written = {"seconds": ("time", duration), "peak_memory_bytes": ("peak memory", size)}
    for name, value in found.items():
        wording, form = written.get(name, (words(name), number))
        shown[wording] = form(value) if isinstance(value, int | float) else _text(value)
    return join([facts(shown) if shown else absent("cost in evaluation.json"), _artifact(record.evaluation.artifact)])


def suites(record: Record) -> dict[str, Markup]:
    """What every suite found, by its name; in the main one the model stands beside the baselines."""
    if record.evaluation is None:
        return {"Measurements": absent("evaluation.json")}
    found = lead(record)
    compared_in = found.suite if found else None
    better = record.evaluation.higher_is_better
    return {
        name.upper() if len(name) <= SHORT else title(name): _suite(
            suite, compared(found, suite, better) if found and name == compared_in else None
        )
        for name, suite in record.evaluation.suites.items()
    }


def data(record: Record) -> Markup:
    """What the data look like, and which files they were."""
    splits = (record.environment or {}).get("data")
    files = _files(splits) if isinstance(splits, dict) and splits else Markup()
    if record.data is None:
        return join([absent("data.json"), files])
    return grid([*map(panel, record.data), files])


def notes(record: Record) -> Markup:
    """All that was changed, dropped, cut or chosen, in the words of the run."""
    said = record.notes()
    if not said:
        return tag("p", "Nothing was said during this run.", class_="absent")
    return tag("ul", join(tag("li", text, dir="auto") for text in said), class_="notes card")


def recipe(record: Record) -> Markup:
    """The resolved recipe, which alone repeats the run."""
    if record.recipe is None:
        return absent("recipe.yaml")
    return folded("recipe.yaml, with every default filled in", record.recipe)


def repeat(record: Record) -> Markup:
    """How the run is done again."""
    if record.recipe is None:
        return absent("recipe.yaml")
    environment = record.environment or {}
    names = ("tunesmith", "seed", "device", "precision")
    known: dict[str, object] = {name: _text(environment[name]) for name in names if name in environment}
    folder = record.folder.resolve()
    command = f"tunesmith train {shlex.quote(str(folder / 'recipe.yaml'))} --out {shlex.quote(f'{folder}-again')}"
    told = (
        "The recipe above, with the files that stand under Data (compare their sha256) and the versions that stand "
        "under Environment, repeats this run. On another device numbers are rounded otherwise."
    )
    asked = f"tunesmith evaluate {shlex.quote(str(folder))} --data FILE"
    code = tag("pre", f"{command}\n{asked}   # the finished model on other rows", tabindex=0)
    return join([facts(known) if known else Markup(), tag("div", tag("p", told), code, class_="card")])


def environment(record: Record) -> Markup:
    """Versions, device, seed."""
    if record.environment is None:
        return absent("environment.json")
    rest = {name: value for name, value in record.environment.items() if name != "data"}
    return table("Where the run took place", ["what", "which"], [[name, value] for name, value in _flat(rest).items()])


def _losses(steps: list[Event], validations: list[Event]) -> Series:
    series = {"training": _series(steps, "loss")}
    terms = list(dict.fromkeys(name for event in steps for name in event.get("losses") or {}))
    if len(terms) > 1:
        series |= {f"training: {words(name)}": _series(steps, name, "losses") for name in terms}
    series["validation"] = _series(validations, "loss", "metrics")
    return {name: line for name, line in series.items() if line[0]}


def _metrics(validations: list[Event]) -> dict[str, Series]:
    """Metrics between 0 and 1 share a chart, every other one has its own."""
    charts: dict[str, Series] = {}
    for name in dict.fromkeys(name for event in validations for name in event.get("metrics") or {} if name != "loss"):
        line = _series(validations, name, "metrics")
        shared = all(0 <= value <= 1 for value in line[1])
        charts.setdefault("Metrics" if shared else words(name), {})[words(name)] = line
    return charts


def _series(events: list[Event], name: str, inside: str | None = None) -> tuple[list[float], list[float]]:
    found = [(event["step"], (event.get(inside) or {} if inside else event).get(name)) for event in events]
    kept = [(step, value) for step, value in found if isinstance(value, int | float)]
    return [step for step, _ in kept], [value for _, value in kept]


def _artifact(artifact: Mapping[str, Any]) -> Markup:
    if "folder" not in artifact:
        return Markup()
    difference, rows = artifact.get("largest_difference"), artifact.get("compared_rows")
    proof = "" if difference is None else "; loaded again from the disk, it gives the outputs of the trained model"
    if difference is not None and rows is not None:
        proof += f" on {number(rows)} rows, with a largest difference of {number(difference) if difference else '0'}"
    return tag("p", "The model is saved in ", tag("code", f"{artifact['folder']}/"), f"{proof}.")


def _suite(suite: Result, first: list[Markup] | None) -> Markup:
    asks = tag("p", suite.asks, class_="asks", dir="auto") if suite.asks else Markup()
    if suite.failed:
        return join([asks, tag("p", f"This could not be measured: {suite.failed}", class_="absent", dir="auto")])
    figures = [figure_table(suite.figures, suite.defines)] if suite.figures else []
    cards = [*(figures if first is None else first), *map(panel, suite.panels)]
    return join([asks, grid(cards) if cards else tag("p", "It measured nothing on this model.", class_="absent")])


def _files(splits: Mapping[str, Any]) -> Markup:
    columns = list(dict.fromkeys(key for about in splits.values() for key in about))
    rows = [[split, *(_code(key, about.get(key)) for key in columns)] for split, about in splits.items()]
    return table("Files", ["split", *columns], rows)


def _code(key: str, value: object) -> object:
    if key == "sha256" and isinstance(value, str):
        return tag("code", value[:12], title=value)
    return value if isinstance(value, str | int | float | None) else _text(value)


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{before}{words(name)}: ")
        else:
            found[before + words(name)] = _text(item)
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return listing([_text(item) for item in value])
    # Seeds and versions are names, not amounts: no thousands separator.
    return str(value) if isinstance(value, int) else cell(value if isinstance(value, str | float) else None)
