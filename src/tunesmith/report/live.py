"""What a terminal shows of a run while it trains: curves, figures and notes, from the events of its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tunesmith.report.curve import drawn
from tunesmith.report.record import Event
from tunesmith.report.wording import duration, number, printable, size, words

RECENT = 20
"""How many of the last lines tell how fast it goes."""
WIDE, HEIGHT, LEAST = 100, 6, 24
"""From how many columns on curves stand side by side; how many lines a curve has; and of how many signs it is, at
least."""
SHOWN_NOTES = 3
RATE, NORM = "learning_rate", "gradient_norm"
FORMS: dict[str, tuple[str, Callable[[float], str]]] = {
    "epoch": ("epoch", number),
    "loss": ("loss", number),
    RATE: ("learning rate", number),
    NORM: ("gradient norm", number),
    "examples_per_second": ("examples a second", number),
    "seconds_left": ("time left", duration),
    "peak_memory_bytes": ("peak memory", size),
}
"""Of each fact its name and how it is written."""


@dataclass
class View:
    """What is known of a run. others: all runs of a folder that holds several, each with its state. unread: lines of
    the record that are none.
    """

    name: str
    state: str = "running"
    events: list[Event] = field(default_factory=list)
    others: Mapping[str, str] = field(default_factory=dict)
    unread: int = 0

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.get("event") == kind]

    def last(self, kind: str) -> Event | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if event.get("event") == kind), None)

    @property
    def total(self) -> int | None:
        """How many updates there are."""
        began = [event.get("total_steps") for event in self.events if event.get("event") in ("start", "resume")]
        return began[-1] if began else None

    @property
    def left(self) -> float | None:
        """Seconds of training that are left, as fast as it went of late; None where that can't be said."""
        steps, total = self.of("step"), self.total
        if not steps or total is None or self.state != "running" or self.of("end"):
            return None
        recent = steps[-RECENT:]
        before = steps[-RECENT - 1]["step"] if len(steps) > RECENT else 0
        done = recent[-1]["step"] - before
        return sum(one["seconds"] for one in recent) / done * max(0, total - recent[-1]["step"]) if done > 0 else None

    def facts(self) -> dict[str, Any]:
        """Where it stands, as plain values; what is not known yet is left out."""
        steps, evaluations, memory = self.of("step"), self.of("evaluation"), self.of("memory")
        last = steps[-1] if steps else {}
        found = {
            "run": self.name,
            "state": self.state,
            "step": last.get("step"),
            "total_steps": self.total,
            **{name: last.get(name) for name in ("epoch", "loss", RATE, NORM, "examples_per_second")},
            "seconds_left": self.left,
            "peak_memory_bytes": memory[-1]["peak_bytes"] if memory else None,
            "validation": evaluations[-1]["metrics"] if evaluations else None,
            "stop": next((event["stop"] for event in self.of("end") if event.get("stop")), None),
        }
        return {name: value for name, value in found.items() if value is not None}

    def metric(self) -> str | None:
        """The metric of the validation split that is drawn: the first beside the loss."""
        names = [name for event in self.of("evaluation") for name in event["metrics"]]
        return next((name for name in names if name != "loss"), names[0] if names else None)


