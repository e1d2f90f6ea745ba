"""Each fault does what it says, and nothing else."""

import asyncio
import hashlib
import random
import time
from email.utils import formatdate, parsedate_to_datetime
from xml.etree import ElementTree as ET

import pytest
from pydantic import ValidationError

from bridge.emulator.books import GroupBook
from bridge.emulator.faults import Faults
from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, connect

INSTANCE = "MQ_INST_1"


def book(emulator: Emulator) -> GroupBook:
    return emulator.broker.book(emulator.now(), "topicA", "GID_a", instance=INSTANCE)


def published(emulator: Emulator) -> int:
    return sum(topic.published for topic in emulator.broker.books(emulator.now()))


def test_every_fault_is_off_by_default_and_documented() -> None:
    assert not any(Faults().model_dump().values())
    assert all(field.description for field in Faults.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [("internal_error", 1.1), ("internal_error", -0.1), ("answer_delay_seconds", -1), ("open_poll_limit", -1)],
)
def test_a_value_out_of_range_is_refused_on_assignment(name: str, value: float) -> None:
    faults = Faults()
    with pytest.raises(ValidationError, match=name):
        setattr(faults, name, value)
    with pytest.raises(ValidationError, match="no_such_fault"):
        Faults.model_validate({"no_such_fault": 1})


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("internal_error", 500, "text/xml;charset=utf-8"),
        ("throttled", 400, "text/xml;charset=utf-8"),
        ("bad_gateway", 502, "text/html"),
        ("unavailable", 503, None),
    ],
)
async def test_a_failed_call_has_no_effect(
    emulator: Emulator, connection: Connection, fault: str, status: int, content_type: str | None
) -> None:
    setattr(emulator.faults, fault, 1)
    response = await connection.publish("a")
    assert (response.status, response.header("Content-Type")) == (status, content_type)
    assert bool(response.body) == (content_type is not None)
    assert published(emulator) == 0
    setattr(emulator.faults, fault, 0)
    assert (await connection.publish("a")).status == 201


