"""The client as a Source."""

from collections.abc import Callable, Sequence

from bridge.delivery.lease import BrokerClock
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from bridge.source import Batch, Delivery, NotAcked

UNKNOWN_LEASE_SECONDS = 15.0
"""How long a delivery is taken to be ours whose lease can't be read: less than the shortest that was seen (protocol.md 6)."""


class RocketMQSource:
    """One subscription, polled and acked through one client.

    `clock` is told of the broker's dates by the client. `wall_clock`, in seconds since the epoch, stands in for the broker's
    until its first date is known; `monotonic` is the clock of the event loop.
    """

    def __init__(
        self,
        client: Client,
        subscription: Subscription,
        conversion: Conversion,
        *,
        clock: BrokerClock,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._conversion = conversion
        self._clock = clock
        self._monotonic = monotonic
        self._wall_clock = wall_clock

    async def receive(self, max_messages: int, wait_seconds: int) -> Batch:
        """See `Source.receive`."""
        polled = await self._client.poll(self._subscription, max_messages=max_messages, wait_seconds=wait_seconds)
        # The broker's epoch on the event loop's clock. Without any Date header the broker's clock is taken to be ours.
        ours = self._wall_clock() - self._monotonic()
        epoch, likely_epoch = self._clock.local(0.0, otherwise=ours), self._clock.likely(0.0, ours=ours)
        # Messages of one poll share their lease, so one whose own is unreadable is taken to have its neighbours'.
        ends = [m.next_consume_time for m in polled.messages if m.next_consume_time is not None]
        otherwise = min(ends, default=None)
        return Batch(
            deliveries=[self._delivery(m, polled.received_at, epoch, likely_epoch, otherwise) for m in polled.messages],
            waited=polled.received_at - polled.sent_at,
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        """See `Source.ack`."""
        failures = await self._client.ack(self._subscription, [delivery.receipt for delivery in deliveries])
        if not failures:
            return ()
        codes = {failure.receipt_handle: failure.code for failure in failures}
        return [NotAcked(delivery=d, code=codes[d.receipt]) for d in deliveries if d.receipt in codes]

    def _delivery(
        self, message: Message | Damaged, received_at: float, epoch: float, likely_epoch: float, otherwise: int | None
    ) -> Delivery:
        if isinstance(message, Damaged):
            return self._damaged(message, received_at, epoch, otherwise)
        try:
            event = self._conversion.event(message)
        except Exception as problem:  # noqa: BLE001 - not even a bug of ours may let one message hold its batch
            damaged = Damaged(
                reason=str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}",
                raw=message.body.encode(errors="surrogatepass"),
                message_id=message.message_id,
                receipt_handle=message.receipt_handle,
                next_consume_time=message.next_consume_time,
                consumed_times=message.consumed_times,
            )
            return self._damaged(damaged, received_at, epoch, otherwise)
        published = message.publish_time
        return Delivery(
            event=event,
            receipt=message.receipt_handle,
            received_at=received_at,
            expires_at=epoch + message.next_consume_time / 1000,
            consumed_times=message.consumed_times,
            shard=message.sharding_key or "",
            published_at=None if published is None else min(likely_epoch + published / 1000, received_at),
        )

    def _damaged(self, message: Damaged, received_at: float, epoch: float, otherwise: int | None) -> Delivery:
        end = message.next_consume_time or otherwise
        return Delivery(
            event=self._conversion.damaged(message),
            receipt=message.receipt_handle or "",
            received_at=received_at,
            expires_at=received_at + UNKNOWN_LEASE_SECONDS if end is None else epoch + end / 1000,
            consumed_times=message.consumed_times or 1,
            damage=message.reason,
        )
