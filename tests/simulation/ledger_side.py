"""The store of the shared ledger, which answers, fails, or doesn't answer."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from bridge.errors import TryAgainError
from simulation import story
from simulation.plan import Fault, Message
from simulation.story import Story
from simulation.weather import Later, Weather


class LedgerSide:
    """What all processes share."""

    def __init__(
        self, messages: Mapping[str, Message], *, weather: Weather, rng: random.Random, told: Story, later: Later
    ) -> None:
        self.entries: dict[str, frozenset[str]] = {}
        self.messages = messages
        self.weather = weather
        self.rng = rng
        self.story = told
        self.later = later


class LedgerEnd:
    """One process's end of it: a `Store`."""

    def __init__(self, life: str, side: LedgerSide) -> None:
        self._life = life
        self._side = side

    async def read(self, message_ids: Sequence[str]) -> Sequence[Iterable[str]]:
        entries: list[frozenset[str]] = []

        def take() -> None:
            entries.extend(self._side.entries.get(message_id, frozenset()) for message_id in message_ids)

        await self._ask(take)
        for message_id, sinks in zip(message_ids, entries, strict=True):
            if sinks:
                self._side.story.tell(story.Recalled(self._life, self._side.messages[message_id], message_id, sorted(sinks)))
        return entries

    async def write(self, entries: Mapping[str, frozenset[str]]) -> None:
        def take() -> None:
            for message_id, sinks in entries.items():
                both = self._side.entries.get(message_id, frozenset()) | sinks if sinks else frozenset()
                self._side.entries[message_id] = both
                self._side.story.tell(story.Shared(self._life, self._side.messages[message_id], sorted(both)))

        await self._ask(take)

    async def check(self) -> None:
        await self._ask(lambda: None)

    async def close(self) -> None:
        return

    async def _ask(self, take: Callable[[], None]) -> None:
        side = self._side
        fault = side.weather.first(side.rng, Fault.LEDGER_FAILS, Fault.LEDGER_ANSWER_LOST, Fault.LEDGER_HANGS)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            if fault is not Fault.LEDGER_FAILS:
                take()
            side.later(0.0 if fault is None else 20.0 if fault is Fault.LEDGER_HANGS else 0.1, settle)

        def settle() -> None:
            if answer.done():
                return
            if fault in (Fault.LEDGER_FAILS, Fault.LEDGER_ANSWER_LOST):
                answer.set_exception(TryAgainError("the store is gone"))
            else:
                answer.set_result(None)

        side.later(side.rng.choice((0.0, 0.01, 0.05)), arrive)
        await answer