async def test_codes_of_failed_calls(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.internal_error = 1
    assert (await connection.publish("a")).code == "InternalError"
    emulator.faults.internal_error = 0
    emulator.faults.throttled = 1
    assert (await connection.publish("a")).code == "QpsLimitExceeded"


async def test_a_share_is_a_share() -> None:
    async with Emulator(faults=Faults(internal_error=0.3), rng=random.Random(7)) as emulator:
        async with connect(emulator.url) as connection:
            statuses = [(await connection.publish("a")).status for _ in range(200)]
        assert 40 <= statuses.count(500) <= 80
        assert published(emulator) == statuses.count(201) == 200 - statuses.count(500)


@pytest.mark.parametrize(("fault", "effects"), [("cut_before", 0), ("cut_after", 1)])
async def test_a_connection_is_cut_before_or_after_the_effect(
    emulator: Emulator, connection: Connection, fault: str, effects: int
) -> None:
    setattr(emulator.faults, fault, 1)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await connection.publish("a")
    assert published(emulator) == effects


async def test_a_stalled_call_is_never_answered_and_has_no_effect(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.stalled = 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.publish("a"), 0.2)
    assert published(emulator) == 0


async def delivered(emulator: Emulator, connection: Connection) -> str:
    emulator.publish("topicA", "a", instance=INSTANCE)
    [handle] = (await connection.consume()).texts("ReceiptHandle")
    return handle


async def test_the_answer_to_an_ack_is_lost_after_its_effect(emulator: Emulator, connection: Connection) -> None:
    handle = await delivered(emulator, connection)
    emulator.faults.ack_answer_lost = 1
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await connection.ack([handle])
    assert book(emulator).acked == 1


async def test_a_refused_ack_has_no_effect(emulator: Emulator, connection: Connection) -> None:
    handle = await delivered(emulator, connection)
    emulator.faults.ack_refused = 1
    assert (await connection.ack([handle])).code == "InternalError"
    assert book(emulator).leased == 1
    emulator.faults.ack_refused = 0
    assert (await connection.ack([handle])).status == 204


async def test_after_one_missed_ack_a_message_can_never_be_acked() -> None:
    async with Emulator(invisible_seconds=0.05, faults=Faults(ack_stuck=True)) as emulator:
        async with connect(emulator.url) as connection:
            await delivered(emulator, connection)
            for times in range(2, 5):
                response = await connection.consume("&waitseconds=5")
                assert response.texts("ConsumedTimes") == [str(times)]
                acked = await connection.ack(response.texts("ReceiptHandle"))
                assert acked.status == 404
                assert [(item["ErrorCode"], item["ReceiptHandle"]) for item in acked.items] == [("ReceiptHandleError", "")]
        assert book(emulator).acked == 0


async def test_a_stuck_message_does_not_hold_up_the_ack_of_another() -> None:
    now = 1_700_000_000.0
    async with Emulator(clock=lambda: now, faults=Faults(ack_stuck=True)) as emulator:
        emulator.publish("topicA", "stuck")
        emulator.broker.consume(emulator.now(), "topicA", "GID_a")
        now += 300
        emulator.publish("topicA", "fresh")
        messages = emulator.broker.consume(emulator.now(), "topicA", "GID_a", count=2)
        assert sorted(message.consumed_times for message in messages) == [1, 2]
        async with connect(emulator.url) as other:
            body = "".join(f"<ReceiptHandle>{message.receipt_handle}</ReceiptHandle>" for message in messages)
            response = await other.call(
                "DELETE",
                "/topics/topicA/messages?consumer=GID_a",
                f"<ReceiptHandles>{body}</ReceiptHandles>".encode(),
                date=formatdate(now, usegmt=True),
            )
        assert response.texts("ReceiptHandle") == [""]
        assert emulator.broker.book(emulator.now(), "topicA", "GID_a").acked == 1


async def test_a_long_poll_ends_early(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.early_not_exist = 1
    async with asyncio.timeout(10):
        assert (await connection.consume("&waitseconds=30")).code == "MessageNotExist"
    emulator.publish("topicA", "a", instance=INSTANCE)
    assert (await connection.consume("&waitseconds=30")).status == 200


async def test_a_body_holds_an_illegal_character(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.illegal_character = 1
    emulator.publish("topicA", "a", instance=INSTANCE)
    response = await connection.consume()
    assert b"<MessageBody>a&#1;</MessageBody>" in response.body
    assert hashlib.md5(b"a\x01").hexdigest().upper().encode() in response.body  # noqa: S324 - the protocol's
    with pytest.raises(ET.ParseError):
        _ = response.root


async def test_a_body_has_the_md5_of_another(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.wrong_md5 = 1
    emulator.publish("topicA", "a", instance=INSTANCE)
    [message] = (await connection.consume()).items
    assert message["MessageBody"] == "a"
    assert message["MessageBodyMD5"] != "0CC175B9C0F1B6A831C399E269772661"


@pytest.mark.parametrize(("fault", "missing"), [("missing_id", "MessageId"), ("missing_body", "MessageBody")])
async def test_a_message_lacks_its_id_or_body(emulator: Emulator, connection: Connection, fault: str, missing: str) -> None:
    setattr(emulator.faults, fault, 1)
    emulator.publish("topicA", "a\nb", instance=INSTANCE, tag="TagA", properties={"a": "b"})
    [message] = (await connection.consume()).items
    assert {"MessageId", "MessageBody"} - set(message) == {missing}
    assert len(message) == 9
    assert (await connection.ack([message["ReceiptHandle"]])).status == 204


async def test_an_answer_is_not_well_formed(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.broken_xml = 1
    emulator.publish("topicA", "a", instance=INSTANCE)
    response = await connection.consume()
    with pytest.raises(ET.ParseError):
        _ = response.root
    handle = response.body.partition(b"<ReceiptHandle>")[2].partition(b"<")[0].decode()
    assert (await connection.ack([handle])).status == 204


async def test_damage_hits_a_share_of_the_deliveries() -> None:
    async with Emulator(faults=Faults(missing_body=0.5), rng=random.Random(3)) as emulator:
        for _ in range(64):
            emulator.publish("topicA", "a", instance=INSTANCE)
        async with connect(emulator.url) as other:
            items = [item for _ in range(4) for item in (await other.consume()).items]
    assert 16 <= sum("MessageBody" in item for item in items) <= 48


@pytest.mark.parametrize(("fault", "messages"), [("empty_ok", None), ("no_messages_ok", 0)])
async def test_an_answer_of_200_has_nothing_in_it(
    emulator: Emulator, connection: Connection, fault: str, messages: int | None
) -> None:
    emulator.publish("topicA", "a", instance=INSTANCE)
    setattr(emulator.faults, fault, 1)
    response = await connection.consume()
    assert response.status == 200
    assert (len(response.root) if response.body else None) == messages
    assert book(emulator).ready == 1


async def test_an_endless_answer_ends_when_the_client_hangs_up(emulator: Emulator, connection: Connection) -> None:
    emulator.publish("topicA", "a", instance=INSTANCE)
    emulator.faults.endless = 1
    async with connect(emulator.url) as other:
        assert (await other.consume()).header("Transfer-Encoding") == "chunked"
        received = 0
        while received < 20_000_000:
            received += len(await other.reader.read(1_000_000))
    emulator.faults.endless = 0
    assert (await connection.consume()).texts("MessageBody") == ["a"]


async def test_the_clock_is_ahead(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.clock_offset_seconds = 3600
    response = await connection.publish("a")
    assert response.code == "TimeExpired"
    date = parsedate_to_datetime(response.header("Date") or "")
    assert abs(date.timestamp() - time.time() - 3600) < 5
    emulator.faults.clock_offset_seconds = 600
    await connection.publish("a")
    [message] = (await connection.consume()).items
    for field in ("PublishTime", "FirstConsumeTime"):
        assert abs(int(message[field]) / 1000 - time.time() - 600) < 5


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("key_withdrawn", ["InvalidAccessKeyId"] * 4),
        ("consume_denied", ["AccessDenied", None, None, None]),
        ("ack_denied", [None, "AccessDenied", "AccessDenied", None]),
        ("publish_denied", [None, None, None, "AccessDenied"]),
    ],
)
async def test_a_right_is_taken_away(emulator: Emulator, connection: Connection, fault: str, codes: list[str | None]) -> None:
    handle = await delivered(emulator, connection)
    half = emulator.publish("topicA", "half", instance=INSTANCE, properties={"__TransCheckT": "10"})
    emulator.publish("topicA", "b", instance=INSTANCE)
    setattr(emulator.faults, fault, True)
    responses = [
        await connection.consume(),
        await connection.ack([handle]),
        await connection.ack([half.receipt_handle or ""], "&trans=rollback"),
        await connection.publish("c"),
    ]
    assert [response.code if response.status == 403 else None for response in responses] == codes
    assert all(response.status in {200, 201, 204, 403} for response in responses)


async def test_an_answer_is_held_back_after_its_effect(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.answer_delay_seconds = 0.3
    begin = time.perf_counter()
    publish = asyncio.create_task(connection.publish("a"))
    async with asyncio.timeout(10):
        await emulator.until(lambda: published(emulator) == 1)
    assert not publish.done()
    assert (await publish).status == 201
    assert time.perf_counter() - begin >= 0.3


async def test_an_answer_trickles(emulator: Emulator, connection: Connection) -> None:
    emulator.faults.trickle_seconds = 0.001
    begin = time.perf_counter()
    response = await connection.publish("a")
    assert response.status == 201
    assert response.root.tag.endswith("}Message")
    assert time.perf_counter() - begin >= 0.001 * len(response.body)
    [handle] = (await connection.consume()).texts("ReceiptHandle")
    assert (await connection.ack([handle])).status == 204
