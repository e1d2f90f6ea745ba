"""The contract of `bridge.sinks` as tests: every sink passes them, the built-in ones as well as yours.

    from bridge.testing.contract import Rig, SinkContract

    class FileRig(Rig):
        def __init__(self, path): self.path = path
        def sink(self): return FileSink(FileSettings(path=self.path))
        async def held(self): return [json.loads(line)["id"] for line in self.path.read_text().splitlines()]

    class TestFileSink(SinkContract):
        @pytest.fixture
        async def rig(self, tmp_path): return FileRig(tmp_path / "events")

Each test says in its name what a sink promises. Those that want the other side broken or frozen are skipped until the rig can
do that: see `Rig`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ClassVar

try:
    import pytest
    import pytest_asyncio  # noqa: F401 - runs the tests, and would be missed only by way of a riddle
except ImportError as problem:
    raise ImportError(
        f"bridge.testing.contract needs {problem.name}: pip install 'rocketmq-bridge[testing]'", name=problem.name
    ) from problem

from bridge.errors import FixSettingsError, SinkDownError
from bridge.event import Event
from bridge.sinks import Again, Confirmed, Outcome, ProbedSink, Refused, Unknown
from bridge.testing.caller import SLACK_SECONDS, Caller, Settled, opened
from bridge.testing.events import make_event
from bridge.testing.rig import Rig, down, frozen

__all__ = ["Rig", "SinkContract"]

_LARGEST = 4 * 1024 * 1024
"""The largest body of a message, in bytes (protocol.md 9)."""
_LONGEST_STALL_SECONDS = 0.75
"""For how long a sink may keep the event loop to itself, on a busy machine."""
_LANES = 4
"""How many send at once, through an outage."""
_FORMS = (
    "",
    "text with\r\nline breaks, \0, \x85, \u2028, 茶 🍵",
    '{"a":\r\n 1.10, "z": 12345678901234567890123, "b": ["x\\r\\ny"]}',
    "half of a pair: \ud83c",
)
"""A body of each kind: nothing, text, JSON, and what no text in UTF-8 can hold."""


@pytest.mark.asyncio
class SinkContract:
    """Inherit from it in a class whose name begins with Test, and give that a fixture `rig` that makes a `Rig`."""

    patience_seconds: ClassVar[float] = 20.0
    """How long anything may take that has no bound of its own: opening, and recovering from an outage."""
    outage_seconds: ClassVar[float] = 1.0
    """For how long the other side stays frozen, or away. Timeouts of the sink itself should be longer in its rig's settings,
    else an answer is cut that could still come, and what an event's fate was can't be told.
    """

    # ---- made and opened -----------------------------------------------------------------------------------------------

    async def test_every_setting_is_described(self, rig: Rig) -> None:
        """`bridge sinks`, `bridge run --help` and errors show the descriptions to people."""
        settings = type(rig.sink()).Settings
        without = [name for name, field in settings.model_fields.items() if not field.description]
        assert not without, f"{settings.__name__} has fields without description=…: {', '.join(without)}"

    async def test_is_made_without_an_event_loop(self, rig: Rig) -> None:
        """`__init__` keeps the settings; what needs an event loop, or the other side, is for `open`."""
        try:
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(rig.sink).result()
        except RuntimeError as problem:
            raise AssertionError(f"where no event loop runs, making the sink raised {problem!r}") from problem

    async def test_opens_when_the_other_side_has_come_up(self, rig: Rig) -> None:
        """`open` raises SinkDownError, and is then called again, of the same object. It may also return and connect later."""
        caller = Caller(rig.sink(), self.patience_seconds)
        event = make_event()
        async with down(rig):
            is_open = await caller.try_to_open()
        if not is_open:
            await caller.open()
        await caller.deliver(event)
        await caller.close()
        await self._holds(rig, [event])

    async def test_closes_though_it_was_never_opened(self, rig: Rig) -> None:
        """A bridge that is stopped before its sink was up closes it all the same."""
        await Caller(rig.sink(), self.patience_seconds).close()

    # ---- confirmed means durable ---------------------------------------------------------------------------------------

    async def test_answers_for_each_event(self, rig: Rig) -> None:
        """As many answers as events, in their order: here nothing is wrong, so that each is confirmed."""
        async with self._opened(rig) as caller:
            for size in (1, 2, 16):
                events = [make_event(f"{number} of {size}") for number in range(size)]
                self._all_confirmed(await caller.send_and_settle(*events))

    async def test_confirms_only_what_is_durable(self, rig: Rig) -> None:
        """In the moment of the confirmation the other side holds the event, once."""
        sent: list[Event] = []
        async with self._opened(rig) as caller:
            for size in (1, 16, 3, 16):
                events = [make_event(f"{number} of {size}") for number in range(size)]
                self._all_confirmed(await caller.send_and_settle(*events))
                sent += events
                await self._holds(rig, sent, exactly=True)
        await self._holds(rig, sent, exactly=True)

    async def test_confirms_nothing_while_the_other_side_is_frozen(self, rig: Rig) -> None:
        """What stands in a buffer is not durable."""
        async with self._opened(rig) as caller, frozen(rig):
            events = [make_event(f"{number}") for number in range(4)]
            for outcome in await self._answers(caller, events, within=self.outage_seconds):
                assert not isinstance(outcome, Confirmed), (
                    "an event was confirmed that the other side, frozen, can't have taken"
                )

    async def test_confirms_nothing_while_the_other_side_is_down(self, rig: Rig) -> None:
        """An event that waits for the connection to come back is not durable."""
        async with self._opened(rig) as caller, down(rig):
            for _ in range(2):
                for outcome in await self._answers(caller, [make_event()], within=self.outage_seconds):
                    assert not isinstance(outcome, Confirmed), "an event was confirmed while there was nobody to take it"

    async def test_what_was_confirmed_outlives_an_outage(self, rig: Rig) -> None:
        """The other side is killed in the moment of the confirmation."""
        events = [make_event(f"{number}") for number in range(16)]
        async with self._opened(rig) as caller:
            outcomes = await caller.send_and_settle(*events)
            async with down(rig):
                pass
            await self._holds(rig, self._confirmed(events, outcomes))

    async def test_what_is_held_is_the_event(self, rig: Rig) -> None:
        """Byte for byte, whatever the body is; line breaks in a JSON body may have become spaces."""
        events = [make_event(body) for body in _FORMS]
        async with self._opened(rig) as caller:
            await caller.deliver(*events)
            contents = await rig.contents()
        for event in events:
            assert event.id in contents, f"nothing is held of the event with the body {event.body!r}"
            held = contents[event.id]
            written = (event.structured(), event.data)
            one_line = [whole.replace(b"\r", b" ").replace(b"\n", b" ") for whole in written]
            assert held in (*written, *one_line), f"of the event {written[0]!r} what is held is {held!r}"

    # ---- exactly the events that failed --------------------------------------------------------------------------------

    async def test_names_exactly_the_events_that_failed(self, rig: Rig) -> None:
        """What is refused is refused alone, wherever it stands among others, and hurts nothing that comes later."""
        async with self._opened(rig) as caller:
            good: list[Event] = []
            for position in (0, 2, 4):
                events = [make_event(f"{position}.{number}") for number in range(4)]
                good += events
                events.insert(position, rig.unacceptable())
                outcomes = list(await caller.send_and_settle(*events))
                refusal = outcomes.pop(position)
                assert isinstance(refusal, Refused), f"what can't be taken was answered with {refusal}"
                assert refusal.reason, "a refusal has a reason, which is shown to people"
                self._all_confirmed(outcomes)
            await self._holds(rig, good, exactly=True)

    async def test_a_refusal_in_one_send_hurts_no_other(self, rig: Rig) -> None:
        """Several send at once, and one of them sends what can't be taken."""
        batches = [[make_event(f"{batch}.{number}") for number in range(4)] for batch in range(4)]
        batches.insert(2, [rig.unacceptable()])
        async with self._opened(rig) as caller:
            good = await asyncio.gather(*(caller.send_and_settle(*batch) for batch in batches))
            refused, _ = good.pop(2), batches.pop(2)
            assert isinstance(refused[0], Refused), f"what can't be taken was answered with {refused[0]}"
            for outcomes in good:
                self._all_confirmed(outcomes)
            await self._holds(rig, [event for batch in batches for event in batch], exactly=True)

    async def test_the_largest_message_is_taken_or_refused_and_hurts_no_other(self, rig: Rig) -> None:
        """A message has 4 MB at most; whoever can't take that says so for good, as it will never be smaller."""
        before, largest, after = make_event("before"), make_event("茶" * (_LARGEST // 3)), make_event("after")
        async with self._opened(rig) as caller:
            first, outcome, last = await caller.send_and_settle(before, largest, after)
            self._all_confirmed([first, last])
            assert not isinstance(outcome, Again), f"4 MB were answered with {outcome}, which goes on for as long as it is kept"
            await caller.deliver(later := make_event("later"))
            taken = self._confirmed([before, largest, after], [first, outcome, last])
            await self._holds(rig, [*taken, later], exactly=True)

    # ---- the deadline --------------------------------------------------------------------------------------------------

    async def test_answers_by_the_deadline(self, rig: Rig) -> None:
        """Whatever the other side does; what isn't known by then is Unknown."""
        loop = asyncio.get_running_loop()
        async with self._opened(rig) as caller, frozen(rig):
            for _ in range(3):
                end = loop.time() + self.outage_seconds
                await self._answers(caller, [make_event(), make_event()], within=self.outage_seconds)
                late = loop.time() - end
                assert late < SLACK_SECONDS, f"send answered {late:.1f} s after its deadline"

    async def test_begins_nothing_after_the_deadline(self, rig: Rig) -> None:
        """What is handed over too late can't be acknowledged in time, and comes again although it was written."""
        events = [make_event(f"{number}") for number in range(4)]
        async with self._opened(rig) as caller:
            for event in events:
                (outcome,) = await self._answers(caller, [event], within=-1.0)
                assert isinstance(outcome, Again), f"an event whose deadline had passed was answered with {outcome}"
        held = await rig.held()
        assert not {event.id for event in events} & {*held}, "an event was handed over after its deadline"

    async def test_what_is_to_be_tried_again_is_not_on_its_way(self, rig: Rig) -> None:
        """Again says that nothing of an event was handed over. What was, and isn't answered, is Unknown, however late it is."""
        events = [make_event(f"{number}") for number in range(6)]
        async with self._opened(rig) as caller:
            async with frozen(rig):
                sends = [self._answers(caller, [event], within=self.outage_seconds) for event in events]
                outcomes = [outcome for (outcome,) in await asyncio.gather(*sends)]
            for outcome in outcomes:
                await caller.settle(outcome)
            await caller.deliver(make_event("afterwards"))
        held = await rig.held()
        for event, outcome in zip(events, outcomes, strict=True):
            assert not (isinstance(outcome, Again) and event.id in held), (
                f"an event was answered with {outcome}, and arrived all the same: sent again, it arrives twice"
            )

    async def test_a_caller_that_stops_waiting_loses_nothing(self, rig: Rig) -> None:
        """What is unknown at the deadline becomes known when the other side goes on, and is then true."""
        events = [make_event(f"{number}") for number in range(6)]
        async with self._opened(rig) as caller:
            async with frozen(rig):
                sends = [self._answers(caller, events[at : at + 2], within=self.outage_seconds) for at in (0, 2, 4)]
                outcomes = [outcome for answers in await asyncio.gather(*sends) for outcome in answers]
            settled = [await caller.settle(outcome) for outcome in outcomes]
            confirmed = self._confirmed(events, settled)
            await self._holds(rig, confirmed)
            rest = [event for event in events if event not in confirmed]
            if rest:
                await caller.deliver(*rest)
            await self._holds(rig, events)

    async def test_leaves_the_event_loop_to_others(self, rig: Rig) -> None:
        """Whatever blocks is for a thread: everything else in the bridge runs in the same event loop."""
        async with self._opened(rig) as caller, frozen(rig):
            longest, last = 0.0, time.monotonic()
            sending = asyncio.ensure_future(self._answers(caller, [make_event()], within=self.outage_seconds))
            while not sending.done():
                await asyncio.sleep(0.01)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await sending
        assert longest < _LONGEST_STALL_SECONDS, f"the sink kept the event loop to itself for {longest:.2f} s"

    # ---- several at once -----------------------------------------------------------------------------------------------

    async def test_two_sends_at_once_each_get_their_own_answer(self, rig: Rig) -> None:
        """Pollers send independently of each other; here eight at once, of different sizes, again and again."""
        batches = [[make_event(f"{batch}.{number}") for number in range(1 + batch % 5)] for batch in range(40)]
        async with self._opened(rig) as caller:
            for start in range(0, len(batches), 8):
                sends = [caller.send_and_settle(*batch) for batch in batches[start : start + 8]]
                for outcomes in await asyncio.gather(*sends):
                    self._all_confirmed(outcomes)
        await self._holds(rig, [event for batch in batches for event in batch], exactly=True)

    # ---- outages -------------------------------------------------------------------------------------------------------

    async def test_an_outage_in_the_middle_loses_nothing(self, rig: Rig) -> None:
        """Sends go on all the while, and what isn't confirmed is sent again: in the end all is held."""
        events: list[Event] = []
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def deliver_until_it_is_over(caller: Caller) -> None:
            while not over.is_set():
                events.append(event := make_event())
                await caller.deliver(event)
                if len(events) >= 4 * _LANES and not begun.done():
                    begun.set_result(None)

        async with self._opened(rig) as caller:
            lanes = [asyncio.create_task(deliver_until_it_is_over(caller)) for _ in range(_LANES)]
            try:
                await asyncio.wait([begun, *lanes], return_when=asyncio.FIRST_COMPLETED)
                async with down(rig):
                    for outcome in await self._answers(caller, [make_event()], within=self.outage_seconds):
                        assert not isinstance(outcome, Confirmed), "an event was confirmed while there was nobody to take it"
                    await asyncio.sleep(self.outage_seconds)  # others try again meanwhile
            finally:
                over.set()
                await asyncio.gather(*lanes)
        await self._holds(rig, events)

    async def test_an_outage_is_no_refusal(self, rig: Rig) -> None:
        """An event that is refused is given up for good; an outage must not empty a topic into the dead letters."""
        async with self._opened(rig) as caller:
            async with down(rig):
                outcomes = await self._answers(caller, [make_event(), make_event()], within=self.outage_seconds)
            for outcome in outcomes:
                settled = await caller.settle(outcome)
                assert not isinstance(settled, Refused), f"an outage was answered with {settled}"

    async def test_the_probe_tells_up_from_down(self, rig: Rig) -> None:
        """It is what ends the polling pause of an outage, without a message at stake."""
        async with self._probed(rig) as caller:
            assert await caller.probe(), "the other side is up, and the probe says that it isn't"
            async with down(rig):
                assert not await caller.probe(), "the other side is down, and the probe says that it is up"
            await caller.deliver(make_event())
            assert await caller.probe(), "the other side is up again, and the probe says that it isn't"

    async def test_the_probe_is_bounded(self, rig: Rig) -> None:
        """A few seconds, also when the other side is frozen."""
        async with self._probed(rig) as caller, frozen(rig):
            assert not await caller.probe(), "the other side is frozen, and the probe says that it is up"

    # ---- the end -------------------------------------------------------------------------------------------------------

    async def test_close_flushes_what_was_handed_over(self, rig: Rig) -> None:
        """The other side goes on just before the end: what was unknown is then known, and has arrived."""
        events = [make_event(f"{number}") for number in range(4)]
        caller = Caller(rig.sink(), self.patience_seconds)
        await caller.open()
        async with frozen(rig):
            outcomes = await self._answers(caller, events, within=self.outage_seconds)
        await caller.close()
        settled = [await caller.settle(outcome, SLACK_SECONDS) for outcome in outcomes]
        await self._holds(rig, self._confirmed(events, settled))
        for before, after in zip(outcomes, settled, strict=True):
            assert isinstance(after, Confirmed) or not isinstance(before, Unknown), (
                f"what was handed over, to another side that is up, came to {after} when the sink was closed"
            )

    async def test_a_send_that_is_out_when_it_closes_is_answered(self, rig: Rig) -> None:
        """Truthfully: what is confirmed has arrived."""
        events = [make_event(f"{number}") for number in range(4)]
        caller = Caller(rig.sink(), self.patience_seconds)
        await caller.open()
        sends = [asyncio.ensure_future(self._answers(caller, [event], within=self.outage_seconds)) for event in events]
        await asyncio.sleep(0.01)  # they begin
        await caller.close()
        outcomes = [outcome for (outcome,) in await asyncio.gather(*sends)]
        settled = [await caller.settle(outcome, SLACK_SECONDS) for outcome in outcomes]
        await self._holds(rig, self._confirmed(events, settled))

    async def test_close_is_bounded_while_the_other_side_is_frozen(self, rig: Rig) -> None:
        """The bridge waits three seconds, and no longer."""
        caller = Caller(rig.sink(), self.patience_seconds)
        await caller.open()
        async with frozen(rig):
            await self._answers(caller, [make_event(), make_event()], within=self.outage_seconds)
            await caller.close()

    async def test_close_is_bounded_while_the_other_side_is_down(self, rig: Rig) -> None:
        """The same."""
        caller = Caller(rig.sink(), self.patience_seconds)
        await caller.open()
        async with down(rig):
            await self._answers(caller, [make_event(), make_event()], within=self.outage_seconds)
            await caller.close()

    # ---- order, where it is promised -----------------------------------------------------------------------------------

    async def test_keeps_the_order_of_a_shard(self, rig: Rig) -> None:
        """A reader of the other side finds the events of a shard in the order in which they were confirmed."""
        shards = self._shards()
        async with self._opened(rig, ordered=True) as caller:
            await asyncio.gather(*(self._in_turn(caller, pair) for pair in (shards[:2], shards[2:])))
        await self._in_order(rig, shards)

    async def test_keeps_the_order_of_a_shard_through_an_outage(self, rig: Rig) -> None:
        """What was cut off is sent again before anything else of its shard."""
        rig.skip_without_outages()
        shards = self._shards()
        later = [shard[2:] for shard in shards]
        async with self._opened(rig, ordered=True) as caller:
            await self._in_turn(caller, [shard[:2] for shard in shards])
            delivering = asyncio.gather(*(self._in_turn(caller, rest) for rest in (later[:2], later[2:])))
            await asyncio.sleep(0.005)  # in the middle of a send, as likely as not
            async with down(rig):
                await asyncio.sleep(self.outage_seconds)
            await delivering
        await self._in_order(rig, shards)

    # ---- what they are made of -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _opened(self, rig: Rig, *, ordered: bool = False) -> AsyncIterator[Caller]:
        sink = rig.sink()
        if ordered:
            try:
                sink.keep_order()
            except FixSettingsError as problem:
                pytest.skip(f"promises no order with the settings of {type(rig).__name__}: {problem}")
        async with opened(sink, self.patience_seconds) as caller:
            yield caller

    @asynccontextmanager
    async def _probed(self, rig: Rig) -> AsyncIterator[Caller]:
        sink = rig.sink()
        if not (isinstance(sink, ProbedSink) and rig.probes):
            pytest.skip("has no probe: an outage is then probed with one message at a time")
        async with opened(sink, self.patience_seconds) as caller:
            yield caller

    async def _answers(self, caller: Caller, events: Sequence[Event], *, within: float) -> Sequence[Outcome]:
        """What becomes of each event; a call that raises SinkDownError has confirmed none, and each is sent again."""
        try:
            return await caller.send(*events, within=within)
        except SinkDownError as problem:
            return [Again(f"SinkDownError: {problem}")] * len(events)

    def _all_confirmed(self, outcomes: Sequence[Settled]) -> None:
        for outcome in outcomes:
            assert isinstance(outcome, Confirmed), f"an event that nothing is wrong with was answered with {outcome}"

    def _confirmed(self, events: Sequence[Event], outcomes: Sequence[Settled]) -> list[Event]:
        return [event for event, outcome in zip(events, outcomes, strict=True) if isinstance(outcome, Confirmed)]

    async def _holds(self, rig: Rig, events: Sequence[Event], *, exactly: bool = False) -> None:
        held = Counter(await rig.held())
        wanted = [event.id for event in events]
        lost = [event_id for event_id in wanted if event_id not in held]
        assert not lost, f"{len(lost)} of {len(wanted)} events were confirmed, and are not held: {lost[:5]}"
        if exactly:
            twice = [event_id for event_id in wanted if held[event_id] > 1]
            assert not twice, f"{len(twice)} events were sent once, and are held more than once: {twice[:5]}"
            others = [*held.keys() - {*wanted}]
            assert not others, f"{len(others)} events are held that were not confirmed: {others[:5]}"

    def _shards(self) -> list[list[Event]]:
        return [[make_event(f"{shard} {number}", shard=shard) for number in range(12)] for shard in ("a", "b", "c", "d")]

    async def _in_turn(self, caller: Caller, shards: Sequence[Sequence[Event]]) -> None:
        """A send holds one event of each shard, and the next follows when all are confirmed."""
        for events in zip(*shards, strict=True):
            await caller.deliver(*events)

    async def _in_order(self, rig: Rig, shards: Sequence[Sequence[Event]]) -> None:
        held = await rig.held()
        for shard in shards:
            order = {event.id: number for number, event in enumerate(shard)}
            found = [order[event_id] for event_id in held if event_id in order]
            assert {*found} == {*order.values()}, f"of {len(shard)} events of a shard only {len({*found})} are held"
            assert found == sorted(found), f"the events of a shard are held in the order {found}"
