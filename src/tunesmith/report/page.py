"""The page a run ends with: `report.html`, one file that loads nothing and shows everything.

The page forbids itself the network and every script but its own, by their hashes: a script that hid in a user's
text would not run even if it were not escaped. Charts are drawn by plotly.js, which the file holds.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tunesmith.core.files import write_text
from tunesmith.core.lazy import Lazy
from tunesmith.core.panel import Panel
from tunesmith.report import sections
from tunesmith.report.blocks import definitions, grid, panel
from tunesmith.report.headline import headline
from tunesmith.report.markup import Markup, join, raw, tag
from tunesmith.report.record import Record, read
from tunesmith.report.wording import words

offline: Any = Lazy("plotly.offline")

NAME = "report.html"

# After a section a suite.
SECTIONS: dict[str, Callable[[Record], Markup]] = {
    "Learning curves": sections.curves,
    "What was trained, and what it cost": sections.cost,
    "Data": sections.data,
    "Notes": sections.notes,
    "Recipe": sections.recipe,
    "How to repeat it": sections.repeat,
    "Environment": sections.environment,
}


def write(run_folder: Path) -> Path:
    """Write the page of a run into its folder."""
    path = run_folder / NAME
    write_text(path, render(run_folder))
    return path


def render(run_folder: Path) -> str:
    """The page of a run as text, whole or in progress."""
    record = read(run_folder)
    scripts = [offline.get_plotlyjs(), _asset("page.js")]
    shown = sections.suites(record) | {name: section(record) for name, section in SECTIONS.items()}
    parts = (tag("section", tag("h2", name, dir="auto"), text, id=f"part-{n}")
             for n, (name, text) in enumerate(shown.items(), 1))  # fmt: skip
    body = tag("main", headline(record), _contents(shown), *parts, definitions(_defined(record)))
    notice = tag(
        "noscript", tag("p", "The charts of this page are drawn by a script, which is switched off.", class_="absent")
    )
    page = tag(
        "html",
        _head(_title(record), scripts),
        tag("body", notice, body, *(raw("script", text) for text in scripts)),
        lang="en",
    )
    # A text read from JSON may hold half a character, which no file can.
    return f"<!DOCTYPE html>\n{page}\n".encode("utf-8", "replace").decode("utf-8")


def write_panels(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Write a page of panels alone, such as what `check` saw."""
    write_shown(path, title, tag("main", tag("h1", title, dir="auto"), grid(panel(one) for one in panels)))


def write_shown(path: Path, title: str, shown: Markup) -> None:
    """Write a page of what is shown, with its own title, style and script."""
    scripts = [offline.get_plotlyjs(), _asset("page.js")]
    body = tag("body", shown, *(raw("script", text) for text in scripts))
    page = tag("html", _head(title, scripts), body, lang="en")
    write_text(path, f"<!DOCTYPE html>\n{page}\n".encode("utf-8", "replace").decode("utf-8"))


def _head(title: str, scripts: list[str]) -> Markup:
    policy = tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts))
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        policy,
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – tunesmith"),
        raw("style", _asset("page.css")),
    )


def _title(record: Record) -> str:
    return record.evaluation.title if record.evaluation else record.folder.name


def _policy(scripts: list[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # plotly.js writes its styles itself.
    rules = ["default-src 'none'", f"script-src {allowed}", "style-src 'unsafe-inline'", "img-src data:"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _contents(names: Iterable[str]) -> Markup:
    links = (tag("li", tag("a", name, href=f"#part-{place}", dir="auto")) for place, name in enumerate(names, 1))
    return tag("nav", tag("ul", join(links)), aria_label="Sections")


def _defined(record: Record) -> Iterator[tuple[str, str]]:
    """What figures are, and how verdicts follow from them."""
    for suite in record.evaluation.suites.values() if record.evaluation else ():
        yield from ((words(name), text) for name, text in suite.defines.items())
        yield from ((one.figure, one.rule) for one in suite.verdicts)


def _asset(name: str) -> str:
    return files("tunesmith.report").joinpath(name).read_text(encoding="utf-8")
