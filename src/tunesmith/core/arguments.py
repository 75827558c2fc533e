"""What the command line's library can't read as it is written: options with several values, and with none or one."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
SEVERAL = {"--weights": NUMBER, "--how": re.compile(r"(density|seed|soup)=.*")}
"""Options that take more values, and what these look like."""
EITHER = {"--as-delta": (re.compile("exact|rank=.*"), "exact")}
"""Options with a value or without one: what it looks like, and what stands for none."""
WITHIN = {
    "merge": {"--density": "--how=density=", "--seed": "--how=seed=", "--soup": "--how=soup="},
    "evaluate": {f"--{key}": f"--of={key}=" for key in ("task", "train", "before", "label", "set")},
}
"""Options of a command that are another's settings."""


def expand(arguments: Sequence[str]) -> list[str]:
    """The arguments with every value under its own option, where a command takes several or settings of another.

    >>> expand(["merge", "a", "b", "--weights", "1", "-1", "--density", "0.5", "--as-delta", "--out", "c"])
    ['merge', 'a', 'b', '--weights=1', '--weights=-1', '--how=density=0.5', '--as-delta=exact', '--out', 'c']
    """
    if not arguments or arguments[0] not in WITHIN:
        return list(arguments)
    found: list[str] = []
    rest, within = list(arguments), WITHIN[arguments[0]]
    merges = arguments[0] == "merge"
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option in within and (equals or rest):
            found.append(f"{within[option]}{value if equals else rest.pop(0)}")
        elif merges and option in SEVERAL and not equals and rest:
            found.append(f"{option}={rest.pop(0)}")
            while rest and SEVERAL[option].fullmatch(rest[0]):
                found.append(f"{option}={rest.pop(0)}")
        elif merges and option in EITHER and not equals:
            pattern, none = EITHER[option]
            valued = bool(rest) and pattern.fullmatch(rest[0]) is not None
            found.append(f"{option}={rest.pop(0) if valued else none}")
        else:
            found.append(f"{option}{equals}{value}")
    return found
