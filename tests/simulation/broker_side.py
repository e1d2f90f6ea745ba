"""The broker, and the network before it: the emulator's own rules behind calls that are lost, doubled and delayed."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.emulator.broker import Broker
from bridge.emulator.handles import parse_handle
from bridge.emulator.queues import Subscription as Wanted
from bridge.errors import ThrottledError, TryAgainError
from bridge.rocketmq.client import Client, Polled
from bridge.rocketmq.codec import AckFailure, Subscription
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message as Consumed
from simulation import story
from simulation.plan import Damage, Fault, Message, Plan
from simulation.story import Delivered, Story
from simulation.weather import Later, Weather

R = TypeVar("R")

TOPIC, GROUP = "orders", "GID_orders"
EPOCH = 1_700_000_000.0
"""What the broker's clock shows, in seconds, when the loop's shows 0 and nobody has set it."""

ACK_PATIENCE, POLL_PATIENCE = 15.0, 30.0
"""How many seconds the client waits for the answer to an ack, and to a poll beyond what it waits for."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A poll that waits at the broker."""

    life: str
    count: int
    reply: Callable[[list[Consumed]], None]


class BrokerSide:
    """The broker, on a clock that can be set, with the polls that wait there."""

    def __init__(self, plan: Plan, rng: random.Random, told: Story, later: Later) -> None:
        lease = round(plan.lease * 1000)
        self.messages: dict[str, Message] = {}
        self.on_ack: Callable[[Message], None] = lambda _: None
        self._story = told
        self._later = later
        self._offset = EPOCH + plan.broker_offset
        self._broker = Broker(rng=rng, invisible=lease, ordered_invisible=lease)
        self._wanted = Wanted(ordered=plan.rules.ordered)
        self._waiting: list[Waiting] = []
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> int:
        """Its clock, in milliseconds since the epoch."""
        return round((self._offset + asyncio.get_running_loop().time()) * 1000)

    def set_clock(self, by: float) -> None:
        """Set it forward by so many seconds."""
        self._offset += by
        self._serve()

    def publish(self, message: Message) -> None:
        properties = {"__SHARDINGKEY": message.shard} if message.shard else {}
        body = str(message).ljust(message.size)
        message.id = self._broker.publish(self.now(), TOPIC, body, properties=properties).message_id
        message.id_unread = f"damaged-{hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()}"
        self.messages[message.id] = self.messages[message.id_unread] = message
        self._story.tell(story.Published(message))
        self._serve()

    def poll(self, waiting: Waiting, seconds: int) -> None:
        """Reply with messages as soon as there are any, or with none after so many seconds."""
        consumed = self._take(waiting)
        if consumed or not seconds:
            waiting.reply(consumed)
        else:
            self._waiting.append(waiting)
            self._later(seconds, self._end, waiting)

    def leave(self, waiting: Waiting) -> None:
        """The broker sees that the connection of a poll has gone."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def leave_all(self, life: str) -> None:
        """And all those of a process."""
        self._waiting = [waiting for waiting in self._waiting if waiting.life != life]

    def ack(self, call: int, handles: Sequence[str], refuse: Callable[[], bool]) -> tuple[AckFailure, ...]:
        """Ack these, but for what is refused on purpose."""
        failures = []
        for handle in handles:
            if refuse():
                code: str | None = "ReceiptHandleError"
            else:
                refused = self._broker.ack(self.now(), TOPIC, GROUP, [handle])
                code = refused[0].code if refused else None
            delivered = self.delivered(handle)
            self._story.tell(story.AckTook(call, delivered, code))
            if code is None:
                self.on_ack(delivered.message)
            else:
                failures.append(AckFailure(receipt_handle=handle, code=code, message=code))
        self._serve()  # a shard may go on
        return tuple(failures)

    def delivered(self, handle: str) -> Delivered:
        """Which delivery a receipt handle is of."""
        read = parse_handle(handle)
        assert read is not None, "every handle that an ack brings back was issued here"
        return Delivered(self.messages[read.message_id], read.delivery)

    def _take(self, waiting: Waiting) -> list[Consumed]:
        consumed = self._broker.consume(self.now(), TOPIC, GROUP, count=waiting.count, subscription=self._wanted)
        for one in consumed:
            delivered = Delivered(self.messages[one.message_id], one.consumed_times)
            lease_end = asyncio.get_running_loop().time() + (one.next_consume_time - self.now()) / 1000
            self._story.tell(story.HandedOut(waiting.life, delivered, lease_end - self._story.begun))
        if consumed:
            self._set_timer()
        return consumed

    def _end(self, waiting: Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.reply([])

    def _serve(self) -> None:
        while self._waiting and (consumed := self._take(self._waiting[0])):
            self._waiting.pop(0).reply(consumed)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self.now()
        change = self._broker.next_change(now, TOPIC, GROUP)
        self._timer = None if change is None else self._later(max(change - now, 1) / 1000, self._serve)


class Line(Client):
    """One process's client, but for its sockets: every call takes its time, and meets with what the weather has for it."""

    def __init__(
        self,
        life: str,
        broker: BrokerSide,
        *,
        weather: Weather,
        rng: random.Random,
        told: Story,
        later: Later,
        on_date: Callable[[float, float, float], None] | None,
    ) -> None:
        self._life = life
        self._broker = broker
        self._weather = weather
        self._rng = rng
        self._story = told
        self._later = later
        self._tell_date = on_date
        self._calls = itertools.count(1)

    async def poll(self, subscription: Subscription, *, max_messages: int, wait_seconds: int) -> Polled:
        call = next(self._calls)
        self._story.tell(story.Polling(self._life, call, max_messages, wait_seconds))
        held = 0 if self._weather.first(self._rng, Fault.NOT_HELD) else wait_seconds
        waitings: list[Waiting] = []

        def take(reply: Callable[[list[Consumed]], None]) -> None:
            waitings.append(Waiting(self._life, max_messages, reply))
            self._broker.poll(waitings[-1], held)

        try:
            sent_at, consumed = await self._ask(call, wait_seconds + POLL_PATIENCE, take)
        except TryAgainError as problem:
            self._story.tell(story.PollFailed(self._life, call, str(problem)))
            raise
        finally:
            if self._rng.random() < 0.5:  # else the broker doesn't notice, and what it hands out is lost to us
                for waiting in waitings:
                    self._broker.leave(waiting)
        received_at = asyncio.get_running_loop().time()
        deliveries = [Delivered(self._broker.messages[one.message_id], one.consumed_times) for one in consumed]
        self._story.tell(story.Polled(self._life, call, deliveries))
        messages = tuple(map(_as_it_arrives, deliveries, consumed))
        return Polled(messages=messages, sent_at=sent_at, received_at=received_at)

    async def ack(self, subscription: Subscription, receipt_handles: Sequence[str]) -> tuple[AckFailure, ...]:
        call = next(self._calls)
        self._story.tell(story.Acking(self._life, call, [self._broker.delivered(handle) for handle in receipt_handles]))

        def take(reply: Callable[[tuple[AckFailure, ...]], None]) -> None:
            reply(self._broker.ack(call, receipt_handles, self._refuses))

        try:
            _, failures = await self._ask(call, ACK_PATIENCE, take)
        except TryAgainError as problem:
            self._story.tell(story.AckAnswered(self._life, call, str(problem)))
            raise
        self._story.tell(story.AckAnswered(self._life, call, None))
        return failures

    def _refuses(self) -> bool:
        return self._weather.first(self._rng, Fault.ACK_REFUSED) is not None

    async def _ask(self, call: int, patience: float, take: Callable[[Callable[[R], None]], None]) -> tuple[float, R]:
        """One request, which `take` serves at the broker; returns when it was sent, and what was replied."""
        loop = asyncio.get_running_loop()
        fault = self._weather.first(self._rng, *_FAULTS)
        if fault is not None:
            self._story.tell(story.Faulted(self._life, call, fault))
        answer: asyncio.Future[tuple[int, R]] = loop.create_future()
        exchange = _Exchange(
            answer=answer,
            fault=fault,
            after_the_effect=self._rng.random() < 0.5,
            seconds_back=self._latency(call),
            date=lambda: self._broker.now() // 1000,
            later=self._later,
        )
        sent_at = loop.time()
        self._later(self._latency(call), exchange.arrive, take)
        try:
            async with asyncio.timeout(patience):
                date, replied = await answer
        except TimeoutError:
            raise TryAgainError("no answer in time", answer_lost=True) from None
        if self._tell_date is not None:
            self._tell_date(date, sent_at, loop.time())
        return sent_at, replied

    def _latency(self, call: int) -> float:
        if self._weather.first(self._rng, Fault.SLOW) is not None:
            self._story.tell(story.Faulted(self._life, call, Fault.SLOW))
            return self._rng.choice((0.5, 3.0, 12.0))
        return self._rng.choice((0.0, 0.002, 0.02))


