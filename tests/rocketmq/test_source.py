"""The client as a Source: leases in local time, damage handed on as damage, and what wasn't acked by its delivery."""

import pytest

from bridge.delivery.lease import BrokerClock
from bridge.event import Origin
from bridge.rocketmq.client import Client
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.source import UNKNOWN_LEASE_SECONDS, RocketMQSource
from bridge.source import Batch
from rocketmq.calls import SUBSCRIPTION
from rocketmq.documents import ack_errors, batch, element, expected
from rocketmq.servers import CREDENTIALS, answering, http

LEASE_END = 1_571_743_202.463
"""Of the sample message, on the broker's clock."""
LOCAL = 1000.0
"""What our monotonic clock shows all the time."""


async def receive(*answers: bytes, wall_clock: float = 1_571_742_902.0, strict_md5: bool = False) -> tuple[Batch, list[str]]:
    """What a source makes of the first answer, and the codes of what it could not ack when the second is the ack's."""
    clock = BrokerClock()
    async with (
        answering(*answers) as server,
        Client(
            server.url,
            lambda: CREDENTIALS,
            max_connections=1,
            wall_clock=lambda: wall_clock,
            monotonic=lambda: LOCAL,
            on_date=clock.observe,
        ) as client,
    ):
        source = RocketMQSource(
            client,
            SUBSCRIPTION,
            Conversion(
                origin=Origin(topic="topicA", group="GID_a"), source="/rocketmq/topicA", type_="t", strict_md5=strict_md5
            ),
            clock=clock,
            monotonic=lambda: LOCAL,
            wall_clock=lambda: wall_clock,
        )
        received = await source.receive(16, 0)
        not_acked = await source.ack(received.deliveries) if len(answers) > 1 else ()
    return received, [f"{failed.delivery.event.id} {failed.code}" for failed in not_acked]


async def test_a_lease_ends_in_local_time_by_the_brokers_date_and_never_late() -> None:
    dated = http(200, batch(element()), "Date: Tue, 22 Oct 2019 11:15:02 GMT")

    received, _ = await receive(dated, wall_clock=0.0)

    (delivery,) = received.deliveries
    # The date names a second: the broker's clock may already have shown almost the next.
    assert delivery.expires_at == pytest.approx(LOCAL + LEASE_END - 1_571_742_903)
    assert (delivery.received_at, received.waited) == (LOCAL, 0.0)


async def test_without_any_date_the_brokers_clock_is_taken_for_ours() -> None:
    received, _ = await receive(http(200, batch(element())), wall_clock=1_571_742_902.0)

    assert received.deliveries[0].expires_at == pytest.approx(LOCAL + LEASE_END - 1_571_742_902.0)


async def test_a_delivery_knows_its_message() -> None:
    message = element().replace("KEYS:MessageKey", "__SHARDINGKEY:s").replace("<ConsumedTimes>1", "<ConsumedTimes>4")

    received, _ = await receive(http(200, batch(message, element(2))))

    first, second = received.deliveries
    assert (first.receipt, first.consumed_times, first.shard, first.damage) == (expected().receipt_handle, 4, "s", None)
    assert (second.event.id, second.shard) == (expected(2).message_id, "")


async def test_a_damaged_message_whose_lease_cannot_be_read_has_that_of_its_neighbours() -> None:
    broken = element(2).replace("<NextConsumeTime>1571743202463</NextConsumeTime>", "")

    received, _ = await receive(http(200, batch(element(1), broken)))

    whole, damaged = received.deliveries
    assert whole.damage is None
    assert damaged.damage is not None
    assert damaged.expires_at == whole.expires_at
    assert damaged.receipt == expected(2).receipt_handle


async def test_a_lease_of_which_nothing_is_known_is_taken_for_a_short_one() -> None:
    """Long enough to bury what it is of, and to ack it."""
    received, _ = await receive(http(200, batch(element().replace("1571743202463", "soon"))))

    (delivery,) = received.deliveries
    assert delivery.damage is not None
    assert delivery.expires_at == delivery.received_at + UNKNOWN_LEASE_SECONDS


@pytest.mark.parametrize(
    ("message", "strict", "why"),
    [
        (element(body="not a"), True, "MD5"),
        (element().replace(expected().message_id + "</M", "I&#1;D</M"), False, "MessageId"),
        (element(body="a < b"), False, "broken"),
    ],
)
async def test_what_no_event_can_be_made_of_is_damage_and_can_still_be_acked(message: str, *, strict: bool, why: str) -> None:
    received, _ = await receive(http(200, batch(message, element(2, body="a"))), strict_md5=strict)

    damaged, whole = received.deliveries
    assert whole.damage is None
    assert damaged.damage is not None
    assert why in damaged.damage
    assert damaged.receipt == expected().receipt_handle
    assert damaged.event.structured()
    assert damaged.expires_at == whole.expires_at


@pytest.mark.parametrize(
    ("answer", "not_acked"),
    [
        (http(204), []),
        (
            http(404, ack_errors(("MessageNotExist", expected(2).receipt_handle))),
            [f"{expected(2).message_id} MessageNotExist"],
        ),
        (
            http(404, ack_errors(("ReceiptHandleError", ""))),
            [f"{expected(number).message_id} ReceiptHandleError" for number in (1, 2)],
        ),
    ],
)
async def test_what_was_not_acked_is_told_by_its_delivery(answer: bytes, not_acked: list[str]) -> None:
    _, told = await receive(http(200, batch(element(1), element(2))), answer)

    assert told == not_acked
