"""Examples that are kept on disk."""

import gc
from pathlib import Path

import pytest

from tunesmith.core import encoded
from tunesmith.core.rows import take


def test_what_is_kept_comes_back_and_its_file_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "BATCH", 3)
    given = [{"input_ids": list(range(n)), "cut": n > 2, "line": n} for n in range(8)]
    monkeypatch.setattr(encoded.tempfile, "tempdir", str(tmp_path))
    kept = encoded.keep(iter(given))
    assert take(kept, slice(0, 8)) == given
    (file,) = tmp_path.iterdir()
    del kept
    gc.collect()
    assert not file.exists()


def test_nothing_to_keep_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        encoded.keep([])
