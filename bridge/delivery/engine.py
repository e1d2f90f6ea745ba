"""The delivery as a whole: its pieces wired together, and the order in which they end (design.md, promise 8)."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.delivery.dead_letter import DeadLetters
from bridge.delivery.ledger import Ledger
from bridge.delivery.outlets import SETTLE_SECONDS, Outlets
from bridge.delivery.pace import Pace, wait
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.pollers import Pollers
from bridge.delivery.room import Room
from bridge.delivery.shared_ledger import SharedLedger, Store
from bridge.errors import BridgeError, FixSettingsError
from bridge.sinks import Sink
from bridge.source import Source
from bridge.watch.facts import Facts, Phase

CLOSE_SECONDS = 3.0
"""How much of the grace is kept for closing the sink, with SETTLE_SECONDS on top; a fifth of the grace where that is less."""
LEDGER_SECONDS = 1.0
"""And for what has still to be written to a shared ledger after that; a tenth of the grace where that is less."""


ACK_SECONDS = 2.0
"""How much of it is kept for the acks of what was confirmed last; a fifth of the grace where that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the settings say of the delivery; the names are theirs."""

    ordered: bool = False
    batch_size: int = 16
    wait_seconds: int = 30
    max_pollers: int = 8
    max_bytes: int = 16 * 1024 * 1024
    lease_margin_seconds: float | None = None
    max_deliveries: int | None = None
    grace_seconds: float = 45.0


class Engine:
    """Takes messages from a source to the sinks, given by name, until told to drain."""

    def __init__(
        self,
        source: Source,
        sinks: Mapping[str, Sink],
        facts: Facts,
        rules: Rules,
        *,
        dead_letters: DeadLetters | None = None,
        ledger_store: Store | None = None,
        rng: random.Random,
    ) -> None:
        self._facts = facts
        self._grace_seconds = rules.grace_seconds
        self._tasks = asyncio.TaskGroup()
        self._dead_letters = dead_letters
        shared = SharedLedger(ledger_store, facts.ledger, facts.counts.ledger, rng) if ledger_store and facts.ledger else None
        self._ledger_seconds = min(LEDGER_SECONDS, self._grace_seconds / 10) if shared else 0.0
        self.ledger = Ledger(sinks, shared)
        self.outlets = Outlets(sinks, facts, self.ledger)
        self.room = Room(rules.max_bytes)
        pace = Pace(asyncio.get_running_loop().time, rng)
        self.pipeline = Pipeline(
            source=source,
            outlets=self.outlets,
            dead_letters=dead_letters,
            ledger=self.ledger,
            room=self.room,
            facts=facts,
            tasks=self._tasks,
            ordered=rules.ordered,
            margin_seconds=rules.lease_margin_seconds,
            max_deliveries=rules.max_deliveries,
            pace=pace,
            rng=rng,
        )
        self.pollers = Pollers(
            source=source,
            pipeline=self.pipeline,
            outlets=self.outlets,
            room=self.room,
            facts=facts,
            tasks=self._tasks,
            batch_size=rules.batch_size,
            wait_seconds=rules.wait_seconds,
            max_pollers=rules.max_pollers,
            pace=pace,
            rng=rng,
        )
        self._drain_asked = asyncio.Event()
        self._cut_asked = asyncio.Event()
        self._end_asked = asyncio.Event()

    def drain(self) -> None:
        """Start no poll any more, finish what is held, and return from `run`. Asked again, cut the polls that are out."""
        if self._drain_asked.is_set():
            self.interrupt()
        self._drain_asked.set()

    def interrupt(self) -> None:
        """Drain, and cut the polls that are out. Asked again, leave everything to the broker at once."""
        if self._cut_asked.is_set():
            self._end_asked.set()
        self._cut_asked.set()
        self._drain_asked.set()

    async def run(self) -> None:
        """Poll, deliver and ack until it has drained.

        Raises FixSettingsError when only a person can mend what is wrong, and SinkGoneError when the sink has ended for good.
        """
        self.ledger.open()
        try:
            async with self._tasks:
                opening = self._tasks.create_task(self._dead_letters.open()) if self._dead_letters else None
                polling = self._tasks.create_task(self.pollers.run())
                self._facts.phase = Phase.RUNNING
                await self._drain_asked.wait()
                await self._drain(polling)
                if opening:
                    opening.cancel()
        except BaseExceptionGroup as group:
            raise _cause(group) from None
        finally:
            closing = [self.outlets.close(self._closing_seconds)]
            if self._dead_letters:
                closing.append(self._dead_letters.close(self._closing_seconds))
            await asyncio.gather(*closing)
            await self.ledger.close(self._ledger_seconds)  # last, as a sink that closes may still confirm

    @property
    def _closing_seconds(self) -> float:
        return min(CLOSE_SECONDS, self._grace_seconds / 5)

    async def _drain(self, polling: asyncio.Task[None]) -> None:
        """Step by step, each bounded by what is left of the grace."""
        now = asyncio.get_running_loop().time
        end = now() + self._grace_seconds - self._closing_seconds - SETTLE_SECONDS - self._ledger_seconds
        polled = asyncio.Event()
        polling.add_done_callback(lambda _: polled.set())
        self._facts.phase = Phase.DRAINING
        # 1. No poll begins; those that are out come back, and what they bring is seen to, retries among it.
        self.pollers.stop()
        await wait(end - min(ACK_SECONDS, self._grace_seconds / 5) - now(), polled, self._cut_asked)
        # 2. A poll that is still out is cut; nothing more is sent, and nobody waits for a retry any more.
        self.pollers.cut()
        self.pipeline.stop_retrying()
        await wait(end - now(), polled, self._end_asked)
        # 3. Answers of the sink that are still out are waited for, and acked.
        await self.pipeline.finish(end - now(), self._end_asked)
        # 4. What is still held is left to the broker.
        polling.cancel()
        self.pollers.abandon()


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a group of tasks ended with; what a person should mend goes first."""
    causes = [_cause(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions]
    return min(
        causes, key=lambda cause: 0 if isinstance(cause, FixSettingsError) else 1 if isinstance(cause, BridgeError) else 2
    )
