"""The delivery with one mistake in it, and which promise each mistake must be seen to break."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from bridge.delivery.dead_letter import DeadLetters, Reason
from bridge.delivery.lease import BrokerClock
from bridge.delivery.ledger import Ledger
from bridge.delivery.outlet import Outlet
from bridge.delivery.outlets import Condemned, Outlets, Verdict
from bridge.delivery.pace import Backoff
from bridge.delivery.pipeline import Lane, Pipeline
from bridge.delivery.pollers import Pollers
from bridge.delivery.room import Room
from bridge.sinks import CONFIRMED, Again, Confirmed, Outcome, Refused, Unknown
from bridge.source import Delivery


@dataclass(frozen=True, slots=True)
class Mutant:
    """One attribute of a class of the delivery, done wrong."""

    of: type
    attribute: str
    wrong: Any
    breaks: str
    """The promise, by the name of its class among the invariants."""

    def alive(self) -> AbstractContextManager[object]:
        """While it lives, the delivery makes the mistake."""
        return patch.object(self.of, self.attribute, self.wrong)


_ack, _goes_on, _bury = Pipeline._ack, Pipeline._goes_on, DeadLetters.bury
_send, _usable, _try_the_sink = Outlet._send, Outlet.usable, Pollers._try_the_sink


def _take_anything_for_confirmed(_: Pipeline, lane: Lane, __: Verdict, confirmed: list[Delivery], **___: object) -> bool:
    confirmed.append(lane.popleft())
    return True


def _one_sink_is_enough(_: Outlets, __: str, outcomes: Sequence[Outcome]) -> Confirmed | Again:
    return CONFIRMED if CONFIRMED in outcomes else Again("none has")


async def _bury_nowhere(*_: object) -> bool:
    return True


async def _bury_and_hope(self: DeadLetters, *args: Any, **kwargs: Any) -> bool:
    await _bury(self, *args, **kwargs)
    return True


async def _ack_only_redeliveries(self: Pipeline, confirmed: list[Delivery], **_: object) -> None:
    redeliveries = [delivery for delivery in confirmed if delivery.consumed_times > 1]
    confirmed.clear()
    await _ack(self, redeliveries)


async def _bury_in_an_outage(self: Pipeline, lane: Lane, verdict: Again) -> Confirmed | None:
    often = self._max_deliveries is not None and lane[0].consumed_times >= self._max_deliveries
    if often and await self._bury(lane[0], Reason.DELIVERIES, verdict.reason, ""):
        return CONFIRMED
    self._leave(lane, "not confirmed")
    return None


async def _take_a_refusal_for_again(_: Pipeline, __: Lane, verdict: Condemned, **___: object) -> Again:
    return Again(verdict.reason)


def _answer_is_not_waited_for(self: Outlets, message_id: str, outcomes: Sequence[Outcome]) -> Verdict:
    return self._final(message_id, [Again("no answer yet") if isinstance(o, Unknown) else o for o in outcomes])


async def _late_answers_count_for_nothing(*_: object) -> Again:
    return Again("it was late")


async def _cancel_what_takes_too_long(
    self: Outlet, deliveries: Sequence[Delivery], *, give_up_at: float, **_: object
) -> object:
    try:
        async with asyncio.timeout_at(give_up_at):
            return await _send(self, deliveries, give_up_at)
    except TimeoutError:
        return [Again("no answer in time")] * len(deliveries)


def _go_on_past_a_failure(self: Pipeline, lane: Lane, verdict: Verdict, confirmed: list[Delivery], **_: object) -> bool:
    if isinstance(verdict, Confirmed):
        return _goes_on(self, lane, verdict, confirmed)
    self._see_through_beside(Lane((lane.popleft(),)), verdict)
    return True


async def _open_whenever_there_is_a_letter(self: DeadLetters) -> None:
    await self._outlet.usable()


async def _a_probe_is_enough(self: Outlet) -> bool:
    if await _usable(self):
        self.works()
        return True
    return False


async def _wait_for_all(self: Pipeline, *_: object) -> None:
    await self._nothing_beside.wait()


async def _ack_until_it_works(self: Pipeline, confirmed: list[Delivery], **_: object) -> None:
    deliveries = confirmed[:]
    confirmed.clear()
    for __ in range(1000):
        if not deliveries or not await self._source.ack(deliveries):
            break


_DOWN_UNTIL_OPENED = property(lambda self: not self.opened)


async def _try_it_only_to_open_it(self: Pollers) -> None:
    if not self._outlets.opened:
        await _try_the_sink(self)


async def _recall_nothing(*_: object, **__: object) -> None:
    return


def _note_what_may_be_cut_off(self: Outlet, answer: asyncio.Future[Confirmed | Refused | Again]) -> None:
    if answer.result() is CONFIRMED:
        self.works()


def _no_gaps(self: Backoff, asked: float | None = None) -> float:
    return 0.0


MUTANTS = {
    "acks what no sink has confirmed": Mutant(Pipeline, "_goes_on", _take_anything_for_confirmed, "NoAckBeforeConfirmation"),
    "acks what one of the sinks has confirmed": Mutant(Outlets, "_final", _one_sink_is_enough, "NoAckBeforeConfirmation"),
    "acks what was refused, without a dead letter": Mutant(Pipeline, "_bury", _bury_nowhere, "NoAckBeforeConfirmation"),
    "takes every dead letter for confirmed": Mutant(DeadLetters, "bury", _bury_and_hope, "NoAckBeforeConfirmation"),
    "leaves what it could ack": Mutant(Pipeline, "_ack", _ack_only_redeliveries, "ConfirmedIsAcked"),
    "forgets what was confirmed": Mutant(Ledger, "__contains__", lambda *_: False, "NotSentAgain"),
    "writes what was written": Mutant(Ledger, "__contains__", lambda *_: False, "DuplicatesAreForced"),
    "forgets which sinks have confirmed": Mutant(Ledger, "has", lambda *_: False, "NotSentAgain"),
    "sends what is still unknown": Mutant(Outlets, "_verdict", _answer_is_not_waited_for, "NotSentAgain"),
    "forgets a late confirmation": Mutant(Outlets, "_later", _late_answers_count_for_nothing, "NotSentAgain"),
    "forgets answers that found no room": Mutant(Pipeline, "_remember_the_answer", lambda *_: None, "NotSentAgain"),
    "doesn't know what is under way": Mutant(Pipeline, "_is_under_way", lambda *_: False, "NotSentAgain"),
    "sends what was refused": Mutant(Pipeline, "_condemned", _take_a_refusal_for_again, "NotSentAgain"),
    "ignores the lease": Mutant(Pipeline, "deadline", lambda _, delivery: delivery.expires_at + 1000, "NothingPastItsDeadline"),
    "ignores the broker's clock": Mutant(BrokerClock, "known", False, "NothingPastItsDeadline"),  # noqa: FBT003 - in place of a property
    "cancels a send": Mutant(Outlet, "send", _cancel_what_takes_too_long, "NoSendIsCancelled"),
    "goes on past a failure in a shard": Mutant(Pipeline, "_goes_on", _go_on_past_a_failure, "OrderHolds"),
    "sends a shard at once": Mutant(Pipeline, "_key", lambda _, delivery: delivery.event.id, "OrderHolds"),
    "polls in an outage": Mutant(Outlets, "down", _DOWN_UNTIL_OPENED, "NothingPolledInAnOutage"),
    "takes a probe for the end of an outage": Mutant(Outlet, "usable", _a_probe_is_enough, "NothingPolledInAnOutage"),
    "spends deliveries in an outage": Mutant(Outlets, "down", _DOWN_UNTIL_OPENED, "OneDeliveryPerOutage"),
    "never sees the end of an outage": Mutant(Pollers, "_try_the_sink", _try_it_only_to_open_it, "NothingIsLost"),
    "tells the others nothing": Mutant(Ledger, "share", lambda *_: None, "TheLedgerIsShared"),
    "asks the others nothing": Mutant(Ledger, "recall", _recall_nothing, "TheLedgerIsShared"),
    "believes every answer to come": Mutant(Outlet, "_note_late", _note_what_may_be_cut_off, "NothingIsOverlooked"),
    "takes an outage for poison": Mutant(Pipeline, "_given_up", _bury_in_an_outage, "DeadLettersAreDeserved"),
    "acks again and again": Mutant(Pipeline, "_ack", _ack_until_it_works, "CallsAreBounded"),
    "never pauses": Mutant(Backoff, "pause", _no_gaps, "CallsAreBounded"),
    "opens a sink that is being opened": Mutant(DeadLetters, "open", _open_whenever_there_is_a_letter, "OpensOnce"),
    "drains without an end": Mutant(Pipeline, "finish", _wait_for_all, "EndsInTime"),
    "gives no room back": Mutant(Room, "take_beside", lambda self, size: Room.take(self, max(size, 0)), "EndsInTime"),
}