def picture(view: View, width: int, height: int | None, *, plain: bool = False) -> RenderableType:
    """Figures, curves and notes. width, height: of the terminal; where it is low there are fewer curves, and all of
    them where no height is given.
    """
    head: list[RenderableType] = [_told(f"{view.name}: {view.state}", "bold"), *_others(view), _figures(view)]
    curves = _curves(view)
    side = 2 if width >= WIDE else 1
    room = len(curves) if height is None else max(1, (height - 12 - len(view.others)) // (HEIGHT + 2)) * side
    shown = [Curve(title, xs, ys, width // side - 2, plain) for title, xs, ys in curves[:room]]
    return Group(*head, Columns(shown, padding=(0, 1)) if side > 1 else Group(*shown), *_notes(view))


@dataclass(frozen=True)
class Curve:
    """A curve with its title, its largest and smallest value, and its first and last step."""

    title: str
    xs: Sequence[float]
    ys: Sequence[float]
    width: int
    plain: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines."""
        high, low = number(max(self.ys)), number(min(self.ys))
        margin = max(len(high), len(low), 6)
        signs = max(LEAST, self.width - margin - 3)
        lines = drawn(self.xs, self.ys, signs, HEIGHT, plain=self.plain)
        ends = [high, *[""] * (HEIGHT - 2), low]
        yield Text(f"{' ' * (margin + 2)}{printable(self.title)}, now {number(self.ys[-1])}", style="bold")
        for end, line in zip(ends, lines, strict=True):
            yield Text.assemble((end.rjust(margin), "dim"), " ", ("|" if self.plain else "│", "dim"), (line, "cyan"))
        first, last = f"{self.xs[0]:,.0f}", f"{self.xs[-1]:,.0f}"
        yield Text(f"{' ' * (margin + 2)}{first}{last.rjust(max(0, signs - len(first)))}", style="dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as it was asked to be."""
        return Measurement(self.width, self.width)


def line_of(event: Event, view: View) -> str | None:
    """An event as one plain line; None for those of no interest while one waits."""
    kind = event.get("event")
    if kind == "step":
        # Of lines of the past it would be the time that is left now.
        seconds = view.left if event is view.last("step") else None
        left = "" if seconds is None else f"  {duration(seconds)} left"
        return (
            f"step {event['step']}/{view.total or '?'}  loss {number(event['loss'])}  rate {number(event[RATE])}  "
            f"gradient {number(event[NORM])}  {number(event['examples_per_second'])} examples/s{left}"
        )
    if kind == "evaluation":
        told = "  ".join(f"{name} {number(value)}" for name, value in event["metrics"].items())
        return f"validation after step {event['step']}: {told}"
    if kind == "end" and event.get("stop"):
        return f"stopped at step {event['step']}: {event['stop']}"
    return f"note: {event['text']}" if kind == "note" else None


def _curves(view: View) -> list[tuple[str, list[float], list[float]]]:
    steps, evaluations, metric = view.of("step"), view.of("evaluation"), view.metric()
    found = [("loss", *_series(steps, "loss"))]
    if metric is not None:
        values = [{"step": one["step"], metric: one["metrics"].get(metric)} for one in evaluations]
        found.append((f"{words(metric)} on validation", *_series(values, metric)))
    found += [(words(name), *_series(steps, name)) for name in (RATE, NORM)]
    return [(title, xs, ys) for title, xs, ys in found if len(xs) > 1]


def _series(events: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    points = [(float(one["step"]), float(one[name])) for one in events if one.get(name) is not None]
    return [x for x, _ in points], [y for _, y in points]


def _figures(view: View) -> RenderableType:
    found = view.facts()
    table = Table.grid(padding=(0, 2))
    total = f" of {found['total_steps']:,}" if "total_steps" in found else ""
    rows = {"step": f"{found['step']:,}{total}" if "step" in found else f"none yet{total}"}
    rows |= {title: form(found[name]) for name, (title, form) in FORMS.items() if name in found}
    if "validation" in found:
        rows["validation"] = ", ".join(f"{words(name)} {number(value)}" for name, value in found["validation"].items())
    if "stop" in found:
        rows["stopped"] = str(found["stop"])
    for name, told in rows.items():
        table.add_row(_told(name, "dim"), _told(told))
    return table


def _others(view: View) -> list[RenderableType]:
    return [_told(f"  {name}: {state}", "dim") for name, state in view.others.items()]


def _notes(view: View) -> list[RenderableType]:
    said = list(dict.fromkeys(str(event.get("text", "")) for event in view.of("note")))
    shown: list[RenderableType] = [_told(f"note: {text}", "italic") for text in said[-SHOWN_NOTES:]]
    if view.unread:
        shown.append(_told(f"{view.unread} lines of the record can't be read.", "italic"))
    return shown


def _told(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="fold")
