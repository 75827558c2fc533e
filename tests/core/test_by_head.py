"""Lines of a row against the lines of a chunk, by plain indexing of each sequence."""

from __future__ import annotations

import pytest
import torch

from tunesmith.core.by_head import by_head, by_token, clear_, parts_of
from tunesmith.core.layout import Layout

SIZE = 3
LENGTHS = {"mixed": [3, 17, 1, 9], "full": [16, 16], "many chunks": [*range(1, 50)]}


def layout_of(lengths: list[int]) -> Layout:
    return Layout.of(torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None], causal=False)


@pytest.mark.parametrize("counts", [(2, 2, 2), (4, 2, 2), (1, 1), (3,)])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_head_of_every_token_stands_where_it_should_and_comes_back(
    lengths: list[int], counts: tuple[int, ...]
) -> None:
    layout = layout_of(lengths)
    row = torch.randn(layout.total, sum(counts) * SIZE)
    back = torch.full_like(row, torch.nan)
    for chunk in layout.chunks:
        parts = by_head(row[chunk.start : chunk.stop], layout, chunk, counts, SIZE)
        heads = row.view(layout.total, -1, SIZE).split(counts, dim=1)
        for part, own, count in zip(parts, heads, counts, strict=True):
            placed = part.view(chunk.last - chunk.first, count, chunk.time, SIZE)
            for number in range(chunk.first, chunk.last):
                start, length = int(layout.starts[number]), layout.lengths[number]
                expected = own[start : start + length].transpose(0, 1)
                assert torch.equal(placed[number - chunk.first, :, :length], expected)
        by_token(torch.cat(parts), layout, chunk, counts, back[chunk.start : chunk.stop])
        assert [part.shape for part in parts_of(torch.cat(parts), chunk, counts)] == [part.shape for part in parts]
    assert torch.equal(back[: layout.tokens], row[: layout.tokens])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_places_without_a_token_are_cleared_and_no_other(dtype: torch.dtype) -> None:
    layout = layout_of([3, 17, 1, 9])
    (chunk,) = layout.chunks
    part = torch.ones(4 * 2 * chunk.time, SIZE, dtype=dtype)
    cleared = clear_(part, layout, chunk).view(4, 2, chunk.time, SIZE)
    expected = (torch.arange(chunk.time) < torch.tensor([1, 3, 9, 17])[:, None])[:, None, :, None].expand_as(cleared)
    assert torch.equal(cleared, expected.to(dtype)) and cleared.data_ptr() == part.data_ptr()


def test_lines_are_made_once_for_all_blocks() -> None:
    layout = layout_of([3, 17, 1, 9])
    row = torch.randn(layout.total, 6 * SIZE)
    (chunk,) = layout.chunks
    for _ in range(2):
        by_head(row[chunk.start : chunk.stop], layout, chunk, (2, 2, 2), SIZE)
    assert len(layout.kept) == 1
