"""The row of real tokens, by hand."""

from __future__ import annotations

import pytest
import torch

from tunesmith.core.layout import Layout

# Three sequences of 3, 1 and 2 tokens, the last padded on the left.
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]]).bool()


def test_sequences_stand_by_length_and_tokens_by_place() -> None:
    layout = Layout.of(MASK, causal=False, quantum=4)
    assert layout.order.tolist() == [1, 2, 0]
    assert layout.lengths == (1, 2, 3)
    # The second sequence begins at 4 of the flattened batch, the third's tokens stand at 10 and 11.
    assert layout.places.tolist() == [4, 10, 11, 0, 1, 2]
    assert layout.starts.tolist() == [0, 1, 3]


def test_the_row_is_filled_up_with_its_first_token() -> None:
    layout = Layout.of(MASK, causal=False, quantum=4)
    assert (layout.tokens, layout.total) == (6, 8)
    assert layout.taken.tolist() == [4, 10, 11, 0, 1, 2, 4, 4]
    assert Layout.of(MASK, causal=False, quantum=1).total == 6


@pytest.mark.parametrize(
    ("tokens", "total"), [(1, 32), (511, 512), (513, 576), (1000, 1024), (1025, 1152), (4000, 4096)]
)
def test_long_rows_have_rounder_lengths(tokens: int, total: int) -> None:
    assert Layout.of(torch.ones(1, tokens).bool(), causal=False).total == total


def test_a_sequence_without_tokens_is_left_out() -> None:
    layout = Layout.of(torch.tensor([[0, 0], [1, 1]]).bool(), causal=True)
    assert layout.order.tolist() == [1]
    assert layout.lengths == (2,)


def test_chunks_hold_every_token_once_and_close_the_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (50,), generator=generator)
    mask = torch.arange(60) < lengths[:, None]
    layout = Layout.of(mask, causal=False)
    assert sum(chunk.last - chunk.first for chunk in layout.chunks) == 50
    assert [chunk.stop for chunk in layout.chunks[:-1]] == [chunk.start for chunk in layout.chunks[1:]]
    assert layout.chunks[-1].stop == layout.tokens == int(lengths.sum())
    for chunk in layout.chunks:
        assert chunk.time >= layout.lengths[chunk.last - 1]
        assert chunk.time % 4 == 0
        if chunk.full:
            continue
        count = chunk.last - chunk.first
        row = torch.arange(chunk.start, chunk.stop)
        padded = row[chunk.out].view(count, chunk.time)
        # Every token comes back from its place in the chunk, and exactly the other places are closed.
        assert padded.ravel()[chunk.into].tolist() == row.tolist()
        opened = (chunk.closed == 0).view(count, chunk.time)
        assert opened.sum(dim=1).tolist() == list(layout.lengths[chunk.first : chunk.last])


def test_one_chunk_where_all_are_alike() -> None:
    layout = Layout.of(torch.ones(6, 24).bool(), causal=False)
    assert [(chunk.first, chunk.last, chunk.time, chunk.full) for chunk in layout.chunks] == [(0, 6, 24, True)]


@pytest.mark.parametrize(
    ("longest", "time"), [(1, 16), (16, 16), (17, 24), (24, 24), (57, 64), (121, 128), (129, 144), (257, 288)]
)
def test_chunks_are_of_round_lengths(longest: int, time: int) -> None:
    layout = Layout.of(torch.arange(300)[None] < torch.tensor([[1], [longest]]), causal=False)
    assert [chunk.time for chunk in layout.chunks] == [time]
