"""Sinks with one mistake each. `test_wrong_sinks` runs the contract suite over this file, and looks which tests complain."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from pydantic import BaseModel

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Unknown
from bridge.testing.contract import SinkContract
from contract.wrong.other_side import UNACCEPTABLE, OtherSide, OtherSideRig, RightSink


class ConfirmsWhatItHasOnlyQueued(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        for event in events:
            self.hand_over(event)
        return [CONFIRMED] * len(events)


class LosesTheLastOfMany(RightSink):
    """As does who cuts a batch to size, and counts wrong."""

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        if len(events) < 16:
            return await super().send(events, deadline)
        return [*await super().send(events[:15], deadline), CONFIRMED]


class LosesWhatComesInTheOutage(RightSink):
    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        outcome = await super().transmit(event)
        return CONFIRMED if isinstance(outcome, Again) else outcome


class WritesTwice(RightSink):
    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        await super().transmit(event)
        return await super().transmit(event)


class HangsOnClose(RightSink):
    """Waits for all answers, however long that takes."""

    async def close(self) -> None:
        if self.out:
            await asyncio.wait(self.out)


class DropsOnClose(RightSink):
    async def close(self) -> None:
        for answer in self.out:
            answer.cancel()


class HangsOnCloseInAnOutage(RightSink):
    """Waits for the other side to say goodbye."""

    async def close(self) -> None:
        await super().close()
        while not self.other.up:  # noqa: ASYNC110 - the other side has no event for it
            await asyncio.sleep(0.1)


class DropsWhoStillSends(RightSink):
    waiting: asyncio.Task[Sequence[Outcome]] | None = None

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self.waiting = asyncio.ensure_future(super().send(events, deadline))
        return await self.waiting

    async def close(self) -> None:
        if self.waiting and not self.waiting.done():
            self.waiting.cancel()
        await super().close()


class NeedsToBeOpenToClose(RightSink):
    opened = False

    async def open(self) -> None:
        await super().open()
        self.opened = True

    async def close(self) -> None:
        if not self.opened:
            raise RuntimeError("not open")
        await super().close()


class CondemnsTheWholeBatch(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        if any(event.body == UNACCEPTABLE for event in events):
            return [Refused("nobody takes that")] * len(events)
        return await super().send(events, deadline)


class TriesWhatIsRefusedForEver(RightSink):
    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        outcome = await super().transmit(event)
        return Again(outcome.reason) if isinstance(outcome, Refused) else outcome


class CondemnsInAnOutage(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        try:
            return await super().send(events, deadline)
        except SinkDownError as problem:
            return [Refused(str(problem))] * len(events)


class AnswersOnceForAll(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        return (await super().send(events, deadline))[:1]


class ForgetsAnEvent(RightSink):
    """Leaves out of its answer what was refused."""

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        return [outcome for outcome in await super().send(events, deadline) if not isinstance(outcome, Refused)]


class IgnoresTheDeadline(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        return await asyncio.gather(*(self.transmit(event) for event in events))


class BeginsTooLate(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        return await super().send(events, max(deadline, asyncio.get_running_loop().time() + 0.1))


class SaysAgainOfWhatIsOnItsWay(RightSink):
    """As does who wraps a call into a timeout, and shields it."""

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        outcomes = await super().send(events, deadline)
        return [Again("timed out") if isinstance(outcome, Unknown) else outcome for outcome in outcomes]


class AnswersTheLateNever(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        never = asyncio.get_running_loop().create_future()
        outcomes = await super().send(events, deadline)
        return [Unknown(never) if isinstance(outcome, Unknown) else outcome for outcome in outcomes]


class CancelsTheLate(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        outcomes = await super().send(events, deadline)
        for outcome in outcomes:
            if isinstance(outcome, Unknown):
                outcome.answer.cancel()
        return outcomes


class BlocksTheEventLoop(RightSink):
    blocked = False

    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        if not self.blocked and not self.other.running.is_set():
            self.blocked = True  # once is enough: it costs real time
            time.sleep(0.9)  # noqa: ASYNC251 - as does a client that isn't made for asyncio
        return await super().transmit(event)


class MixesUpItsSends(RightSink):
    """Keeps what belongs to a call in the object."""

    batch: Sequence[Event] = ()

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self.batch = events
        await asyncio.sleep(0)
        return (await super().send(self.batch, deadline))[: len(events)]


class NeverConnectsAgain(RightSink):
    cut = False

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        self.cut = self.cut or not self.other.up
        if self.cut:
            raise SinkDownError("the connection is closed")
        return await super().send(events, deadline)


class RaisesWhatItsDriverRaises(RightSink):
    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:
        if not self.other.up:
            raise ConnectionResetError("reset by peer")
        return await super().send(events, deadline)


class OpensOnlyOnce(RightSink):
    begun = False

    async def open(self) -> None:
        if self.begun:
            raise RuntimeError("open already")
        self.begun = True
        await super().open()


class ProbesNothing(RightSink):
    async def probe(self) -> None:
        return


class ProbesForEver(RightSink):
    async def open(self) -> None:
        if not self.other.up:
            raise SinkDownError("the other side is away")

    async def probe(self) -> None:
        await self.other.running.wait()
        await self.open()


class CutsText(RightSink):
    def write(self, event: Event) -> bytes:
        return event.structured().replace("茶".encode(), b"?")


class ChokesOnTheLarge(RightSink):
    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        return Again("payload too large") if event.size > 1_000_000 else await super().transmit(event)


class LosesOrder(RightSink):
    """Spreads the events of a shard over the partitions."""

    def key(self, event: Event) -> str:
        return event.id


class LosesOrderInAnOutage(RightSink):
    """Says Again, and tries again by itself."""

    async def transmit(self, event: Event) -> Confirmed | Refused | Again:
        outcome = await super().transmit(event)
        if isinstance(outcome, Again):
            asyncio.get_running_loop().call_later(1.1, lambda: self.hand_over(event))
        return outcome


class NeedsAnEventLoopToBeMade(RightSink):
    def __init__(self, settings: BaseModel, other: OtherSide) -> None:
        super().__init__(settings, other)
        self.loop = asyncio.get_running_loop()


class Undescribed(BaseModel):
    path: str = ""


class DescribesNoSetting(RightSink):
    Settings = Undescribed


WRONG = [value for value in [*vars().values()] if isinstance(value, type) and issubclass(value, RightSink)]


class TestWrong(SinkContract):
    patience_seconds = 10.0

    @pytest.fixture(params=WRONG, ids=lambda sink: sink.__name__)
    async def rig(self, request: pytest.FixtureRequest) -> OtherSideRig:
        return OtherSideRig(request.param)
