"""One batch's way: send, and ack exactly what was confirmed. The delivery guarantee, on one screen.

Messages travel in lanes. A lane holds deliveries that must reach the sink one after the other: each message is a lane of its
own, or, in ordered mode, each shard is. A lane that can't go on at once is seen through beside the flow, and its poller goes
on.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter

import structlog

from bridge.delivery.dead_letter import DeadLetters, Reason
from bridge.delivery.lease import margin
from bridge.delivery.ledger import Ledger
from bridge.delivery.outlets import MAX_TRIALS, Answer, Condemned, Outlets, Pending, Verdict
from bridge.delivery.pace import Backoff, Pace, wait
from bridge.delivery.room import Room
from bridge.errors import BridgeError
from bridge.sinks import CONFIRMED, Again, Confirmed
from bridge.source import Delivery, NotAcked, Source
from bridge.watch.facts import Facts

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

MAX_ACKS = 16
"""The most deliveries that one request acks."""
RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS = 1.0, 30.0
ACK_FIRST_SECONDS, ACK_CEILING_SECONDS = 0.2, 5.0
ACK_EVERY_SECONDS = 2.0
"""What one send has confirmed waits no longer than this for the sends after it."""
ALONE_SECONDS = 30.0
"""What was confirmed beside the flow is acked alone when less than this is left of its lease."""
SEVERAL_REFUSALS = 2
MAX_REFUSALS = 10_000
"""Of how many messages at most it is remembered that they, or acks of theirs, were refused."""
BESIDE_OVERHEAD_BYTES = 4096
"""What an event that is seen through beside the flow costs besides its body: a task, and what it refers to."""


class Lane(deque[Delivery]):
    """Deliveries that must reach the sink one after the other."""

    joined_bytes = 0
    """What redeliveries have brought besides its head: no poll's room holds it."""


