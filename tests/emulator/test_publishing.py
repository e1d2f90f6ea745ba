"""Points 35 to 37 of protocol.md 10, and the limits of 9: publishing and transactions."""

import hashlib
import time

import pytest

from bridge.emulator.server import Emulator
from emulator.raw_http import Connection
from emulator.sdk_replay import SDKS, Sdk

TARGET = "/topics/topicA/messages?ns=MQ_INST_1"


def by_name(sdk: Sdk) -> str:
    return sdk.name


@pytest.mark.parametrize("sdk", SDKS, ids=by_name)
async def test_point_35_a_publish_is_answered_with_201_id_and_md5(connection: Connection, sdk: Sdk) -> None:
    response = await connection.send(sdk.publish_request())
    fields = {field.tag.partition("}")[2]: field.text or "" for field in response.root}
    assert response.status == 201
    assert set(fields) == {"MessageId", "MessageBodyMD5"}
    assert len(fields["MessageId"]) == 32
    assert set(fields["MessageId"]) <= set("0123456789ABCDEF")
    assert fields["MessageBodyMD5"] == hashlib.md5(sdk.received.encode()).hexdigest().upper()  # noqa: S324 - the protocol's


async def test_point_35_only_a_half_message_gets_a_receipt_handle(connection: Connection) -> None:
    response = await connection.publish("a", properties="__TransCheckT:10|")
    assert response.status == 201
    assert b"<ReceiptHandle>" in response.body
    assert (await connection.consume()).code == "MessageNotExist"


async def test_point_36_a_commit_shows_a_half_message_and_a_rollback_does_not(connection: Connection) -> None:
    handles = {}
    for body in ("committed", "rolled back", "open"):
        published = await connection.publish(body, properties="__TransCheckT:10|")
        handles[body] = published.body.partition(b"<ReceiptHandle>")[2].partition(b"<")[0].decode()
    assert (await connection.consume()).code == "MessageNotExist"
    assert (await connection.ack([handles["committed"]], "&trans=commit", group="GID_p")).status == 204
    assert (await connection.ack([handles["rolled back"]], "&trans=rollback", group="GID_p")).status == 204
    assert (await connection.consume()).texts("MessageBody") == ["committed"]
    again = await connection.ack([handles["rolled back"]], "&trans=commit", group="GID_p")
    assert again.texts("ErrorCode") == ["MessageNotExist"]
    assert (await connection.ack([handles["open"]])).texts("ErrorCode") == ["ReceiptHandleError"]
    assert (await connection.consume()).code == "MessageNotExist"


async def test_a_commit_without_a_group_is_accepted(connection: Connection) -> None:
    # Go sends an empty consumer on an instance without a namespace (protocol.md 2.1).
    document = b"<Message><MessageBody>a</MessageBody><Properties>__TransCheckT:10|</Properties></Message>"
    published = await connection.call("POST", "/topics/topicA/messages", document)
    handle = published.body.partition(b"<ReceiptHandle>")[2].partition(b"<")[0]
    body = b"<ReceiptHandles><ReceiptHandle>" + handle + b"</ReceiptHandle></ReceiptHandles>"
    response = await connection.call("DELETE", "/topics/topicA/messages?consumer=&trans=commit", body)
    assert response.status == 204
    assert (await connection.call("DELETE", "/topics/topicA/messages?consumer=", body)).code == "InvalidArgument"


