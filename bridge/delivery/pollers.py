"""How many poll, how long they wait, how much they ask for, and when they pause."""

import asyncio
import math
import random
from collections.abc import Sequence

from bridge.delivery.long_polls import LongPolls
from bridge.delivery.outlets import Outlets
from bridge.delivery.pace import Backoff, Pace, wait
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.room import Room
from bridge.errors import BridgeError, FixSettingsError, TryAgainError
from bridge.source import Batch, Delivery, Source
from bridge.watch.facts import Facts

OUTAGE_FIRST_SECONDS, OUTAGE_CEILING_SECONDS = 1.0, 30.0


class Pollers:
    """One poller always, waiting as long as it may; more while batches come back full, up to `max_pollers`.

    The first poller is the one that paces: it alone waits out trouble, a broker that doesn't hold polls, and a sink that is
    down. The others end themselves with the first poll that isn't full.
    """

    def __init__(
        self,
        *,
        source: Source,
        pipeline: Pipeline,
        outlets: Outlets,
        room: Room,
        facts: Facts,
        tasks: asyncio.TaskGroup,
        batch_size: int,
        wait_seconds: int,
        max_pollers: int,
        pace: Pace,
        rng: random.Random,
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._outlets = outlets
        self._room = room
        self._facts = facts
        self._tasks = tasks
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        self._max_pollers = max_pollers
        self._pace = pace
        self._rng = rng
        self._now = asyncio.get_running_loop().time
        self._long_polls = LongPolls(facts, self._now)
        self._trial_in_vain = False  # as what it brought was poison, or was acked without asking the sink that is down
        self._stopping = asyncio.Event()
        self._polls: set[asyncio.Task[Batch]] = set()
        self._others: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Poll until `stop` is called, and return when every poll has come back and its batch has been seen to.

        Raises FixSettingsError when the broker says, before any poll has succeeded, that only a person can mend it; the same
        of the sink at its first opening.
        """
        self._facts.pollers += 1
        try:
            while not self._stopping.is_set():
                if self._outlets.down:
                    await self._wait_out_the_outage()
                    continue
                # A poll that is to show that the connection is there, the first of all among them, doesn't wait for messages.
                await self._poll(self._patience() if self._facts.rocketmq.ok else 0)
                await wait(self._pace.resume_at - self._now(), self._stopping)
            if self._others:
                await asyncio.wait(self._others)
        finally:
            self._facts.pollers -= 1

    def stop(self) -> None:
        """Start no poll any more."""
        self._stopping.set()

    def cut(self) -> None:
        """Let go of the polls that wait; what the broker had just handed out comes again when its lease ends."""
        for poll in self._polls:
            poll.cancel()

    def abandon(self) -> None:
        """Drop what the pollers beside the first are doing."""
        for poller in self._others:
            poller.cancel()

    async def _poll(self, wait_seconds: int, *, most: int | None = None, trial: bool = False) -> bool:
        """One poll and its batch; tells whether the batch was full, so that there may be more."""
        if self._stopping.is_set():
            return False
        asked = self._room.fits(most or self._batch_size)
        if not asked:
            await self._room.wait_for_change(1.0)
            return False
        reckoned = self._room.reckon(asked)
        self._room.take(reckoned)
        try:
            batch = await self._receive(asked, wait_seconds)
            sizes = [delivery.event.size for delivery in batch.deliveries] if batch else []
            if sizes:
                self._room.learn(max(sizes))
            self._room.take(sum(sizes) - reckoned)
            reckoned = sum(sizes)
            if batch and batch.deliveries:
                self._facts.counts.trials += len(sizes) * trial
                self._trial_in_vain = trial and self._pipeline.are_poison(batch.deliveries)
                full = len(sizes) >= asked
                if full and not trial:
                    self._add_one()
                sends, acked = self._outlets.sends_while_down, self._facts.counts.acked
                await self._pipeline.deliver(batch.deliveries, trial=trial)
                self._trial_in_vain |= trial and self._outlets.sends_while_down == sends and self._facts.counts.acked > acked
                return full
            return False
        finally:
            self._room.take(-reckoned)

    def _patience(self) -> int:
        """How long the next poll waits, in seconds: not until what is held comes again, nor what other pollers are given.

        Else an outage that begins meanwhile might cost that a second delivery (promise 4). For what comes again within two
        seconds no poll is shortened, as one of a second would follow the other.
        """
        now, lease = self._now(), self._facts.lease_seconds
        first = min(self._facts.leases.values(), default=math.inf)
        if first <= now + self._wait_seconds + 1:  # rarely: a lease takes minutes
            first = min((end for end in self._facts.lease_ends if end >= now + 2), default=math.inf)
        if self._others and lease and lease >= 2:  # noqa: PLR2004 - seconds, as above
            first = min(first, now + lease)
        return int(min(self._wait_seconds, first - now - 1))

    def _add_one(self) -> None:
        if len(self._others) + 1 < self._max_pollers and self._long_polls.held:
            task = self._tasks.create_task(self._poll_while_full())
            self._others.add(task)
            task.add_done_callback(self._others.discard)

    async def _poll_while_full(self) -> None:
        self._facts.pollers += 1
        try:
            while self._all_is_well() and await self._poll(0):
                pass
        finally:
            self._facts.pollers -= 1

    def _all_is_well(self) -> bool:
        return not self._stopping.is_set() and not self._outlets.down and self._now() >= self._pace.resume_at

    async def _receive(self, asked: int, wait_seconds: int) -> Batch | None:
        """The answer to one poll, or None when there was none; sets the pause that comes before the next."""
        poll = asyncio.create_task(self._source.receive(asked, wait_seconds))
        self._polls.add(poll)
        try:
            await asyncio.wait([poll])
            if poll.cancelled():  # by `cut`
                self._facts.counts.polls["cut"] += 1
                self._facts.polls_cut += 1
                return None
            batch = poll.result()
        except BridgeError as problem:
            self._note_trouble(problem)
            return None
        finally:
            self._polls.discard(poll)
            if not poll.done():  # we are cancelled ourselves
                poll.cancel()
            del poll  # its error refers to us, and we to it: a cycle that would keep an answer of many megabytes
        self._note_answer(batch, wait_seconds)
        return batch

    def _note_answer(self, batch: Batch, wait_seconds: int) -> None:
        polls = self._facts.counts.polls
        self._facts.poll_seconds.observe(batch.waited)
        if self._are_over(batch.deliveries):
            self._note_trouble(TryAgainError(_LEASES_ARE_OVER))
            return
        self._facts.rocketmq.works()
        self._pace.note_success()
        early = wait_seconds > 0 and self._long_polls.are_early(batch, wait_seconds)
        polls["messages" if batch.deliveries else "early" if early else "empty"] += 1
        if early or not (batch.deliveries or self._wait_seconds):
            self._pace.note_nothing_at_once()
        elif self._long_polls.held:
            self._pace.note_held()

    def _are_over(self, deliveries: Sequence[Delivery]) -> bool:
        """Whether none of what can be read is still to be delivered; of the rest the lease may be unknown."""
        readable = any(delivery.damage is None for delivery in deliveries)
        return readable and all(d.damage is not None or self._now() >= self._pipeline.deadline(d) for d in deliveries)

    def _note_trouble(self, problem: BridgeError) -> None:
        if isinstance(problem, FixSettingsError) and self._facts.rocketmq.last_ok is None:
            raise problem
        lost = isinstance(problem, TryAgainError) and problem.answer_lost
        self._facts.counts.polls["cut" if lost else "error"] += 1
        self._facts.rocketmq.fails(str(problem))
        self._pace.note_trouble(problem)

    async def _wait_out_the_outage(self) -> None:
        self._facts.paused = "the sink is down"
        backoff = Backoff(OUTAGE_FIRST_SECONDS, OUTAGE_CEILING_SECONDS, self._rng)
        pause = backoff.pause() if self._outlets.opened else 0.0
        while not await self._outlets.wait_until_up(pause, self._stopping) and not self._stopping.is_set():
            self._trial_in_vain = False
            await self._try_the_sink()
            # Else poison that comes again before anything else does would make an outage last for ever, and what only wants
            # its ack, very long.
            pause = OUTAGE_FIRST_SECONDS if self._trial_in_vain else backoff.pause()
        self._facts.paused = None
        self._pipeline.outage_ended()

    async def _try_the_sink(self) -> None:
        """Find out whether the sink is up again: by asking it where it can be asked, then with one message.

        Rather with one that we hold than with a new one, which would cost it a delivery (promise 4).
        """
        if self._outlets.busy or not await self._usable() or not self._outlets.down:
            return
        if self._outlets.let_one_try() or self._pipeline.holds_one_to_try:
            return
        # Where there is no other, one that was tried often has to do: it may not be what the sink chokes on after all.
        if not await self._poll(0 if self._outlets.awaited else self._wait_seconds, most=1, trial=True):
            self._outlets.let_one_try(most_tries=math.inf)

    async def _usable(self) -> bool:
        """Whether the sinks are worth trying; nobody waits for their answer once the bridge is to stop."""
        asking = asyncio.create_task(self._outlets.usable())
        answered = asyncio.Event()
        asking.add_done_callback(lambda _: answered.set())
        try:
            await wait(math.inf, answered, self._stopping)
            return asking.done() and asking.result()
        finally:
            asking.cancel()


_LEASES_ARE_OVER = (
    "polling: the leases of all messages were over when they came, so nothing was handed to the sink; the broker's Date "
    "header, or without one this machine's clock, doesn't fit its NextConsumeTime"
)
