"""A table of rows: places in the order of appearance, room that grows, and values that come back to the weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tunesmith.train import table
from tunesmith.train.table import Table, whole_state

GROUP = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.5, "fused": True}


def made(rows: int = 6, padding: int | None = None) -> Table:
    return Table(nn.Parameter(torch.arange(2.0 * rows).view(rows, 2) + 1), padding)


def looked(one: Table, *ids: int) -> Tensor:
    """Look rows up and give each a gradient of ones."""
    rows, places = one.touch(torch.tensor(ids))
    one.add(places, torch.ones_like(rows))
    return places


def test_rows_get_places_in_the_order_of_their_batches() -> None:
    one = made()
    # Within a batch by number; a row that is there keeps its place.
    assert looked(one, 5, 3, 5).tolist() == [1, 0, 1]
    assert looked(one, 0, 3).tolist() == [2, 0]
    assert one.rows[: one.count].tolist() == [3, 5, 0]
    assert one.gradient[: one.count].tolist() == [[2.0, 2.0], [2.0, 2.0], [1.0, 1.0]]


def test_the_padding_gets_no_gradient() -> None:
    one = made(padding=2)
    looked(one, 2, 4, 2)
    assert one.rows[:2].tolist() == [2, 4]
    assert one.gradient[:2].tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_the_room_grows_by_a_quarter_and_keeps_what_is_there() -> None:
    one = made(rows=3 * table.FIRST)
    sizes = []
    for start in range(0, 3 * table.FIRST, 256):
        looked(one, *range(start, start + 256))
        sizes.append(len(one.rows))
    # The last is the whole table.
    assert sizes == [*[1024] * 4, 1280, 1600, 2000, *[2500] * 2, *[3072] * 3]
    assert torch.equal(one.gradient, torch.ones(3 * table.FIRST, 2))
    assert torch.equal(one.rows, torch.arange(3 * table.FIRST))


def test_a_step_by_hand() -> None:
    one = made()
    looked(one, 1)
    one.step(GROUP, None)
    # Decay takes 5 %; the first step of Adam then moves by the rate against the sign of the gradient.
    assert one.pending == 0.95
    one.flush()
    expected = (torch.arange(12.0).view(6, 2) + 1) * 0.95
    expected[1] -= 0.1
    torch.testing.assert_close(one.weight.detach(), expected)
    assert one.pending == 1.0


def test_without_a_gradient_no_step_is_made() -> None:
    # As AdamW leaves a weight alone whose gradient is None, its decay too.
    one = made()
    one.touch(torch.tensor([1]))
    one.step(GROUP, None)
    assert one.pending == 1.0 and one.steps.item() == 0.0
    assert torch.equal(one.whole(), one.weight)


def test_a_row_that_is_touched_late_has_decayed() -> None:
    one = made()
    for _ in range(3):
        looked(one, 1)
        one.step(GROUP, None)
        one.forget_gradient()
    late, _ = one.touch(torch.tensor([4]))
    torch.testing.assert_close(late, torch.tensor([[9.0, 10.0]]) * 0.95**3)
    torch.testing.assert_close(one.read(torch.tensor([4, 5]))[1], torch.tensor([11.0, 12.0]) * 0.95**3)


def test_the_whole_state_has_zeros_where_nothing_was_touched() -> None:
    one = made()
    looked(one, 1)
    one.step(GROUP, None)
    state, weight = one.state(), one.weight.detach().clone()
    found = whole_state(state, weight)
    assert found["exp_avg"].abs().sum(1).nonzero().flatten().tolist() == [1]
    assert found["exp_avg_sq"].shape == (6, 2) and found["step"].item() == 1.0
    assert torch.equal(weight, one.whole())