async def test_point_37_a_delayed_message_comes_at_its_time(connection: Connection) -> None:
    deliver_at = int(time.time() * 1000) + 3000
    await connection.publish("a", properties=f"__STARTDELIVERTIME:{deliver_at}|")
    assert (await connection.consume()).code == "MessageNotExist"
    assert (await connection.consume("&waitseconds=5")).texts("MessageBody") == ["a"]
    assert 0 <= time.time() * 1000 - deliver_at < 1000


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"a",
        b"<Message><MessageBody>a</Message>",
        b"<Message><MessageBody>a & b</MessageBody></Message>",
        b"<Message><MessageBody>&#1;</MessageBody></Message>",
        b"<Message><MessageBody>\xff</MessageBody></Message>",
        b"<Message><MessageBody>&undefined;</MessageBody></Message>",
        b"<Message>" + b"<a>" * 1000,
        b'<!DOCTYPE Message [<!ENTITY a "aa">]><Message><MessageBody>&a;</MessageBody></Message>',
        b'<!DOCTYPE Message SYSTEM "http://127.0.0.1:1/x.dtd"><Message><MessageBody>a</MessageBody></Message>',
        b'<!DOCTYPE Message [<!ENTITY a SYSTEM "file:///etc/hostname">]><Message><MessageBody>&a;</MessageBody></Message>',
    ],
)
async def test_point_37_malformed_xml_is_refused(connection: Connection, document: bytes) -> None:
    response = await connection.call("POST", TARGET, document)
    assert (response.status, response.code) == (400, "MalformedXML")


@pytest.mark.parametrize(
    "document",
    [
        "<Other><MessageBody>a</MessageBody></Other>",
        "<Message><MessageTag>a</MessageTag></Message>",
        "<Message><MessageBody>a<b>c</b></MessageBody></Message>",
        "<Message><MessageBody>a</MessageBody><MessageTag>a|b</MessageTag></Message>",
        *[
            f"<Message><MessageBody>a</MessageBody><Properties>{properties}</Properties></Message>"
            for properties in (
                "a",
                "a:b:c|",
                "KEYS:k:1|",
                ":b|",
                "a:b||c:d|",
                "a:b|a:c|",
                "a:&quot;b|",
                "a:&lt;|",
                "a:&amp;|",
                "__STARTDELIVERTIME:soon|",
                "__STARTDELIVERTIME:99999999999999|",
                f"__STARTDELIVERTIME:{'9' * 5000}|",
                "__TransCheckT:9|",
                "__TransCheckT:301|",
                "__TransCheckT:x|",
                "a:" + "b" * 16_382 + "|",
            )
        ],
    ],
)
async def test_a_message_that_the_service_cannot_carry_is_refused(connection: Connection, document: str) -> None:
    response = await connection.call("POST", TARGET, document.encode())
    assert (response.status, response.code) == (400, "InvalidArgument")


async def test_the_longest_properties_are_carried(connection: Connection) -> None:
    properties = "a:" + "b" * 16_381 + "|"
    assert (await connection.publish("a", properties=properties)).status == 201
    assert (await connection.consume()).texts("Properties") == [properties]


@pytest.mark.parametrize("escaped", ["x", "&quot;", "&#60;"])
async def test_a_body_of_4_mb_is_carried_and_one_byte_more_is_not(connection: Connection, escaped: str) -> None:
    size = 4 * 1024 * 1024

    def document(length: int) -> bytes:
        return f"<Message><MessageBody>{escaped * length}</MessageBody></Message>".encode()

    assert (await connection.call("POST", TARGET, document(size))).status == 201
    assert (await connection.call("POST", TARGET, document(size + 1))).code == "InvalidArgument"
    [body] = (await connection.consume()).texts("MessageBody")
    assert len(body) == size


@pytest.mark.parametrize("special", ["__TransCheckT:10|", "__STARTDELIVERTIME:{later}|"])
async def test_a_special_body_of_64_kb_is_carried_and_one_byte_more_is_not(connection: Connection, special: str) -> None:
    properties = special.format(later=int(time.time() * 1000) + 60_000)
    assert (await connection.publish("é" * 32 * 1024, properties=properties)).status == 201
    assert (await connection.publish("é" * 32 * 1024 + "x", properties=properties)).code == "InvalidArgument"


async def test_a_delivery_time_that_has_passed_delays_nothing(emulator: Emulator, connection: Connection) -> None:
    await connection.publish("a", properties=f"__STARTDELIVERTIME:{emulator.now() - 1}|")
    assert (await connection.consume()).texts("MessageBody") == ["a"]
