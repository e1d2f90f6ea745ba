"""The seam in: what `delivery/` asks of a source, and nothing of how one speaks to its broker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.event import Event


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """One message, handed to us for a while: to be confirmed by the sink and acked, or left to the broker.

    A redelivery of the same message is another Delivery, with another receipt. Nothing in it changes; see `Event`.
    """

    event: Event
    receipt: str
    """What acks this delivery, once; only the source looks into it. Empty where it could not be read: it can't be acked."""
    received_at: float
    expires_at: float
    """The end of the lease, in seconds of the event loop's clock: an ack from then on is refused, and the broker delivers the
    message again. Already corrected for the difference of the clocks, to the cautious side."""
    consumed_times: int
    """How often the message has been delivered, this delivery included."""
    shard: str = ""
    """Within which order holds, when it was asked for; empty for all messages without a sharding key."""
    published_at: float | None = None
    """When the message was published, on the same clock as `expires_at`; never later than `received_at`."""
    damage: str | None = None
    """Why the message can't be read; its event then holds the original bytes and goes to no sink but the dead letters'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one poll brought."""

    deliveries: Sequence[Delivery]
    """Empty when there was nothing to deliver."""
    waited: float
    """How long the poll took, in seconds: an empty answer that came much too early is a broker that doesn't hold polls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAcked:
    """A delivery that the broker did not let us ack; it will come again."""

    delivery: Delivery
    code: str
    """The broker's own word for why."""


class Source(Protocol):
    """Where messages come from.

    Both calls raise FixSettingsError, ThrottledError or TryAgainError (`bridge.errors`), and nothing else on purpose.
    """

    async def receive(self, max_messages: int, wait_seconds: int) -> Batch:
        """Ask for 1 to 16 messages, waiting up to so many seconds for the first.

        Cancelled in the middle, it lets go at once; what the broker had just handed out is lost to us until its lease ends.
        """
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        """Ack 1 to 16 deliveries with one request; those not among the answer are acked."""
        ...