_FAULTS = (Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.DOUBLED, Fault.SERVER_ERROR, Fault.THROTTLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange(Generic[R]):
    """A request and its answer on their way through the network."""

    answer: asyncio.Future[tuple[int, R]]
    fault: Fault | None
    after_the_effect: bool
    """Whether trouble that may come before the effect or after it comes after."""
    seconds_back: float
    date: Callable[[], int]
    later: Later

    def arrive(self, take: Callable[[Callable[[R], None]], None]) -> None:
        if self.fault is Fault.THROTTLED:
            self._fail(ThrottledError("throttled"))
        elif self.fault is Fault.REQUEST_LOST or (self.fault is Fault.SERVER_ERROR and not self.after_the_effect):
            self._fail(TryAgainError("nothing of it arrived"))
        else:
            take(self._reply)
            if self.fault is Fault.DOUBLED:
                self.later(1.0, take, self._reply)

    def _reply(self, value: R) -> None:
        if self.fault is Fault.SERVER_ERROR:
            self._fail(TryAgainError("500"))
        elif self.fault is not Fault.ANSWER_LOST:
            self.later(self.seconds_back, self._settle, (self.date(), value))
        elif self.after_the_effect:  # else nothing more is heard of it
            self._fail(TryAgainError("the connection broke", answer_lost=True))

    def _fail(self, problem: TryAgainError) -> None:
        self.later(self.seconds_back, self._settle, problem)

    def _settle(self, said: tuple[int, R] | TryAgainError) -> None:
        if self.answer.done():
            return
        if isinstance(said, TryAgainError):
            self.answer.set_exception(said)
        else:
            self.answer.set_result(said)


def _as_it_arrives(delivered: Delivered, consumed: Consumed) -> Consumed | Damaged:
    message = delivered.message
    if message.damage is None or not message.is_damaged(delivered.times):
        return consumed
    return Damaged(
        reason=message.damage.value,
        raw=consumed.body.encode(),
        message_id=None if message.damage is Damage.WITHOUT_ID else consumed.message_id,
        receipt_handle=None if message.damage is Damage.WITHOUT_RECEIPT else consumed.receipt_handle,
        next_consume_time=consumed.next_consume_time,
        consumed_times=consumed.consumed_times,
    )
