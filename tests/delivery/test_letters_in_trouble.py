"""Promises 3, 4 and 6: dead letters while their sink, or the other, is in trouble."""

import asyncio
from collections.abc import Sequence

from bridge.delivery.engine import Rules
from bridge.event import Event
from bridge.sinks import CONFIRMED, Outcome, Refused
from bridge.testing import MemorySink
from worlds.virtual_time import run
from worlds.world import Unprobed, world


def picky(event: Event) -> Outcome:
    return Refused("400") if str(event.body).startswith("bad") else CONFIRMED


class SlowToOpen(MemorySink):
    """Takes so many seconds to open; knows when letters were handed over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.opening = self.most_opening = 0
        self.begun: list[tuple[float, float]] = []

    async def open(self) -> None:
        self.opening += 1
        self.most_opening = max(self.most_opening, self.opening)
        await asyncio.sleep(self._seconds)
        self.opening -= 1

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self.begun.append((asyncio.get_running_loop().time(), deadline))
        return await super().send(events, deadline)


def test_the_dead_letters_sink_is_opened_by_one_at_a_time_however_many_letters_wait_for_it() -> None:
    async def main() -> None:
        letters = SlowToOpen(20)
        async with world(MemorySink(picky), dead_letters=letters) as w:
            ids = w.source.publish("bad 1", "bad 2", "bad 3", "good")
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=25)
            assert letters.most_opening == 1

    run(main())


def test_a_letter_that_waited_for_its_sink_to_open_is_not_begun_past_its_deadline() -> None:
    async def main() -> None:
        letters = SlowToOpen(25)
        async with world(MemorySink(picky), lease=20, dead_letters=letters) as w:
            ids = w.source.publish("bad")
            await w.until(lambda: w.acked == ids, seconds=60)
            assert all(at < deadline for at, deadline in letters.begun)

    run(main())


def test_a_refused_event_that_tries_a_sink_in_an_outage_is_buried_at_once_even_in_a_short_lease() -> None:
    """Its lease would be over before the next one tries, and it, first again, would be the one for ever."""

    async def main() -> None:
        async with world(Unprobed(picky), lease=12, dead_letters=MemorySink(), rules=Rules(ordered=True)) as w:
            await w.until(lambda: not w.outlet.down)
            w.outlet.fails("no connection")
            await asyncio.sleep(600)  # the pauses have grown
            ids = w.source.publish("bad", "good")
            await w.until(lambda: sorted(w.acked) == sorted(ids), seconds=120)

    run(main())
