"""What a command prints on standard output: one JSON object, or a line for a reader."""

from __future__ import annotations

import json
from typing import Any


def result(values: dict[str, Any], told: str, as_json: bool) -> None:
    """Print the values as JSON, or what is told of them."""
    if as_json:
        print_json(values)
    else:
        print(told)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
