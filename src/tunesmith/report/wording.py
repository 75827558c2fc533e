"""Numbers, times, sizes and texts as a person reads them."""

from __future__ import annotations

import math
import unicodedata

from tunesmith.core.panel import Cell, Figure

NOTHING = "–"
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def number(value: float | None) -> str:
    """Three to four significant digits, thousands apart.

    >>> number(0.91304), number(12345.6), number(0.00002), number(None)
    ('0.913', '12,346', '2e-5', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int) or abs(value) >= 1000 or (value.is_integer() and abs(value) >= 10):
        return f"{value:,.0f}"
    if value == 0 or 0.01 <= abs(value) < 10:
        return f"{value:.3f}"
    if abs(value) >= 10:
        return f"{value:.4g}"
    return _plain_exponent(f"{value:.3g}")


def cell(value: Cell) -> str:
    """A cell of a table: numbers are formatted, texts stay."""
    return value if isinstance(value, str) else "" if value is None else number(value)


def interval(figure: Figure) -> str:
    """'0.891 to 0.932', or nothing where no interval was estimated."""
    return bounds(figure.low, figure.high)


def bounds(low: float | None, high: float | None) -> str:
    """'0.891 to 0.932', or nothing where one of them is not known."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def percent(fraction: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.95), percent(0.000544)
    ('95 %', '0.0544 %')
    """
    return f"{_plain_exponent(f'{100 * fraction:.3g}')} %"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(0.42), duration(42), duration(754), duration(9000)
    ('0.42 s', '42 s', '12 min 34 s', '2 h 30 min')
    """
    if seconds < 59.5:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def size(count: float) -> str:
    """Bytes in the unit that suits them.

    >>> size(512), size(1_530_000_000)
    ('512 B', '1.53 GB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:,.3g} TB"


def words(name: str) -> str:
    """A name from a file as words: underscores become spaces."""
    return name.replace("_", " ")


def title(name: str) -> str:
    """A name as the start of a line: words, the first with a capital letter."""
    return words(name[:1].upper() + name[1:])


def listing(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def shorten(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis where some were cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def visible(text: str) -> str:
    """`text` with control characters as the signs that stand for them: a browser would drop or replace them.

    >>> visible("a" + chr(0) + "b")
    'a␀b'
    """
    return text.translate(PICTURES)


def printable(text: str) -> str:
    """`text` without control characters, and without those that turn the direction of what follows: a terminal would
    obey them.
    """
    return "".join(
        character
        for character in text
        if character == "\n" or (unicodedata.category(character) != "Cc" and character not in TURNING)
    )


def _plain_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text
