"""What can't be measured is said."""

from tunesmith.core.notes import listening
from tunesmith.evaluate.unmeasured import unmeasured


def test_it_is_a_panel_and_a_note() -> None:
    with listening() as notes:
        panel = unmeasured("Calibration", "no rows are held out")
    assert panel.rows == [["Because no rows are held out."]]
    assert notes == ["Calibration: not measured, because no rows are held out."]