class Pipeline:
    """Takes deliveries to the sink and acks them; one instance serves all pollers.

    What is parked, or whose answer is still out, takes room beside the flow; what finds none is left to the broker. Raises
    SinkGoneError, here or in `tasks`, when the sink has ended for good, and nothing else.
    """

    def __init__(
        self,
        *,
        source: Source,
        outlets: Outlets,
        dead_letters: DeadLetters | None,
        ledger: Ledger,
        room: Room,
        facts: Facts,
        tasks: asyncio.TaskGroup,
        ordered: bool,
        margin_seconds: float | None,
        max_deliveries: int | None,
        pace: Pace,
        rng: random.Random,
    ) -> None:
        self._source = source
        self._pace = pace
        self._outlets = outlets
        self._dead_letters = dead_letters
        self._max_deliveries = max_deliveries
        self._ledger = ledger
        self._room = room
        self._facts = facts
        self._tasks = tasks
        self._ordered = ordered
        self._margin_seconds = margin_seconds
        self._rng = rng
        self._now: Callable[[], float] = asyncio.get_running_loop().time
        self._unanswered: dict[str, Answer] = {}  # by message id
        self._in_flow: dict[str, Lane] = {}  # by message id, or, in ordered mode, by shard
        self._beside: dict[str, Lane] = {}  # likewise
        self._beside_tasks: set[asyncio.Task[None]] = set()
        self._nothing_beside = asyncio.Event()
        self._nothing_beside.set()
        self._gathered: list[Delivery] = []  # confirmed beside the flow, and not acked yet
        self._acking = asyncio.Lock()
        self._refusals: dict[str, int] = {}  # of acks, by message id, the longest untouched first
        self._refused: dict[str, None] = {}  # messages, the longest untouched first
        self._to_try = 0
        self._left_in_outage = 0
        self._finishing = asyncio.Event()

    # ---- the guarantee -----------------------------------------------------------------------------------------------

    async def deliver(self, deliveries: Sequence[Delivery], *, trial: bool = False) -> None:
        """See one poll's deliveries through: afterwards each is acked, or seen through beside the flow, or left to the broker.

        While a sink is down nothing is sent, but for a `trial`: the one message that finds out whether it is up again.
        """
        self._facts.counts.received += len(deliveries)
        confirmed: list[Delivery] = []
        lanes, ack_at = [Lane(deliveries)], self._now() + ACK_EVERY_SECONDS
        try:
            if again := [delivery for delivery in deliveries if delivery.consumed_times > 1]:
                await self._recall(again)
            by_key = self._lanes(deliveries).items()
            in_flow = {key: lane for key, lane in by_key if not self._is_under_way(key, lane, confirmed)}
            self._in_flow.update(in_flow)
            lanes = list(in_flow.values())
            while lanes:
                if self._outlets.down and not trial:
                    verdicts: Sequence[Verdict] = [Again("the sink is down")] * len(lanes)
                elif confirmed:
                    verdicts = await self._send_on(lanes, confirmed, ack_at=ack_at)
                else:
                    ack_at = self._now() + ACK_EVERY_SECONDS
                    verdicts = await self._send(lanes, first=True)
                lanes = [
                    lane
                    for lane, verdict in zip(lanes, verdicts, strict=True)
                    if self._goes_on(lane, verdict, confirmed, trial=trial) and self._has_to_send(lane, confirmed)
                ]
            for key, lane in in_flow.items():
                if self._in_flow.get(key) is lane:
                    del self._in_flow[key]
                if lane.joined_bytes and self._beside.get(key) is not lane:
                    self._let_go_of_joined(lane)
            await self._ack(confirmed)
        except asyncio.CancelledError:
            for lane in lanes:
                self._leave(lane, "shutdown")
            self._leave_unacked(confirmed)
            raise

    def _goes_on(self, lane: Lane, verdict: Verdict, confirmed: list[Delivery], *, trial: bool = False) -> bool:
        """Take note of what became of a lane's head; tell whether there is more of the lane to send."""
        if not isinstance(verdict, Confirmed):
            self._see_through_beside(lane, verdict, trial=trial)
            return False
        self._facts.counts.confirmed += 1
        if (published_at := lane[0].published_at) is not None:
            self._facts.latency_seconds.observe(self._now() - published_at)
        self._ledger.remember(lane[0].event.id)
        confirmed.append(lane.popleft())
        return True

    def _has_to_send(self, lane: Lane, confirmed: list[Delivery]) -> bool:
        """Whether a lane's head has to be sent now: one that every sink has confirmed before only wants its ack."""
        while lane and lane[0].receipt and lane[0].event.id in self._ledger:
            self._facts.counts.remembered += 1
            confirmed.append(lane.popleft())
        if not lane:
            return False
        if self._finishing.is_set():
            self._leave(lane, "shutdown")
        elif self._now() >= self.deadline(lane[0]):
            self._leave(lane, "expired", quiet=True)
        return bool(lane)

    async def _see_through(self, lane: Lane, verdict: Verdict | None, confirmed: list[Delivery], *, trial: bool) -> None:
        """Bring a lane to its end beside the flow: wait for answers that are out, try again, bury, all within its lease."""
        backoff = Backoff(RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS, self._rng)
        tries = 1
        while True:
            if isinstance(verdict, Pending):
                verdict = await self._answered(lane, verdict.answer)
            if isinstance(verdict, Condemned):
                verdict = await self._condemned(lane, verdict, alone=trial or tries > 1)
            if isinstance(verdict, Again) and not await self._may_try_again(lane, backoff.pause(verdict.after), tries):
                verdict = await self._given_up(lane, verdict)
            if isinstance(verdict, Confirmed):
                late = self._now() >= self.deadline(lane[0])
                self._goes_on(lane, verdict, confirmed)
                if late:  # the ack may not make it
                    self._ledger.share(confirmed[0].event.id)
                backoff.reset()
                tries = 0
            to_send = self._has_to_send(lane, confirmed)
            while confirmed:  # an ack takes its time, so the deadline is looked at again after it
                await self._ack_together(confirmed)
                to_send = self._has_to_send(lane, confirmed)
            if not to_send:
                return
            tries += 1
            self._facts.counts.retried += tries > 1
            (verdict,) = await self._send([lane], first=False)

    async def _ack(self, confirmed: list[Delivery], *, meanwhile: asyncio.Future[Sequence[Verdict]] | None = None) -> None:
        """Ack what the sinks have confirmed, and take it off the list: the only place that does.

        Until that is accepted, the ledger has it. An ack that fails is not repeated any more when `meanwhile` is done.
        """
        backoff = Backoff(ACK_FIRST_SECONDS, ACK_CEILING_SECONDS, self._rng)
        while self._in_time(confirmed) and not (meanwhile and meanwhile.done()):
            chunk = confirmed[:MAX_ACKS]
            try:
                self._facts.counts.ack_calls += 1
                not_acked = await self._source.ack(chunk)
            except BridgeError as problem:  # it may have been acked, or not
                self._ledger.share(*(delivery.event.id for delivery in chunk))
                self._facts.counts.ack_errors += 1
                self._facts.acks.fails(str(problem))
                self._pace.note_ack_trouble(problem)
                # What is confirmed meanwhile has to be tried before the lease ends, throttled or not.
                left = min(map(_lease_end, confirmed)) - self._now()
                throttled_for = min(self._pace.throttled_until - self._now(), ACK_CEILING_SECONDS, left / 2)
                await asyncio.sleep(max(backoff.pause(), throttled_for))
            else:
                del confirmed[: len(chunk)]
                self._note_acked(chunk, not_acked)

    async def _ack_together(self, confirmed: list[Delivery]) -> None:
        """Ack what was confirmed beside the flow: one request at a time, with all that was confirmed while the last was out.

        What has little time left doesn't wait for others.
        """
        if min(map(_lease_end, confirmed)) - self._now() < ALONE_SECONDS:
            await self._ack(confirmed)
            return
        self._gathered += confirmed
        confirmed.clear()
        async with self._acking:
            await self._ack(self._gathered)

    def _note_acked(self, deliveries: Sequence[Delivery], not_acked: Sequence[NotAcked]) -> None:
        self._facts.acks.works()
        self._facts.counts.acked += len(deliveries) - len(not_acked)
        self._facts.ack_slack_seconds.observe(max(0.0, min(map(_lease_end, deliveries)) - self._now()))
        for delivery in deliveries:
            self._ledger.forget(delivery.event.id)
            self._facts.leases.pop(delivery.receipt, None)
        for failure in not_acked:
            self._ledger.remember(failure.delivery.event.id)
            self._ledger.share(failure.delivery.event.id)
            self._facts.counts.not_acked[failure.code] += 1
            self._note_refusal(failure)

    def _note_refusal(self, failure: NotAcked) -> None:
        """Say once of a message that its acks are refused again and again (protocol.md 3.4); once happens to a late ack."""
        delivery = failure.delivery
        times = self._refusals.pop(delivery.event.id, 0) + 1
        self._refusals[delivery.event.id] = times
        if times == SEVERAL_REFUSALS:
            log.warning(
                "its acks are refused; it is not sent again, however often it comes",
                message_id=delivery.event.id,
                code=failure.code,
                deliveries=delivery.consumed_times,
            )
        if len(self._refusals) > MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    # ---- what it is made of ------------------------------------------------------------------------------------------

    def _lanes(self, deliveries: Sequence[Delivery]) -> dict[str, Lane]:
        """Sort deliveries into lanes, by what names them."""
        if not deliveries:
            return {}
        self._facts.leases.update({delivery.receipt: delivery.expires_at for delivery in deliveries})
        self._facts.lease_seconds = deliveries[0].expires_at - deliveries[0].received_at
        lanes: dict[str, Lane] = {}
        behind_damage, hold = Lane(), False
        for delivery in deliveries:
            if hold and delivery.consumed_times == 1:
                behind_damage.append(delivery)
                continue
            key = self._key(delivery)
            if key in lanes:
                lanes[key].append(delivery)
            else:
                lanes[key] = Lane((delivery,))
            if delivery.damage is not None:
                self._facts.counts.damaged += 1
                log.warning("damaged message", message_id=delivery.event.id, reason=delivery.damage, bytes=delivery.event.size)
                # What follows may be of its shard. It waits once: what can't be read twice never will be, and inverts nothing.
                hold |= self._ordered and not delivery.shard and delivery.consumed_times == 1
        self._leave(behind_damage, "behind damage")
        return lanes

    async def _recall(self, redeliveries: Sequence[Delivery]) -> None:
        """Let the ledger learn what others know of redeliveries, before anything is sent."""
        seconds = min(map(self.deadline, redeliveries)) - self._now()
        await self._ledger.recall([delivery.event.id for delivery in redeliveries], seconds=seconds)

    def _key(self, delivery: Delivery) -> str:
        """What names its lane; the shard of what is damaged is unknown when it is empty."""
        in_shard = self._ordered and (delivery.shard or delivery.damage is None)
        return delivery.shard if in_shard else delivery.event.id

    def _is_under_way(self, key: str, lane: Lane, confirmed: list[Delivery]) -> bool:
        """Whether a lane is a redelivery of one that is under way, which goes on with the new receipts and leases."""
        if not self._has_to_send(lane, confirmed):
            return True
        under_way = self._beside.get(key) or self._in_flow.get(key)
        if under_way and under_way[0].event.id == lane[0].event.id and lane[0].receipt:
            self._join(under_way, lane)
        elif lane[0].receipt and (unanswered := self._unanswered.get(lane[0].event.id)) is not None:
            self._see_through_beside(lane, Pending(unanswered))
        elif under_way:  # the broker has given out more of a shard before its rest was acked, or a receipt can't be read
            self._leave(lane, "shard busy")
        else:
            return False
        return True

    def _join(self, under_way: Lane, lane: Lane) -> None:
        """A redelivery takes the place of the delivery that is under way; what follows its head needs room of its own."""
        self._leave(under_way, "expired", quiet=True)
        self._let_go_of_joined(under_way)
        under_way.append(lane.popleft())
        size = _size(lane)
        if not self._room.fits_beside(size):
            self._leave(lane, "no room")
            return
        self._room.take_beside(size)
        under_way.joined_bytes = size
        under_way.extend(lane)

    def _let_go_of_joined(self, lane: Lane) -> None:
        self._room.take_beside(-lane.joined_bytes)
        lane.joined_bytes = 0

    async def _send(self, lanes: Sequence[Lane], *, first: bool) -> Sequence[Verdict]:
        """Send the heads of lanes, but for the damaged."""
        damages = [lane[0].damage for lane in lanes]
        heads = [lane[0] for lane in lanes if lane[0].damage is None]
        sent: Sequence[Verdict] = ()
        if heads:
            soonest = min(heads, key=_lease_end)
            deadline = self.deadline(soonest)
            give_up_at = (deadline + soonest.expires_at) / 2
            sent = await self._outlets.send(heads, deadline=deadline, give_up_at=give_up_at, first=first)
        verdicts = iter(sent)
        return [next(verdicts) if damage is None else Condemned(damage, ()) for damage in damages]

    async def _send_on(self, lanes: Sequence[Lane], confirmed: list[Delivery], *, ack_at: float) -> Sequence[Verdict]:
        """Send the next events of shards; what was confirmed before them is acked meanwhile, when that takes its time."""
        sending = asyncio.ensure_future(self._send(lanes, first=True))
        try:
            await asyncio.wait([sending], timeout=max(0.0, ack_at - self._now()))
            if not sending.done():
                await self._ack(confirmed, meanwhile=sending)
            return await sending
        finally:
            sending.cancel()

    def deadline(self, delivery: Delivery) -> float:
        """The instant from which a delivery is not handed to a sink any more."""
        lease = delivery.expires_at - delivery.received_at
        return delivery.expires_at - margin(lease, self._margin_seconds)

    def _see_through_beside(self, lane: Lane, verdict: Verdict, *, trial: bool = False) -> None:
        self._let_go_of_joined(lane)
        size = _size(lane)
        if not self._room.fits_beside(size):
            if isinstance(verdict, Pending):
                self._remember_the_answer(lane[0].event.id, verdict.answer)
            self._leave(lane, "no room")
            return
        key = self._key(lane[0])
        self._beside[key] = lane
        self._room.take_beside(size)
        self._facts.beside += 1
        confirmed: list[Delivery] = []
        task = self._tasks.create_task(self._see_through(lane, verdict, confirmed, trial=trial))
        self._beside_tasks.add(task)
        self._nothing_beside.clear()
        task.add_done_callback(partial(self._beside_done, key, lane, confirmed, size))

    def _beside_done(self, key: str, lane: Lane, confirmed: Sequence[Delivery], size: int, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._leave(lane, "shutdown")
            self._leave_unacked(confirmed)
        if self._beside.get(key) is lane:
            del self._beside[key]
        self._room.take_beside(-size)
        self._let_go_of_joined(lane)
        self._facts.beside -= 1
        self._beside_tasks.discard(task)
        if not self._beside_tasks:
            self._nothing_beside.set()

    async def _answered(self, lane: Lane, answer: Answer) -> Verdict:
        """Wait for an answer that is out. It is remembered though the process ends before: a closing sink may still give it."""
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            self._remember_the_answer(lane[0].event.id, answer)
            raise
        return answer.result()

    def _remember_the_answer(self, message_id: str, answer: Answer) -> None:
        """Nobody has room to wait for it with its event; when the message comes again, it joins the answer."""

        def forget(_: Answer) -> None:
            del self._unanswered[message_id]
            if not answer.cancelled() and not answer.exception() and isinstance(answer.result(), Confirmed):
                self._ledger.remember(message_id)
                self._ledger.share(message_id)

        if message_id not in self._unanswered:
            self._unanswered[message_id] = answer
            answer.add_done_callback(forget)

    async def _may_try_again(self, lane: Lane, pause: float, tries: int) -> bool:
        """Wait until a lane's head may be sent again; False when its lease, or the process, ends before."""
        until = self.deadline(lane[0])
        if self._now() + pause >= until:
            return False
        # An outage doesn't wait for one that sleeps for long, as some receivers ask.
        fit_for_trial = tries <= MAX_TRIALS and (self._outlets.down or pause <= RETRY_CEILING_SECONDS)
        self._to_try += fit_for_trial
        try:
            if not self._outlets.down:
                await wait(pause, self._finishing)
            granted = await self._outlets.turn(until=until, tries=tries)
        finally:
            self._to_try -= fit_for_trial
        return granted and self._now() < self.deadline(lane[0])

    def _in_time(self, confirmed: list[Delivery]) -> bool:
        """Whether any can still be acked; the others are taken off the list, as the broker will deliver them again."""
        now = self._now()
        if expired := [delivery for delivery in confirmed if now >= delivery.expires_at]:
            confirmed[:] = [delivery for delivery in confirmed if now < delivery.expires_at]
            self._ledger.share(*(delivery.event.id for delivery in expired))
            self._facts.counts.not_acked["expired"] += len(expired)
        return bool(confirmed)

    def _leave_unacked(self, confirmed: Sequence[Delivery]) -> None:
        """The process ends before these could be acked."""
        for delivery in confirmed:
            self._facts.not_acked("shutdown", in_seconds=delivery.expires_at - self._now())

    # ---- dead letters ------------------------------------------------------------------------------------------------

    async def _condemned(self, lane: Lane, verdict: Condemned, *, alone: bool) -> Confirmed | Again | None:
        """Bury the head of a lane that some sinks have refused, or that is damaged; None when it is left to the broker."""
        head = lane[0]
        if self._dead_letters and not alone and self._outlets.down and head.damage is None:
            # Refusals that pile up say more about the sink than about the events: one after the other, it finds out.
            return Again(verdict.reason)
        reason = Reason.REFUSED if head.damage is None else Reason.DAMAGED
        if head.damage is None:
            self._facts.counts.refused += 1
            self._refused[head.event.id] = self._refused.pop(head.event.id, None)
            if len(self._refused) > MAX_REFUSALS:
                del self._refused[next(iter(self._refused))]
            log.warning("refused by the sink", message_id=head.event.id, sinks=verdict.sinks, reason=verdict.reason)
        if not await self._bury(head, reason, verdict.reason, ",".join(verdict.sinks)):
            self._leave(lane, reason.value, quiet=True)
            return None
        self._ledger.remember(head.event.id, *verdict.sinks)
        return CONFIRMED if head.damage is not None or head.event.id in self._ledger else Again("another sink")

    async def _given_up(self, lane: Lane, verdict: Again) -> Confirmed | None:
        """Bury a lane's head that has failed often enough, and not because of an outage; None when it is left to the broker."""
        head = lane[0]
        often = self._max_deliveries is not None and head.consumed_times >= self._max_deliveries
        its_own_fault = often and not self._outlets.down and not self._finishing.is_set()
        if its_own_fault and await self._bury(head, Reason.DELIVERIES, verdict.reason, ""):
            return CONFIRMED
        self._leave(lane, "not confirmed", verdict.reason)
        return None

    async def _bury(self, delivery: Delivery, reason: Reason, error: str, sinks: str) -> bool:
        if self._dead_letters is None or not delivery.receipt:
            return False
        # It may be its deadline that has brought it here, so half of the margin is for the letter.
        until = (self.deadline(delivery) + delivery.expires_at) / 2
        if not await self._dead_letters.bury(delivery, reason, error, sinks, deadline=until):
            return False
        self._facts.counts.dead_letters[reason.value] += 1
        log.warning("dead letter", message_id=delivery.event.id, reason=reason.value, error=error)
        return True

    def _leave(self, lane: Lane, why: str, reason: str = "", *, quiet: bool = False) -> None:
        """Leave what a lane holds to the broker, which delivers it again when its lease ends."""
        if why == "not confirmed" and self._finishing.is_set():
            why = "shutdown"
        for delivery in lane:
            self._facts.left(why, receipt=delivery.receipt, in_seconds=delivery.expires_at - self._now())
            self._facts.leases.pop(delivery.receipt, None)
        if self._outlets.down:
            self._left_in_outage += len(lane)
        elif lane and not quiet and not self._finishing.is_set():
            log.warning("left to the broker", message_id=lane[0].event.id, messages=len(lane), why=why, reason=reason or None)
        lane.clear()

    # ---- what others ask of it ---------------------------------------------------------------------------------------

    def are_poison(self, deliveries: Sequence[Delivery]) -> bool:
        """Whether none of these can show that a sink is up: they are damaged, or have been refused before."""
        return all(delivery.damage is not None or delivery.event.id in self._refused for delivery in deliveries)

    @property
    def holds_one_to_try(self) -> bool:
        """Whether anything beside the flow will, or may, soon find out whether the sink is up again."""
        return self._to_try > 0

    def outage_ended(self) -> None:
        """Say in one line what the outage has left to the broker, and how long it lasted."""
        if self._left_in_outage:
            lasted = round(self._now() - self._outlets.down_since, 1)
            log.warning("left to the broker during the outage", messages=self._left_in_outage, after_seconds=lasted)
        self._left_in_outage = 0

    def stop_retrying(self) -> None:
        """Shutting down: what is parked is left to the broker, and nothing is parked any more; answers are still waited for."""
        self._finishing.set()
        self._outlets.abandon_turns()

    async def finish(self, seconds: float, give_up: asyncio.Event) -> None:
        """Wait for what is beside the flow, for so many seconds at most, or until `give_up`; leave the rest."""
        await wait(seconds, self._nothing_beside, give_up)
        for task in self._beside_tasks:
            task.cancel()
        self._leave_unacked(self._gathered)


def _size(lane: Lane) -> int:
    """What it takes of the room beside the flow, in bytes."""
    return sum(delivery.event.size + BESIDE_OVERHEAD_BYTES for delivery in lane)


_lease_end = attrgetter("expires_at")
