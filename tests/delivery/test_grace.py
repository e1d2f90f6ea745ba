"""Promise 8 in every combination: whatever hangs or fails, the process ends within its grace, and its books are whole."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.delivery.engine import Rules
from bridge.errors import SinkDownError, TryAgainError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Outcome, Refused, Unknown
from bridge.source import Batch
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import World, world

Step = Literal["open", "send", "slow send", "close"]


class Hanging(MemorySink):
    """Never comes back from one of its calls."""

    def __init__(self, at: Step | None, answer: Callable[[Event], Outcome] = lambda _: CONFIRMED) -> None:
        super().__init__(answer)
        self._at = at

    async def open(self) -> None:
        await self._hang("open")

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        await self._hang("send")
        await asyncio.sleep(4 * (self._at == "slow send"))
        return await super().send(events, deadline)

    async def close(self) -> None:
        await self._hang("close")

    async def _hang(self, step: Step) -> None:
        if self._at == step:
            await asyncio.Event().wait()


def mixed(event: Event) -> Outcome:
    """Every kind of answer, one of them late and one after everything."""
    loop = asyncio.get_running_loop()
    late, later = Unknown(loop.create_future()), Unknown(loop.create_future())
    loop.call_later(7, late.answer.set_result, CONFIRMED)
    loop.call_later(1e6, later.answer.set_result, CONFIRMED)
    kinds: list[Outcome] = [CONFIRMED, CONFIRMED, Again("503"), Refused("400"), late, later]
    return kinds[int(str(event.body)[:4]) % len(kinds)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What goes on, and what goes wrong, when the process is told to end."""

    answer: Callable[[Event], Outcome]
    sink_hangs: Step | None
    letters_hang: Step | None
    acks: str
    polls_hang: bool
    damage: bool
    down: bool
    ordered: bool
    messages: int
    size: int
    grace: float
    running_for: float
    signals: list[tuple[float, str]]
    """The pause before each, in seconds, and the engine's word for it."""


CASES = st.builds(
    Case,
    answer=st.sampled_from([mixed, lambda _: CONFIRMED, lambda _: Again("503")]),
    sink_hangs=st.sampled_from([None, "open", "send", "slow send", "close"]),
    letters_hang=st.sampled_from([None, "open", "send", "close"]),
    acks=st.sampled_from(["work", "fail", "slow", "hang"]),
    polls_hang=st.booleans(),
    damage=st.booleans(),
    down=st.booleans(),
    ordered=st.booleans(),
    messages=st.sampled_from([0, 1, 40, 200]),
    size=st.sampled_from([4, 50_000]),
    grace=st.sampled_from([1.0, 4.0, 45.0]),
    running_for=st.floats(0.002, 60),
    signals=st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["drain", "interrupt"])), min_size=1, max_size=3),
)


def make_it_hard(w: World, case: Case) -> None:
    receive = w.source.receive

    async def damaging(max_messages: int, wait_seconds: int) -> Batch:
        if case.polls_hang and len(w.source.polls) > 3:
            await asyncio.Event().wait()
        batch = await receive(max_messages, wait_seconds)
        torn = [replace(d, damage="torn") if case.damage and n % 7 == 3 else d for n, d in enumerate(batch.deliveries)]
        return replace(batch, deliveries=torn)

    def refuse() -> None:
        if case.acks == "fail":
            raise TryAgainError("500")

    w.source.receive = damaging  # type: ignore[method-assign]
    w.source.refuse_ack = refuse
    w.source.ack_seconds = {"slow": 3.0, "hang": 1e6}.get(case.acks, 0.001)


A_SINK_THAT_DOES_NOT_CLOSE = Case(
    answer=mixed, sink_hangs="close", letters_hang=None, acks="work", polls_hang=False, damage=False, down=False,
    ordered=False, messages=40, size=4, grace=1.0, running_for=1.0, signals=[(0.0, "drain")],
)  # fmt: skip


@settings(max_examples=100)
@example(case=A_SINK_THAT_DOES_NOT_CLOSE)
@given(case=CASES)
def test_whatever_hangs_the_process_ends_within_its_grace_and_accounts_for_every_delivery(case: Case) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        sink, rules = Hanging(case.sink_hangs, case.answer), Rules(ordered=case.ordered, grace_seconds=case.grace)
        async with world(sink, dead_letters=Hanging(case.letters_hang), rules=rules) as w:
            make_it_hard(w, case)
            w.source.publish(*(f"{number:4}".ljust(case.size) for number in range(case.messages)))
            await asyncio.sleep(case.running_for)
            if case.down:
                sink.trouble = SinkDownError("no connection")
            must_end_by = now() + case.signals[0][0] + case.grace + 0.01
            for pause, signal in case.signals:
                await asyncio.wait([w.running], timeout=pause)
                getattr(w.engine, signal)()
            await asyncio.wait([w.running], timeout=max(0.0, must_end_by - now()))
            assert w.running.done()
            w.running.result()
            assert w.facts.pollers == w.facts.beside == w.room.held == 0
            counts = w.facts.counts
            assert counts.received == counts.acked + sum(counts.not_acked.values()) + sum(counts.left.values())
            if counts.left["shutdown"] or counts.not_acked["shutdown"]:
                assert now() < (w.facts.left_until or 0) <= now() + 301

    run(main())
