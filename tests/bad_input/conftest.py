"""Where bad inputs are tried: an empty working folder, a cache of its own, few resamples."""

from pathlib import Path

import pytest

from tests.bad_input.case import ROWS, TINY, Desk
from tunesmith.cli import main
from tunesmith.evaluate import stats


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)


@pytest.fixture
def desk(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Desk:
    """The test's own working folder; what is cached lies elsewhere."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys, caplog)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rows.csv` and the finished run `run`, made once; copy it with `Desk.take`."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "rows.csv").write_text(ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(stats, "RESAMPLES", 4)
        patch.chdir(folder)
        assert main(["train", "rows.csv", *TINY, "--out", "run"]) == 0
    return folder
