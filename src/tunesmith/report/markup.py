"""HTML that cannot be forgotten to escape: a text becomes markup only through `tag`, which escapes it.

    tag("p", "1 < 2", class_="note")   ->   <p class="note">1 &lt; 2</p>

Texts of users hold whatever they like: script tags, quotes, right-to-left letters. No other file writes a `<`.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable
from typing import Any

from tunesmith.report.wording import visible

VOID = {"meta", "br", "hr"}
# Inside a script element only these can end it or start a comment; as \u escapes JSON reads them all the same.
UNSAFE_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


class Markup(str):
    """HTML. Every other string is text."""


def escape(value: object) -> Markup:
    """`value` as HTML: markup stays as it is, anything else is escaped text."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(str(value))))


def join(parts: Iterable[object]) -> Markup:
    """All parts behind one another."""
    return Markup("\n".join(escape(part) for part in parts))


def tag(element: str, /, *children: object, **attributes: object) -> Markup:
    """One element. `class_` and `aria_label` become `class` and `aria-label`; None and False leave one out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{''.join(escape(child) for child in children)}</{element}>")


def raw(element: str, text: str, **attributes: object) -> Markup:
    """A `style` or `script` element around our own text, which HTML does not escape."""
    assert f"</{element}" not in text.lower(), f"the text of a {element} element closes it"
    return tag(element, Markup(text), **attributes)


def data(value: Any) -> Markup:
    """A block of JSON that a script reads and that nothing executes; not-a-number becomes null."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return raw("script", text.translate(UNSAFE_IN_SCRIPT), type="application/json")


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
