"""One batch's way: send, and ack exactly what was confirmed. The delivery guarantee, on one screen.

Messages travel in lanes. A lane holds deliveries that must reach the sink one after the other: each message is a lane of its
own, or, in ordered mode, each shard is. A lane that can't go on at once is seen through beside the flow, and its poller goes
on.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter

import structlog

from bridge.delivery.lease import margin
from bridge.delivery.ledger import Ledger
from bridge.delivery.outlet import MAX_TRIALS, Outlet, settled
from bridge.delivery.pace import Backoff, wait
from bridge.delivery.room import Room
from bridge.errors import BridgeError
from bridge.sinks import Again, Confirmed, Outcome, Refused, Unknown
from bridge.source import Delivery, Source
from bridge.watch.facts import Facts

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

MAX_ACKS = 16
"""The most deliveries that one request acks."""
RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS = 1.0, 30.0
ACK_FIRST_SECONDS, ACK_CEILING_SECONDS = 0.2, 5.0
BESIDE_OVERHEAD_BYTES = 4096
"""What an event that is seen through beside the flow costs besides its body: a task, and what it refers to."""

Lane = deque[Delivery]


class Pipeline:
    """Takes deliveries to the sink and acks them; one instance serves all pollers.

    What is parked, or whose answer is still out, takes room beside the flow; what finds none is left to the broker. Raises
    SinkGoneError, here or in `tasks`, when the sink has ended for good, and nothing else.
    """

    def __init__(
        self,
        *,
        source: Source,
        outlet: Outlet,
        ledger: Ledger,
        room: Room,
        facts: Facts,
        tasks: asyncio.TaskGroup,
        ordered: bool,
        margin_seconds: float | None,
        rng: random.Random,
    ) -> None:
        self._source = source
        self._outlet = outlet
        self._ledger = ledger
        self._room = room
        self._facts = facts
        self._tasks = tasks
        self._ordered = ordered
        self._margin_seconds = margin_seconds
        self._rng = rng
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self._beside: dict[str, Lane] = {}  # by message id, or, in ordered mode, by shard
        self._beside_tasks: set[asyncio.Task[None]] = set()
        self._nothing_beside = asyncio.Event()
        self._nothing_beside.set()
        self._to_try = 0
        self._left_in_outage = 0
        self._finishing = asyncio.Event()

    # ---- the guarantee -----------------------------------------------------------------------------------------------

    async def deliver(self, deliveries: Sequence[Delivery], *, trial: bool = False) -> None:
        """See one poll's deliveries through: afterwards each is acked, or seen through beside the flow, or left to the broker.

        While the sink is down nothing is sent, but for a `trial`: the one message that finds out whether it is up again.
        """
        confirmed: list[Delivery] = []
        lanes = [
            lane for lane in self._lanes(deliveries) if self._has_to_send(lane, confirmed) and not self._goes_on_beside(lane)
        ]
        while lanes:
            if self._outlet.down and not trial:
                outcomes: Sequence[Outcome] = [Again("the sink is down")] * len(lanes)
            else:
                outcomes = await self._send(lanes, first=True)
            lanes = [lane for lane, outcome in zip(lanes, outcomes, strict=True) if self._goes_on(lane, outcome, confirmed)]
        await self._ack(confirmed)

    def _goes_on(self, lane: Lane, outcome: Outcome, confirmed: list[Delivery]) -> bool:
        """Take note of what became of a lane's head; tell whether there is more of the lane to send."""
        if isinstance(outcome, Confirmed):
            self._facts.counts.confirmed += 1
            self._ledger.remember(lane[0].event.id)
            confirmed.append(lane.popleft())
            return self._has_to_send(lane, confirmed)
        if isinstance(outcome, Refused):
            self._refuse(lane, outcome.reason)
        else:
            self._see_through_beside(lane, outcome)
        return False

    def _has_to_send(self, lane: Lane, confirmed: list[Delivery]) -> bool:
        """Whether a lane's head has to be sent: one that the sink has confirmed before only wants its ack."""
        while lane and lane[0].event.id in self._ledger:
            self._facts.counts.remembered += 1
            confirmed.append(lane.popleft())
        if lane and self._now() >= self._deadline(lane[0]):
            self._leave(lane, "expired")
        return bool(lane)

    async def _see_through(self, lane: Lane, outcome: Outcome) -> None:
        """Bring a lane to its end beside the flow: wait for answers that are out, try again, within its lease."""
        backoff = Backoff(RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS, self._rng)
        tries = 1
        while True:
            if isinstance(outcome, Unknown):
                outcome = await settled(outcome)
                if isinstance(outcome, Confirmed):
                    self._outlet.works()
            if isinstance(outcome, Again):
                if not await self._may_try_again(lane, backoff.pause(outcome.after), tries):
                    self._leave(lane, "not confirmed", outcome.reason)
                    return
                self._facts.counts.retried += 1
                tries += 1
            else:
                confirmed: list[Delivery] = []
                goes_on = self._goes_on(lane, outcome, confirmed)
                await self._ack(confirmed)
                if not goes_on:
                    return
                backoff.reset()
            (outcome,) = await self._send([lane], first=False)

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack what the sink has confirmed: the only place that does. Until that is accepted, the ledger has it."""
        for start in range(0, len(deliveries), MAX_ACKS):
            backoff = Backoff(ACK_FIRST_SECONDS, ACK_CEILING_SECONDS, self._rng)
            chunk = deliveries[start : start + MAX_ACKS]
            while chunk := self._in_time(chunk):
                try:
                    self._facts.counts.ack_calls += 1
                    not_acked = await self._source.ack(chunk)
                except BridgeError as problem:  # no answer, or one that is about no handle: it may have been acked, or not
                    self._facts.acks.fails(str(problem))
                    await asyncio.sleep(backoff.pause())
                    continue
                except asyncio.CancelledError:
                    self._facts.counts.not_acked["shutdown"] += len(chunk)
                    raise
                self._facts.acks.works()
                self._facts.counts.acked += len(chunk) - len(not_acked)
                for delivery in chunk:
                    self._ledger.forget(delivery.event.id)
                for failure in not_acked:
                    self._ledger.remember(failure.delivery.event.id)
                    self._facts.counts.not_acked[failure.code] += 1
                break

    # ---- what it is made of ------------------------------------------------------------------------------------------

    def _lanes(self, deliveries: Sequence[Delivery]) -> list[Lane]:
        """Sort deliveries into lanes, and leave the damaged."""
        if not deliveries:
            return []
        self._facts.counts.received += len(deliveries)
        self._facts.lease_seconds = deliveries[0].expires_at - deliveries[0].received_at
        lanes: list[Lane] = []
        shards: dict[str, Lane] = {}
        for delivery in deliveries:
            if delivery.damage is not None:
                self._leave_damaged(delivery)
            elif self._ordered and delivery.shard in shards:
                shards[delivery.shard].append(delivery)
            else:
                shards[delivery.shard] = lane = Lane((delivery,))
                lanes.append(lane)
        return lanes

    def _key(self, lane: Lane) -> str:
        return lane[0].shard if self._ordered else lane[0].event.id

    def _goes_on_beside(self, lane: Lane) -> bool:
        """Whether a lane is a redelivery of one beside the flow, which goes on with the new receipts and leases."""
        beside = self._beside.get(self._key(lane))
        if not beside:
            return False
        if beside[0].event.id == lane[0].event.id:
            beside.clear()
            beside.extend(lane)
        else:  # the broker has given out more of a shard before the rest of it was acked
            self._leave(lane, "shard busy")
        return True

    async def _send(self, lanes: Sequence[Lane], *, first: bool) -> Sequence[Outcome]:
        """Send the heads of lanes; what happens in a send that the shutdown doesn't wait for is left."""
        heads = [lane[0] for lane in lanes]
        soonest = min(heads, key=_lease_end)
        deadline = self._deadline(soonest)
        give_up_at = (deadline + soonest.expires_at) / 2
        try:
            return await self._outlet.send(heads, deadline=deadline, give_up_at=give_up_at, first=first)
        except asyncio.CancelledError:
            for lane in lanes:
                self._leave(lane, "shutdown")
            raise

    def _deadline(self, delivery: Delivery) -> float:
        """The instant from which a delivery is not handed to a sink any more."""
        lease = delivery.expires_at - delivery.received_at
        return delivery.expires_at - margin(lease, self._margin_seconds)

    def _see_through_beside(self, lane: Lane, outcome: Outcome) -> None:
        size = sum(delivery.event.size + BESIDE_OVERHEAD_BYTES for delivery in lane)
        if not self._room.fits_beside(size):
            if isinstance(outcome, Unknown):
                self._remember_if_confirmed(outcome, lane[0].event.id)
            self._leave(lane, "no room")
            return
        task = self._tasks.create_task(self._beside_the_flow(lane, outcome, size))
        self._beside_tasks.add(task)
        self._nothing_beside.clear()
        task.add_done_callback(self._beside_done)

    def _beside_done(self, task: asyncio.Task[None]) -> None:
        self._beside_tasks.discard(task)
        if not self._beside_tasks:
            self._nothing_beside.set()

    async def _beside_the_flow(self, lane: Lane, outcome: Outcome, size: int) -> None:
        key = self._key(lane)
        self._beside[key] = lane
        self._room.take_beside(size)
        self._facts.beside += 1
        try:
            await self._see_through(lane, outcome)
        except asyncio.CancelledError:
            self._leave(lane, "shutdown")
            raise
        finally:
            if self._beside.get(key) is lane:
                del self._beside[key]
            self._room.take_beside(-size)
            self._facts.beside -= 1

    async def _may_try_again(self, lane: Lane, pause: float, tries: int) -> bool:
        """Wait until a lane's head may be sent again; False when its lease, or the process, ends before."""
        until = self._deadline(lane[0])
        if self._now() + pause >= until:
            return False
        fit_for_trial = tries <= MAX_TRIALS
        self._to_try += fit_for_trial
        try:
            if not self._outlet.down:
                await wait(pause, self._finishing)
            granted = await self._outlet.turn(until=until, tries=tries)
        finally:
            self._to_try -= fit_for_trial
        return granted and self._now() < self._deadline(lane[0])

    def _in_time(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those that can still be acked; the broker will deliver the others again."""
        now = self._now()
        in_time = [delivery for delivery in deliveries if now < delivery.expires_at]
        if len(in_time) < len(deliveries):
            self._facts.counts.not_acked["expired"] += len(deliveries) - len(in_time)
        return in_time

    def _remember_if_confirmed(self, outcome: Unknown, message_id: str) -> None:
        def remember(answer: asyncio.Future[Confirmed | Refused | Again]) -> None:
            if not answer.cancelled() and not answer.exception() and isinstance(answer.result(), Confirmed):
                self._ledger.remember(message_id)

        outcome.answer.add_done_callback(remember)

    def _refuse(self, lane: Lane, reason: str) -> None:
        self._facts.counts.refused += 1
        log.warning("refused by the sink", message_id=lane[0].event.id, reason=reason)
        self._leave(lane, "refused", quiet=True)

    def _leave_damaged(self, delivery: Delivery) -> None:
        self._facts.counts.damaged += 1
        log.warning("damaged message", message_id=delivery.event.id, reason=delivery.damage, bytes=delivery.event.size)
        self._leave(Lane((delivery,)), "damaged", quiet=True)

    def _leave(self, lane: Lane, why: str, reason: str = "", *, quiet: bool = False) -> None:
        """Leave what a lane holds to the broker, which delivers it again when its lease ends."""
        if why == "not confirmed" and self._finishing.is_set():
            why = "shutdown"
        for delivery in lane:
            self._facts.left(why, in_seconds=delivery.expires_at - self._now())
        if self._outlet.down:
            self._left_in_outage += len(lane)
        elif lane and not quiet and not self._finishing.is_set():
            log.warning("left to the broker", message_id=lane[0].event.id, messages=len(lane), why=why, reason=reason or None)
        lane.clear()

    # ---- what others ask of it ---------------------------------------------------------------------------------------

    @property
    def holds_one_to_try(self) -> bool:
        """Whether anything beside the flow will, or may, soon find out whether the sink is up again."""
        return self._to_try > 0

    def outage_ended(self) -> None:
        """Say in one line what the outage has left to the broker."""
        if self._left_in_outage:
            log.warning("left to the broker during the outage", messages=self._left_in_outage)
        self._left_in_outage = 0

    def stop_retrying(self) -> None:
        """Shutting down: what is parked is left to the broker, and nothing is parked any more; answers are still waited for."""
        self._finishing.set()
        self._outlet.abandon_turns()

    async def finish(self, seconds: float, give_up: asyncio.Event) -> None:
        """Wait for what is beside the flow, for so many seconds at most, or until `give_up`; leave the rest."""
        await wait(seconds, self._nothing_beside, give_up)
        for task in self._beside_tasks:
            task.cancel()


_lease_end = attrgetter("expires_at")
