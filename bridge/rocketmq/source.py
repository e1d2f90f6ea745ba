"""The client as a Source."""

from collections.abc import Callable, Sequence

from bridge.delivery.lease import BrokerClock
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from bridge.source import Batch, Delivery, NotAcked


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
        # Messages of one poll share their lease, so one whose own is unreadable is taken to have its neighbours'.
        ends = [m.next_consume_time for m in polled.messages if m.next_consume_time is not None]
        return Batch(
            deliveries=[self._delivery(m, polled.received_at, min(ends, default=None)) for m in polled.messages],
            waited=polled.received_at - polled.sent_at,
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> Sequence[NotAcked]:
        """See `Source.ack`."""
        failures = await self._client.ack(self._subscription, [delivery.receipt for delivery in deliveries])
        if not failures:
            return ()
        codes = {failure.receipt_handle: failure.code for failure in failures}
        return [NotAcked(delivery=d, code=codes[d.receipt]) for d in deliveries if d.receipt in codes]

    def _delivery(self, message: Message | Damaged, received_at: float, otherwise: int | None) -> Delivery:
        if isinstance(message, Damaged):
            return self._damaged(message, received_at, otherwise)
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
            return self._damaged(damaged, received_at, otherwise)
        return Delivery(
            event=event,
            receipt=message.receipt_handle,
            received_at=received_at,
            expires_at=self._local(message.next_consume_time),
            consumed_times=message.consumed_times,
            shard=message.sharding_key or "",
            published_at=None if message.publish_time is None else min(self._local(message.publish_time), received_at),
        )

    def _damaged(self, message: Damaged, received_at: float, otherwise: int | None) -> Delivery:
        end = message.next_consume_time or otherwise
        return Delivery(
            event=self._conversion.damaged(message),
            receipt=message.receipt_handle or "",
            received_at=received_at,
            expires_at=received_at if end is None else self._local(end),  # an unknown lease counts as over
            consumed_times=message.consumed_times or 1,
            damage=message.reason,
        )

    def _local(self, instant: int) -> float:
        """An instant of the broker's clock, in milliseconds, on the event loop's."""
        # Without any Date header the broker's clock is taken to be ours.
        difference = self._wall_clock() - self._monotonic()
        return self._clock.local(instant / 1000, otherwise=difference)
