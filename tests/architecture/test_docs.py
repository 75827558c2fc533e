"""The reference is generated from the code, and is the code's of today."""

from __future__ import annotations

import subprocess
import sys

from tests.architecture import source


def test_the_reference_is_fresh() -> None:
    command = [sys.executable, str(source.ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
