"""What frozen lower blocks give is computed once, without dropout, and read in later epochs.

Where the lowest blocks don't train, nor anything before them, and don't drop out, their output is a fixed function of
the text: h_k(x) = f_k(... f_1(e(x))). It is kept for every sequence, by a hash of its tokens, until a weight in there
changes; blocks above, and the head, get the same numbers as if it was computed anew, within rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.core import anatomy
from tunesmith.core.layout import Layout
from tunesmith.core.notes import note
from tunesmith.train import frozen_part, frozen_plan
from tunesmith.train.frozen_part import Lower
from tunesmith.train.frozen_plan import Plan
from tunesmith.train.frozen_store import Store

WASTED = 3
"""How many times what was kept may go unread because weights changed or trained again, before nothing is kept any more.
That more is frozen than before does not count: it can't happen often, and what comes then is worth more.
"""


@dataclass
class Report:
    """What became of it.

    blocks: how many of the lowest blocks don't train, as of the last call, `of` how many. why: why nothing is kept;
    empty where something is, or where nothing was run yet. kept, bytes: sequences in the store, and their size. read,
    computed: how many times a sequence was taken from it, and was computed.
    """

    blocks: int = 0
    of: int = 0
    why: str = ""
    kept: int = 0
    bytes: int = 0
    read: int = 0
    computed: int = 0


@contextmanager
def frozen(model: nn.Module, megabytes: int, dropout: bool = False) -> Iterator[Report]:
    """Inside, blocks below everything that trains run without dropout and without a graph, and what they give is kept.

    Enter it inside `core.unpadded.unpadded` and after whatever sets a block's forward; where a call's blocks are padded
    nothing is kept. megabytes: the most that is kept, half of it in memory and then in a temporary file; 0 computes it
    every time. dropout: whether frozen blocks drop out as the others do; then nothing of this applies.

    States are kept in the type that the blocks give, so that what is read is what was computed. They are dropped when a
    frozen weight changes, or when other blocks are frozen. Keys are 128 bits of BLAKE2b of a sequence's token ids (and
    types and positions, where given), so that a text which changes is computed.
    """
    report = Report()
    if dropout:
        report.why = "frozen blocks drop out (speed.frozen_dropout)"
        yield report
        return
    keeper = _Keeper(anatomy.backbone(model), Store(megabytes * 2**20), report)
    begin = keeper.backbone.register_forward_pre_hook(keeper.begin, with_kwargs=True)
    end = keeper.backbone.register_forward_hook(keeper.end, always_call=True)
    try:
        yield report
    finally:
        begin.remove()
        end.remove()
        keeper.store.clear()


@dataclass
class _Call:
    """One forward pass of the backbone.

    depth: how many blocks are frozen. keys and starts: of each sequence; None, and `why`, where nothing is kept.
    undo_before, undo: put modules back as they were. plan: what is computed, known when the first block begins.
    made: the call of the module before the blocks, where it was put off.
    """

    depth: int
    keys: list[bytes] | None
    why: str
    starts: list[int | None]
    undo_before: Callable[[], None] = lambda: None
    undo: list[Callable[[], None]] = field(default_factory=list)
    plan: Plan | None = None
    made: Callable[[], Tensor] | None = None


class _Keeper:
    """Around each call of a backbone. A deep copy of the backbone is left alone."""

    reads_states = False
    """What says to `core.unpadded_hooks` that no token is read here which the head does not read."""

    def __init__(self, backbone: nn.Module, store: Store, report: Report) -> None:
        self.backbone, self.store, self.report = backbone, store, report
        self.names = list(inspect.signature(type(backbone).forward).parameters)[1:]  # without `self`
        self.part: Lower | str | None = None
        self.call: _Call | None = None
        self.finding = False
        self.said: set[tuple[int, str]] = set()
        self.reading: bool | None = None
        self.weights: Any = None
        self.wasted = self.since = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Keeper:
        return self

    def begin(self, module: nn.Module, given: tuple[Any, ...], by_name: dict[str, Any]) -> None:
        """Before a call: the frozen part is as at evaluation, and its blocks' forwards are ours."""
        if module is not self.backbone or self.finding or self.call is not None:
            return
        every = {**dict(zip(self.names, given, strict=False)), **by_name}
        inputs = {name: value for name, value in every.items() if value is not None}
        if not all(isinstance(value, Tensor | bool | int | float | str) for value in inputs.values()):
            return  # a cache, or what another part of the model gave: the text alone does not tell what comes out
        part = self._part(inputs)
        depth = self.report.blocks = 0 if part is None else part.depth()
        if part is None or not depth:
            return
        why = self._why(part, depth)
        keys = why or frozen_plan.keys(inputs, self._salt(part))
        known, why = (keys, "") if isinstance(keys, list) else (None, keys)
        call = self.call = _Call(depth, known, why, self.store.find(known or []))
        for number, block in enumerate(part.blocks[:depth]):
            call.undo.append(frozen_part.stand_in(block, partial(self._block, number)))
        if known and part.maker is not None and None not in call.starts:
            call.undo_before = frozen_part.hush(part.beside)
            call.undo.append(frozen_part.stand_in(part.maker, partial(self._maker, inputs["input_ids"])))
        else:
            self._hush(call, part)

    def _hush(self, call: _Call, part: Lower) -> None:
        """Let nothing drop out that stands before the blocks or in the frozen ones."""
        call.undo_before = frozen_part.hush(part.before)
        call.undo.append(frozen_part.hush(part.inside(call.depth)))

    def end(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        """After a call, also one that failed: all is as it was."""
        if module is not self.backbone or self.finding or self.call is None:
            return
        call, self.call = self.call, None
        if call.plan is not None:
            self._count(call.plan)
        call.undo_before()
        for undo in reversed(call.undo):
            undo()

    def _part(self, inputs: dict[str, Any]) -> Lower | None:
        """The lower part of the backbone, found at the first call that may need it."""
        if self.part is None or (isinstance(self.part, Lower) and not self.part.same()):
            if all(parameter.requires_grad for parameter in self.backbone.parameters()):
                return None
            self.finding = True
            try:
                self.part = frozen_part.find(self.backbone, inputs)
            finally:
                self.finding = False
            self._drop()
            if isinstance(self.part, str):
                self.report.why = self.part
                note(f"Frozen blocks run as the others do: {self.part}")
            else:
                self.report.of = len(self.part.blocks)
        return self.part if isinstance(self.part, Lower) else None

    def _why(self, part: Lower, depth: int) -> str:
        """Why nothing of this call is kept; what was kept for other weights is dropped."""
        weights = (depth, frozen_part.weights(part.modules(depth)))
        if weights != self.weights:
            more = self.weights is not None and depth > self.weights[0]
            self.wasted += self.store.kept > 0 and self.report.read == self.since and not more
            self._drop()
            self.weights = weights
        stranger = part.stranger(depth)
        reasons = {
            "speed.frozen_megabytes is 0": not self.store.budget,
            part.linked: bool(part.linked),
            f"the hook {stranger} acts in them": bool(stranger),
            "their weights keep changing": self.wasted >= WASTED,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _drop(self) -> None:
        self.store.clear()
        self.reading, self.since = None, self.report.read

    def _salt(self, part: Lower) -> bytes:
        """What else the states depend on: what was put in and acts, and the type that products are computed in."""
        device = anatomy.device_of(self.backbone).type
        mixed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return part.switches() + str(mixed).encode()

    def _maker(self, ids: Tensor, forward: Callable[..., Tensor], *given: Any, **by_name: Any) -> Tensor:
        """In the place of the module before the blocks, where all is kept: zeros of the right shape, which take no
        memory; the blocks call it after all if they must.
        """
        call, part = self.call, self.part
        assert call is not None and isinstance(part, Lower)
        call.made = partial(forward, *given, **by_name)
        return torch.zeros((), dtype=part.dtype, device=ids.device).expand(*ids.shape, part.width)

    def _block(self, number: int, forward: Callable[..., Any], *given: Any, **by_name: Any) -> Any:
        """In the place of a frozen block's forward: it gets what is to be computed alone, and the last one gives what
        is kept as well.
        """
        call = self.call
        assert call is not None
        if number == 0:
            given, by_name = self._start(call, given, by_name)
        plan = call.plan
        with torch.no_grad():
            if plan is None:
                return forward(*given, **by_name)
            last = number == call.depth - 1
            if plan.known.all():
                hidden: Tensor = given[0] if given else by_name["hidden_states"]
                return plan.result(None, self.store, hidden.device) if last else hidden
            if plan.known.any():
                given, by_name = plan.arguments(given, by_name, number == 0)
            output = forward(*given, **by_name)
            return self._finish(plan, output) if last else output

    def _start(
        self, call: _Call, given: tuple[Any, ...], by_name: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before the first block: make the plan. What the block gets, with hidden states that were put off."""
        layout = next((one for one in (*given, *by_name.values()) if isinstance(one, Layout)), None)
        if layout is not None and call.keys is not None:
            reading = layout.read is not None and call.depth == self.report.of
            if self.reading in (None, reading):
                call.plan = Plan.of(layout, reading, call.keys, call.starts)
        self._say(call, call.why or ("its batches are padded" if layout is None else ""))
        if call.plan is not None or call.made is None:
            call.undo_before()  # a dropout before the blocks may stand after them too
            return given, by_name
        hidden = self._make(call, call.made)
        if layout is not None:
            hidden = hidden.flatten(0, 1).index_select(0, layout.taken)[None]
        return ((hidden, *given[1:]), by_name) if given else (given, {**by_name, "hidden_states": hidden})

    def _make(self, call: _Call, made: Callable[[], Tensor]) -> Tensor:
        """Hidden states that were put off, as the blocks must run after all."""
        assert isinstance(self.part, Lower)
        call.undo_before()
        self._hush(call, self.part)
        with torch.no_grad():
            hidden = made()
        call.undo_before()
        return hidden

    def _finish(self, plan: Plan, output: Tensor) -> Tensor:
        """After the last frozen block: keep what is new, and put it together with what is kept."""
        full = self.store.full
        states = plan.keep(output, self.store)
        self.reading = plan.reading
        if self.store.full and not full:
            note(
                f"What the frozen blocks gave for {self.store.kept:,} texts is kept; {self.store.full}, so the others "
                "are computed every time."
            )
        return plan.result(states, self.store, output.device) if plan.known.any() else output

    def _count(self, plan: Plan) -> None:
        read = int(plan.known.sum())
        self.report.read += read
        self.report.computed += len(plan.known) - read
        self.report.kept, self.report.bytes = self.store.kept, self.store.size

    def _say(self, call: _Call, why: str) -> None:
        """Say once, in training, for every number of frozen blocks, what is done about them."""
        self.report.why = why
        if (call.depth, why) in self.said or not self.backbone.training:
            return
        self.said.add((call.depth, why))
        then = f"computed every time, as {why}" if why else "computed once a text and kept"
        note(
            f"The lowest {call.depth} of {self.report.of} blocks don't train: they run without dropout, and what they "
            f"give is {then}."
        )
