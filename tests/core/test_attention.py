"""Attention over one row of real tokens, against torch's own on each sequence apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tests.core.largest import Largest
from tunesmith.core import attention as module
from tunesmith.core.attention import Heads, attend, attend_backward, attention, read_tokens
from tunesmith.core.dropout import Masks
from tunesmith.core.layout import Layout

LENGTHS = {
    "one": [5],
    "equal": [4, 4, 4],
    "mixed": [3, 7, 1, 6],
    "one very long": [2, 61, 3],
    "many chunks": [*range(1, 20)],
    "with an empty one": [3, 0, 5],
}


def layout_of(lengths: list[int], causal: bool = False, quantum: int = 8) -> Layout:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return Layout.of(mask, causal, quantum)


def by_torch(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """[1, heads, total, size] -> [tokens, queries, size], each sequence alone."""
    parts = [x[0, :, : layout.tokens].split(list(layout.lengths), dim=1) for x in (q, k, v)]
    outs = [
        scaled_dot_product_attention(a[None], b[None], c[None], is_causal=layout.causal, scale=scale, enable_gqa=True)
        for a, b, c in zip(*parts, strict=True)
    ]
    return torch.cat(outs, dim=2)[0].transpose(0, 1)


def leaves(total: int, heads: Heads, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    counts = (heads.queries, heads.keys, heads.keys)
    return [torch.randn(1, n, total, heads.size).to(dtype).requires_grad_() for n in counts]


@pytest.mark.parametrize("piece", [1, 2 * 4 * 8 * 8, 1 << 30], ids=["one sequence", "some", "all"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [4, 2, 1])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_values_and_gradients_are_those_of_torch(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], keys: int, causal: bool, piece: int
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    layout, heads = layout_of(lengths, causal), Heads(4, keys, 8, 0.3)
    ours, theirs = leaves(layout.total, heads), leaves(layout.total, heads)
    grad = torch.randn(layout.tokens, 4, 8)
    out = attention(*ours, layout, 0.3)
    assert out.shape == (1, layout.total, 4, 8) and not out[0, layout.tokens :].any()
    expected = by_torch(*theirs, layout, 0.3)
    assert torch.allclose(out[0, : layout.tokens], expected, atol=1e-6)
    out[0, : layout.tokens].backward(grad)
    expected.backward(grad)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)


def test_no_more_scores_than_a_piece_holds_are_in_float32_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, heads = layout_of([16] * 24), Heads(4, 2, 8, 0.3)
    of_a_sequence = 4 * 16 * 16
    monkeypatch.setattr(module, "PIECE", 5 * of_a_sequence)
    row = torch.cat([part[0].transpose(0, 1).flatten(1) for part in leaves(layout.total, heads, torch.bfloat16)], 1)
    with Largest(torch.float32) as meanwhile:
        out, kept = attend(row.detach(), layout, heads)
        attend_backward(torch.ones_like(out), kept, layout, heads)
    assert meanwhile.numbers == 4 * of_a_sequence  # a power of two


@pytest.mark.parametrize(("keys", "causal"), [(4, False), (2, True)])
def test_long_chunks_by_the_library_give_the_same(monkeypatch: pytest.MonkeyPatch, keys: int, causal: bool) -> None:
    layout, heads = layout_of([3, 7, 1, 6], causal), Heads(4, keys, 8, 0.3)
    found = []
    for limit in (1000, 1):
        monkeypatch.setattr(module, "LONG", limit)
        parts = leaves(layout.total, heads)
        out = attention(*parts, layout, 0.3)
        out.square().sum().backward()
        found.append([out, *(part.grad for part in parts)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_row_in_bfloat16_is_near_the_one_in_float32() -> None:
    layout, heads = layout_of([3, 30, 1, 16]), Heads(4, 4, 8, 0.35)
    exact, rough = leaves(layout.total, heads), leaves(layout.total, heads, torch.bfloat16)
    a, b = attention(*exact, layout, 0.35), attention(*rough, layout, 0.35)
    assert b.dtype == torch.bfloat16 and torch.allclose(a, b.float(), atol=0.03)
    a.sum().backward()
    b.sum().backward()
    for one, other in zip(exact, rough, strict=True):
        assert torch.allclose(one.grad, other.grad.float(), atol=0.1, rtol=0.05)


def test_autocast_brings_queries_and_values_to_one_type() -> None:
    layout, heads = layout_of([3, 30, 1, 16]), Heads(4, 4, 8, 0.35)
    query, key, value = leaves(layout.total, heads)
    exact = attention(query, key, value, layout, 0.35)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention(query, key, value.bfloat16(), layout, 0.35, dropout=0.0)
    assert mixed.dtype == torch.bfloat16 and torch.allclose(mixed.float(), exact, atol=0.03)
    mixed.sum().backward()
    assert query.grad is not None and query.grad.dtype == torch.float32


def test_what_fills_the_row_up_takes_no_part() -> None:
    layout, heads = layout_of([3, 7, 1]), Heads(2, 2, 4, 0.5)
    assert layout.total > layout.tokens
    parts = leaves(layout.total, heads)
    first = attention(*parts, layout, 0.5)
    first.sum().backward()
    assert all(not part.grad[:, :, layout.tokens :].any() for part in parts)
    with torch.no_grad():
        for part in parts:
            part[:, :, layout.tokens :] = 1e4
        assert torch.equal(attention(*parts, layout, 0.5), first)


class TestOneTokenASequence:
    @pytest.mark.parametrize("causal", [False, True])
    @pytest.mark.parametrize("keys", [4, 2])
    @pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
    def test_it_is_what_all_tokens_give_there(self, lengths: list[int], keys: int, causal: bool) -> None:
        layout, heads = layout_of(lengths, causal), Heads(4, keys, 8, 0.3)
        # The middle token of each sequence is read, named in the order of the batch.
        middle = torch.zeros(len(lengths), dtype=torch.long)
        middle[layout.order] = layout.starts + torch.tensor(layout.lengths) // 2
        layout = replace(layout, read=middle)
        torch.manual_seed(2)
        row = torch.randn(layout.total, (4 + 2 * keys) * 8)
        tokens = read_tokens(layout)
        whole, kept = attend(row, layout, heads)
        queries = row[tokens, : 4 * 8].clone()
        out, kept_one = attend(row[:, 4 * 8 :].contiguous(), layout, heads, read=queries)
        assert torch.allclose(out, whole[tokens], atol=1e-6)
        grad = torch.randn(out.shape)
        expected, none = attend_backward(torch.zeros_like(whole).index_copy_(0, tokens, grad), kept, layout, heads)
        rest, of_queries = attend_backward(grad, kept_one, layout, heads, one=True)
        assert none is None and of_queries is not None
        assert torch.allclose(rest, expected[:, 4 * 8 :], atol=1e-5)
        assert torch.allclose(of_queries, expected[tokens, : 4 * 8], atol=1e-5)


class TestDropout:
    def test_the_backward_pass_drops_what_the_forward_pass_dropped(self) -> None:
        # With a fixed draw the result is linear in V: <grad, O(V)> = <dV, V> holds only for the same mask.
        layout, heads = layout_of([3, 9, 5]), Heads(2, 2, 4, 0.5)
        q, k, v = leaves(layout.total, heads)
        torch.manual_seed(3)
        out = attention(q, k, v, layout, 0.5, dropout=0.4)
        grad = torch.randn_like(out)
        out.backward(grad)
        assert (out * grad)[0, : layout.tokens].sum().item() == pytest.approx((v * v.grad).sum().item(), rel=1e-4)

    @pytest.mark.parametrize("which", [0, 1])
    def test_gradients_of_queries_and_keys_are_those_of_small_changes(self, which: int) -> None:
        layout, heads = layout_of([3, 6]), Heads(1, 1, 2, 0.5)
        parts = [part.detach().double() for part in leaves(layout.total, heads)]
        weights = torch.randn(layout.total, 1, 2, dtype=torch.float64)

        def value(moved: Tensor) -> Tensor:
            torch.manual_seed(4)  # the same masks every time
            given = [moved if number == which else part for number, part in enumerate(parts)]
            return (attention(given[0], given[1], given[2], layout, 0.5, dropout=0.3)[0] * weights).sum()

        x = parts[which].clone().requires_grad_()
        value(x).backward()
        step = torch.randn_like(x) * 1e-3  # scores are float32: steps much smaller drown in rounding
        found = (value(parts[which] + step) - value(parts[which] - step)).item() / 2
        assert (x.grad * step).sum().item() == pytest.approx(found, rel=2e-2, abs=1e-6)

    def test_the_mean_over_many_draws_is_what_nothing_dropped_gives(self) -> None:
        layout, heads = layout_of([5, 5]), Heads(2, 2, 4, 0.5)
        with torch.no_grad():
            parts = leaves(layout.total, heads)
            mean = torch.stack([attention(*parts, layout, 0.5, dropout=0.2) for _ in range(3000)]).mean(0)
            assert torch.allclose(mean, attention(*parts, layout, 0.5), atol=0.05)

    def test_the_pure_functions_leave_the_scale_to_their_caller(self) -> None:
        layout, heads = layout_of([5, 3]), Heads(1, 1, 4, 0.5)
        row = torch.randn(layout.total, 12)
        torch.manual_seed(5)
        masks = Masks(0.5, row.dtype)
        out, _ = attend(row, layout, heads, masks)
        torch.manual_seed(5)
        q, k, v = row.view(1, -1, 3, 1, 4).permute(2, 0, 3, 1, 4)
        assert masks.scale == 2.0 and torch.allclose(out * 2, attention(q, k, v, layout, 0.5, dropout=0.5)[0, :, 0])
