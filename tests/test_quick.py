"""What the command line imports: its list of transformers' names is kept where rows are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from tunesmith.quick import quick
with quick():
    import transformers
    from transformers import AutoModel, BertConfig
print(BertConfig().model_type, transformers.utils.import_utils.define_import_structure.__module__)
"""


def test_a_later_start_finds_what_an_earlier_one_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "TUNESMITH_CACHE": str(tmp_path)}
    times = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "bert transformers.utils.import_utils\n"
        (file,) = tmp_path.glob("*.names.json")
        times.append(file.stat().st_mtime_ns)
    assert times[0] == times[1]
