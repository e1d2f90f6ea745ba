"""Points 29 to 33 of protocol.md 10: acks."""

import pytest

from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, connect
from emulator.sdk_replay import SDKS, Sdk

TARGET = "/topics/topicA/messages?consumer=GID_a&ns=MQ_INST_1"


def by_name(sdk: Sdk) -> str:
    return sdk.name


async def delivered(emulator: Emulator, connection: Connection, number: int) -> list[str]:
    """The handles of that many messages."""
    for message in range(number):
        emulator.publish("topicA", str(message), instance="MQ_INST_1")
    return (await connection.consume(count=number)).texts("ReceiptHandle")


async def test_point_29_sixteen_handles_are_acked_once(emulator: Emulator, connection: Connection) -> None:
    handles = await delivered(emulator, connection, 16)
    acked = await connection.ack(handles)
    assert (acked.status, acked.body) == (204, b"")
    again = await connection.ack([handles[5]])
    assert again.status == 404
    assert again.items == [
        {
            "ErrorCode": "MessageNotExist",
            "ErrorMessage": "The receipt handle you provide has expired.",
            "ReceiptHandle": handles[5],
        }
    ]


async def test_point_30_good_handles_are_acked_and_only_bad_ones_are_listed(emulator: Emulator, connection: Connection) -> None:
    handles = await delivered(emulator, connection, 3)
    response = await connection.ack([handles[0], "garbage", handles[2], "&lt;more garbage"])
    assert response.status == 404
    assert response.texts("ReceiptHandle") == ["garbage", "<more garbage"]
    book = emulator.broker.book(emulator.now(), "topicA", "GID_a", instance="MQ_INST_1")
    assert (book.acked, book.leased) == (2, 1)
    assert (await connection.ack([handles[1]])).status == 204


async def test_point_31_a_late_handle_differs_from_garbage() -> None:
    now = 1_700_000_000.0
    async with Emulator(clock=lambda: now, invisible_seconds=10) as emulator:
        emulator.publish("topicA", "a")
        [message] = emulator.broker.consume(emulator.now(), "topicA", "GID_a")
        now += 9.999
        late = emulator.now() + 1
        assert late == message.next_consume_time
        [failure] = emulator.broker.ack(late, "topicA", "GID_a", [message.receipt_handle])
        assert (failure.code, failure.receipt_handle) == ("MessageNotExist", message.receipt_handle)
        [garbage] = emulator.broker.ack(late, "topicA", "GID_a", ["garbage"])
        assert garbage.code == "ReceiptHandleError"


async def test_point_31_over_http_a_late_handle_is_listed_as_such() -> None:
    async with Emulator(invisible_seconds=0.05) as emulator, connect(emulator.url) as connection:
        [handle] = await delivered(emulator, connection, 1)
        [redelivery] = (await connection.consume("&waitseconds=5")).texts("ReceiptHandle")
        assert (await connection.ack([handle])).texts("ErrorCode") == ["MessageNotExist"]
        assert redelivery != handle


async def test_a_handle_of_another_topic_or_group_is_an_error(emulator: Emulator, connection: Connection) -> None:
    [handle] = await delivered(emulator, connection, 1)
    await connection.consume(group="GID_b")
    assert (await connection.ack([handle], group="GID_b")).texts("ErrorCode") == ["ReceiptHandleError"]
    assert (await connection.ack([handle], group="GID_never_seen")).texts("ErrorCode") == ["ReceiptHandleError"]
    assert (await connection.ack([handle], topic="topicB")).texts("ErrorCode") == ["ReceiptHandleError"]
    assert (await connection.ack([handle])).status == 204


@pytest.mark.parametrize(
    "document",
    [
        "<ReceiptHandles></ReceiptHandles>",
        "<ReceiptHandles/>",
        "<ReceiptHandles><ReceiptHandle></ReceiptHandle></ReceiptHandles>",
        "<ReceiptHandles>\n <ReceiptHandle> </ReceiptHandle>\n</ReceiptHandles>",
    ],
)
async def test_point_32_an_ack_without_handles_is_one_error(connection: Connection, document: str) -> None:
    response = await connection.call("DELETE", TARGET, document.encode())
    assert (response.status, response.code) == (404, "MissingReceiptHandle")
    assert response.root.tag.endswith("}Error")


async def test_more_than_sixteen_handles_are_refused(connection: Connection) -> None:
    assert (await connection.ack(["garbage"] * 16)).texts("ErrorCode") == ["ReceiptHandleError"]
    response = await connection.ack(["garbage"] * 17)
    assert (response.status, response.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("sdk", SDKS, ids=by_name)
async def test_point_33_the_ack_document_of_every_sdk_is_accepted(emulator: Emulator, connection: Connection, sdk: Sdk) -> None:
    handles = await delivered(emulator, connection, 2)
    assert (await connection.send(sdk.ack_request(handles))).status == 204
    assert emulator.broker.book(emulator.now(), "topicA", "GID_a", instance="MQ_INST_1").acked == 2


async def test_point_33_a_list_in_any_namespace_with_a_byte_order_mark_and_cdata_is_accepted(
    emulator: Emulator, connection: Connection
) -> None:
    one, other = await delivered(emulator, connection, 2)
    document = (
        '\ufeff<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        '<mq:ReceiptHandles xmlns:mq="urn:any">\n\t'
        f"<mq:ReceiptHandle><![CDATA[{one}]]></mq:ReceiptHandle>\n"
        f"  <!-- and --> <mq:ReceiptHandle>\n{other}\n</mq:ReceiptHandle></mq:ReceiptHandles>\n"
    )
    assert (await connection.call("DELETE", TARGET, document.encode())).status == 204
    assert emulator.broker.book(emulator.now(), "topicA", "GID_a", instance="MQ_INST_1").acked == 2


async def test_a_handle_that_is_sent_twice_in_one_ack_is_acked(emulator: Emulator, connection: Connection) -> None:
    [handle] = await delivered(emulator, connection, 1)
    assert (await connection.ack([handle, handle])).status == 204


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", "MalformedXML"),
        ("<ReceiptHandles>", "MalformedXML"),
        ("<ReceiptHandle>x</ReceiptHandle>", "InvalidArgument"),
        ("<ReceiptHandles><ReceiptHandle><a>x</a></ReceiptHandle></ReceiptHandles>", "InvalidArgument"),
    ],
)
async def test_an_ack_that_is_no_list_of_handles_is_refused(connection: Connection, document: str, code: str) -> None:
    response = await connection.call("DELETE", TARGET, document.encode())
    assert (response.status, response.code) == (400, code)


@pytest.mark.parametrize("change", ["", "x", "=", "A", "-"])
async def test_a_forged_handle_is_an_error(emulator: Emulator, connection: Connection, change: str) -> None:
    [handle] = await delivered(emulator, connection, 1)
    message_id, _, suffix = handle.partition("-")
    forged = f"{message_id}-{change}{suffix[1:]}"
    assert (await connection.ack([forged])).texts("ErrorCode") == ["ReceiptHandleError"]
