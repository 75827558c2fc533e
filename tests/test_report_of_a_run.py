"""The page of a real run, opened in a browser with the network off."""

from pathlib import Path

import pytest

from tests.report.browser import BROWSER, SKIP_REASON, open_page
from tests.report.test_browser import assert_sound
from tunesmith.cli import main

HOSTILE = "<script>window.hacked = 1</script> refund </script> please"


@pytest.mark.skipif(BROWSER is None, reason=SKIP_REASON)
def test_hostile_texts_stay_texts_and_every_plot_is_drawn(tmp_path: Path) -> None:
    rows = [f'"{HOSTILE} {number}",{"calm" if number % 2 else "angry"}' for number in range(60)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = ["train.steps=4", "train.log_every=1", "data.test=0.4", "data.validation=0.2"]
    options = [word for setting in settings for word in ("--set", setting)]
    data, out = str(tmp_path / "rows.csv"), str(tmp_path / "run")
    assert main(["train", data, "--model", "builtin:tiny-bert", "--out", out, *options]) == 0
    page = tmp_path / "run" / "report.html"
    assert_sound(open_page(page))
    assert "&lt;script&gt;window.hacked" in page.read_text(encoding="utf-8") or "\\u003cscript" in page.read_text()
