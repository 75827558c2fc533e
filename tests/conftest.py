"""What holds for every test: no hub is asked, nothing is kept in the user's cache, and one thread a process, which
tiny models and busy machines want.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read by the libraries when they are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests read out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of LoRA on a tiny model, on `rows.csv` beside it: to be read, not changed."""
    from tests import toy

    return toy.run(tmp_path_factory.mktemp("lora"), method="lora")


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a full training."""
    from tests import toy

    return toy.run(tmp_path_factory.mktemp("full"), method="full")
