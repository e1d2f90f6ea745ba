"""What can't be delivered, and why (design.md 5, Dead letters)."""

import asyncio
import re
from dataclasses import replace
from enum import Enum

from bridge.delivery.outlet import Outlet, settled
from bridge.event import CLOUDEVENTS, Event
from bridge.sinks import Confirmed, Outcome, Sink, Unknown
from bridge.source import Delivery
from bridge.watch.facts import SinkComponent

MAX_ERROR_CHARACTERS = 1000


class Reason(Enum):
    """Why a message is a dead letter: the value of its attribute `mqdeadreason`."""

    REFUSED = "refused"
    """A sink will never take it; `mqdeadsink` says which."""
    DAMAGED = "damaged"
    """It can't be read; its body is the original bytes."""
    DELIVERIES = "deliveries"
    """It has failed once more, and been delivered as often as `BRIDGE_DELIVERY__MAX_DELIVERIES` allows."""


class DeadLetters:
    """The sink of dead letters. It pauses nobody: what it doesn't confirm stays with the broker."""

    def __init__(self, name: str, sink: Sink, component: SinkComponent) -> None:
        self._outlet = Outlet(name, sink, component)
        self._opening = asyncio.Lock()
        self._openings = 0
        self._unanswered: dict[str, Unknown] = {}  # by message id

    async def open(self) -> None:
        """Open the sink, once; where that fails it is tried again with the next dead letter. Raises FixSettingsError."""
        before = self._openings
        async with self._opening:
            if not self._outlet.opened and self._openings == before:  # else somebody has just tried for us, too
                await self._outlet.usable()
                self._openings += 1

    async def bury(self, delivery: Delivery, reason: Reason, error: str, sink: str, *, deadline: float) -> bool:
        """Send one dead letter; tells whether it was confirmed, however late. Not begun past the deadline.

        While the answer to another about the same message is out, that one has to do: in ordered mode a message that comes
        damaged once, and once not, may be in two lanes.
        """
        message_id = delivery.event.id
        outcome: Outcome | None = self._unanswered.get(message_id)
        if outcome is None:
            if not self._outlet.opened:
                await self.open()
            if not self._outlet.opened or asyncio.get_running_loop().time() >= deadline:
                return False
            letter = replace(delivery, event=_letter(delivery.event, reason, error, sink))
            give_up_at = (deadline + delivery.expires_at) / 2
            (outcome,) = await self._outlet.send([letter], deadline=deadline, give_up_at=give_up_at, first=False)
        if isinstance(outcome, Unknown):
            self._unanswered[message_id] = outcome
            outcome = await settled(outcome)
            self._unanswered.pop(message_id, None)
        return isinstance(outcome, Confirmed)

    async def close(self, seconds: float) -> None:
        """Close the sink; see `Outlet.close`."""
        await self._outlet.close(seconds)


def _letter(event: Event, reason: Reason, error: str, sink: str) -> Event:
    # An attribute holds no control characters (CloudEvents 1.0, String), and a sink's words may hold any.
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", " ", error)[:MAX_ERROR_CHARACTERS]
    more = {"mqdeadreason": reason.value, "mqdeaderror": text, "mqdeadsink": sink}
    attributes = {**event.attributes, **{name: value for name, value in more.items() if value}}
    return replace(event, attributes=attributes, envelope=CLOUDEVENTS)  # the others don't tell why
