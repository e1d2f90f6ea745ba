"""Somebody to send to, in memory: it can be frozen, taken away, and refuse; and the sink that deals with it rightly."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, ProbedSink, Refused, Unknown
from bridge.testing import make_event
from bridge.testing.contract import Rig

UNACCEPTABLE: Final = "what nobody takes"
TRIP_SECONDS = 0.01


class OtherSide:
    """What a server does: it takes an event a moment after it has arrived, and says so."""

    def __init__(self) -> None:
        self.partitions: list[list[Event]] = [[], []]
        """Each is read on its own; what has one key goes into one."""
        self.contents: dict[str, bytes] = {}
        self.up = True
        self.running = asyncio.Event()
        self.running.set()

    async def take(self, event: Event, *, content: bytes, key: str) -> bool:
        """Tell whether it was taken. Raises ConnectionError, as a driver does."""
        if not self.up:
            raise ConnectionError("connection refused")
        await asyncio.sleep(TRIP_SECONDS)
        await self.running.wait()
        if not self.up:
            raise ConnectionError("connection reset")
        if event.body == UNACCEPTABLE:
            return False
        self.partitions[sum(key.encode()) % 2].append(event)
        self.contents[event.id] = content
        await asyncio.sleep(TRIP_SECONDS)  # the answer's way back
        return True


class OtherSideRig(Rig):
    """It can do everything."""

    def __init__(self, sink: "type[RightSink]") -> None:
        self._sink = sink
        self._other = OtherSide()

    def sink(self) -> "RightSink":
        return self._sink(self._sink.Settings(), self._other)

    async def held(self) -> Sequence[str]:
        return [event.id for partition in self._other.partitions for event in partition]

    async def contents(self) -> Mapping[str, bytes]:
        return self._other.contents

    def unacceptable(self) -> Event:
        return make_event(UNACCEPTABLE)

    async def take_down(self) -> None:
        self._other.up = False

    async def bring_up(self) -> None:
        self._other.up = True

    async def freeze(self) -> None:
        self._other.running.clear()

    async def thaw(self) -> None:
        self._other.running.set()


class RightSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key: str = Field(default="", description="the key of every event")


class RightSink(ProbedSink):
    """Does all that the contract says; each wrong sink is this one with one mistake."""

    Settings: ClassVar[type[BaseModel]] = RightSettings

    def __init__(self, settings: BaseModel, other: OtherSide) -> None:
        super().__init__(settings)
        self.other = other
        self.out: set[asyncio.Future[Confirmed | Refused | Again]] = set()

    async def open(self) -> None:
        await self.probe()

    async def probe(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self.other.running.wait()
        except TimeoutError:
            raise SinkDownError("the other side doesn't answer") from None
        if not self.other.up:
            raise SinkDownError("the other side is away")

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return [Again("too late to begin")] * len(events)
        if not self.other.up:
            raise SinkDownError("the other side is away")
        answers = [self.hand_over(event) for event in events]
        await asyncio.wait(answers, timeout=deadline - loop.time())
        return [answer.result() if answer.done() else Unknown(answer) for answer in answers]

    def hand_over(self, event: Event) -> "asyncio.Future[Confirmed | Refused | Again]":
        answer: asyncio.Future[Confirmed | Refused | Again] = asyncio.ensure_future(self.transmit(event))
        self.out.add(answer)
        answer.add_done_callback(self.out.discard)
        return answer

    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        try:
            taken = await self.other.take(event, content=self.write(event), key=self.key(event))
        except ConnectionError as problem:
            return Again(str(problem))
        return CONFIRMED if taken else Refused("nobody takes that")

    def write(self, event: Event) -> bytes:
        return event.structured()

    def key(self, event: Event) -> str:
        return event.properties.get("__SHARDINGKEY", "")

    async def close(self) -> None:
        if self.out:
            await asyncio.wait(self.out, timeout=2)
