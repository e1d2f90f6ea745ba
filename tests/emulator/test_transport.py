"""Points 1 to 13 of protocol.md 10: transport and signing."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import pytest

from bridge.emulator.server import Emulator
from emulator.raw_http import Connection, connect, sign, signed
from emulator.sdk_replay import CPP, CSHARP, CSHARP_ASYNC, GO, JAVA, NODE, PYTHON, SDKS, Sdk

DATE = "Sat, 21 Nov 2026 19:22:54 GMT"
INSTANT = 1795288974.0
"""The same, in seconds since the epoch."""

GET_TARGET = "/topics/topicA/messages?consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=5&tag=TagA%7C%7CTagB%20%2A~"
POST_TARGET = "/topics/topicA/messages?ns=MQ_INST_1"
MESSAGE = b"<Message><MessageBody>a</MessageBody></Message>"


def by_name(sdk: Sdk) -> str:
    return sdk.name


def vector(method: str, target: str, signature: str, *, date: str = DATE, content_type: str = "") -> bytes:
    body = MESSAGE if method == "POST" else b""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        f"Date: {date}",
        "x-mq-version: 2015-06-06",
        f"Authorization: MQ AKID:{signature}",
        f"Content-Length: {len(body)}",
        *([f"Content-Type: {content_type}"] if content_type else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def fastest(attempt: Callable[[], Awaitable[object]], *, attempts: int = 5) -> float:
    """Seconds that the fastest of some attempts takes: the machine may be busy during the others."""
    durations = []
    for _ in range(attempts):
        begin = time.perf_counter()
        await attempt()
        durations.append(time.perf_counter() - begin)
    return min(durations)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        # The vectors of protocol.md 1.2.
        (vector("GET", GET_TARGET, "VA6ONQaYyq4igt6moIHEqeMItoY="), 200),
        (
            vector("POST", POST_TARGET, "E1uNOn5IT3iQ9fQ3NF+4Nz8Efag=", content_type="text/xml;charset=UTF-8"),
            201,
        ),
        # One byte of the path, the query's order, the date, the content type.
        (vector("GET", GET_TARGET.replace("topicA", "topicB"), "VA6ONQaYyq4igt6moIHEqeMItoY="), 403),
        (
            vector(
                "GET",
                GET_TARGET.replace("numOfMessages=3&ns=MQ_INST_1", "ns=MQ_INST_1&numOfMessages=3"),
                "VA6ONQaYyq4igt6moIHEqeMItoY=",
            ),
            403,
        ),
        (vector("GET", GET_TARGET, "VA6ONQaYyq4igt6moIHEqeMItoY=", date=DATE.replace("54", "55")), 403),
        (vector("GET", GET_TARGET, "VA6ONQaYyq4igt6moIHEqeMItoY=", content_type="text/plain"), 403),
        (
            vector("POST", POST_TARGET, "E1uNOn5IT3iQ9fQ3NF+4Nz8Efag=", content_type="text/xml;charset=utf-8"),
            403,
        ),
    ],
)
async def test_point_01_signature_vectors_verify_and_a_changed_byte_does_not(request_bytes: bytes, status: int) -> None:
    async with Emulator(clock=lambda: INSTANT) as emulator, connect(emulator.url) as connection:
        emulator.publish("topicA", "body", instance="MQ_INST_1", tag="TagA")
        response = await connection.send(request_bytes)
    assert response.status == status
    if status == 403:
        assert response.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("sdk", [GO, NODE], ids=by_name)
async def test_point_02_content_md5_is_signed_and_its_text_form_is_no_invalid_digest(connection: Connection, sdk: Sdk) -> None:
    published = await connection.send(sdk.publish_request())
    assert published.status == 201
    assert (await connection.send(sdk.consume_request())).texts("MessageId") == published_ids(published.body)


def published_ids(document: bytes) -> list[str]:
    return [document.partition(b"<MessageId>")[2].partition(b"<")[0].decode()]


@pytest.mark.parametrize(
    ("digest", "status"),
    [
        ("DMF1ucDxtqgxw5niaXcmYQ==", 201),  # the bytes of the MD5 of `a`
        ("MGNjMTc1YjljMGYxYjZhODMxYzM5OWUyNjk3NzI2NjE=", 201),  # its text
        ("ZDQxZDhjZDk4ZjAwYjIwNGU5ODAwOTk4ZWNmODQyN2U=", 400),  # that of an empty body
    ],
)
async def test_point_02_either_form_of_content_md5_is_checked(connection: Connection, digest: str, status: int) -> None:
    target, date = "/topics/topicA/messages", formatdate(time.time(), usegmt=True)
    body = b"a"
    response = await connection.send(
        f"POST {target} HTTP/1.1\r\nHost: h\r\nDate: {date}\r\nx-mq-version: 2015-06-06\r\nContent-MD5: {digest}\r\n"
        f"Authorization: {sign('POST', target, date=date, content_md5=digest)}\r\nContent-Length: 1\r\n\r\n".encode()
        + body
    )
    # The digest fits; that `a` is no XML is found later.
    assert response.code == ("MalformedXML" if status == 201 else "InvalidDigest")


async def test_point_03_a_get_without_content_type_verifies_with_an_empty_line(
    emulator: Emulator, connection: Connection
) -> None:
    emulator.publish("topicA", "body", instance="MQ_INST_1", tag="TagA")
    assert b"content-type" not in PYTHON.consume_request().lower()
    assert (await connection.send(PYTHON.consume_request())).texts("MessageBody") == ["body"]


async def test_point_03_a_get_that_signs_a_content_type_it_does_not_send_is_tolerated(
    emulator: Emulator, connection: Connection
) -> None:
    emulator.publish("topicA", "body", instance="MQ_INST_1", tag="TagA")
    assert b"content-type" not in CSHARP_ASYNC.consume_request().lower()
    assert (await connection.send(CSHARP_ASYNC.consume_request())).texts("MessageBody") == ["body"]


@pytest.mark.parametrize(
    "content_type", ["text/xml", "text/xml;charset=utf-8", "text/xml;charset=UTF-8", "text/xml; charset=utf-8"]
)
async def test_point_04_every_spelling_of_the_content_type_verifies(connection: Connection, content_type: str) -> None:
    response = await connection.call("POST", "/topics/topicA/messages", MESSAGE, content_type=content_type)
    assert response.status == 201


@pytest.mark.parametrize("tag", ["TagA%7C%7CTagB+*%7E", "TagA%7C%7CTagB%20%2A~"])
async def test_point_05_raw_query_bytes_are_signed_and_decoded_ones_filter(
    emulator: Emulator, connection: Connection, tag: str
) -> None:
    for published in ("TagA", "TagB *~", "TagB", "TagB+*~"):
        emulator.publish("topicA", published, instance="MQ_INST_1", tag=published)
    assert (await connection.consume(f"&tag={tag}")).texts("MessageBody") == ["TagA", "TagB *~"]


@pytest.mark.parametrize(
    ("left_out", "status", "code"),
    [("Authorization", 400, "MissingAuthorizationHeader"), ("Date", 400, "MissingDateHeader")],
)
async def test_point_06_a_missing_header_is_named(connection: Connection, left_out: str, status: int, code: str) -> None:
    lines = signed("GET", GET_TARGET).split(b"\r\n")
    kept = [line for line in lines if not line.startswith(left_out.encode())]
    assert len(kept) == len(lines) - 1
    response = await connection.send(b"\r\n".join(kept))
    assert (response.status, response.code) == (status, code)


async def test_point_06_an_unknown_key_is_forbidden(connection: Connection) -> None:
    response = await connection.call("GET", GET_TARGET, key="OTHER")
    assert (response.status, response.code) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize("minutes", [-14, 14])
async def test_point_06_a_date_14_minutes_off_is_accepted(connection: Connection, minutes: int) -> None:
    date = formatdate(time.time() + minutes * 60, usegmt=True)
    response = await connection.call("POST", POST_TARGET, MESSAGE, date=date)
    assert response.status == 201


@pytest.mark.parametrize("minutes", [-16, 16])
async def test_point_06_a_date_16_minutes_off_is_expired(connection: Connection, minutes: int) -> None:
    date = formatdate(time.time() + minutes * 60, usegmt=True)
    response = await connection.call("POST", POST_TARGET, MESSAGE, date=date)
    assert (response.status, response.code) == (408, "TimeExpired")


@pytest.mark.parametrize("date", ["yesterday", "2026-11-21T19:22:54Z", "99999999999999999999", ","])
async def test_point_06_a_date_in_another_format_is_invalid(connection: Connection, date: str) -> None:
    response = await connection.call("POST", POST_TARGET, MESSAGE, date=date)
    assert (response.status, response.code) == (400, "InvalidDateHeader")


@pytest.mark.parametrize("authorization", ["MQ", "MQ AKID", "Basic AKID:x", "MQ  AKID:x:"])
async def test_point_06_another_form_of_authorization_is_refused(connection: Connection, authorization: str) -> None:
    request = signed("POST", POST_TARGET, MESSAGE)
    lines = [
        f"Authorization: {authorization}".encode() if line.startswith(b"Authorization") else line
        for line in request.split(b"\r\n")
    ]
    response = await connection.send(b"\r\n".join(lines))
    assert response.code in {"InvalidAuthorizationHeader", "InvalidAccessKeyId"}


async def test_point_07_security_token_does_not_change_the_signature(connection: Connection) -> None:
    for headers in ([], ["security-token: CAISabc"], ["Security-Token: other"]):
        assert (await connection.call("POST", POST_TARGET, MESSAGE, headers=headers)).status == 201


@pytest.mark.parametrize("sdk", SDKS, ids=by_name)
async def test_point_08_every_sdk_works_end_to_end_as_it_writes_its_headers(connection: Connection, sdk: Sdk) -> None:
    published = [await connection.send(sdk.publish_request()) for _ in range(2)]
    consumed = await connection.send(sdk.consume_request())
    assert [id_ for response in published for id_ in published_ids(response.body)] == consumed.texts("MessageId")
    assert consumed.texts("MessageBody") == [sdk.received, sdk.received]
    assert consumed.texts("MessageTag") == ["TagB *~", "TagB *~"]
    assert set(consumed.items[0]["Properties"].split("|")) == {"KEYS:k", "a:b", ""}
    assert (await connection.send(sdk.ack_request(consumed.texts("ReceiptHandle")))).status == 204
    without_waiting = sdk.consume.replace("waitseconds=1", "waitseconds=0")
    assert (await connection.send(sdk.consume_request(without_waiting))).code == "MessageNotExist"


async def test_point_08_header_names_may_have_any_case_and_no_space(connection: Connection) -> None:
    request = signed("POST", POST_TARGET, MESSAGE)
    for name in (b"Date", b"x-mq-version", b"Authorization", b"Content-Type"):
        request = request.replace(name + b": ", name.swapcase() + b":")
    assert (await connection.send(request)).status == 201


@pytest.mark.parametrize("body", [b"a", bytes(random.Random(0).randbytes(182)), b"GET / HTTP/1.1\r\n\r\n"])
async def test_point_09_a_body_of_a_get_is_drained(connection: Connection, body: bytes) -> None:
    for _ in range(3):
        assert (await connection.call("GET", GET_TARGET.replace("waitseconds=5", "waitseconds=0"), body)).code == (
            "MessageNotExist"
        )
    assert (await connection.publish("after")).status == 201


@pytest.mark.parametrize("sdk", [CSHARP, CPP], ids=by_name)
async def test_point_09_the_get_bodies_of_csharp_and_cpp_do_not_upset_the_connection(connection: Connection, sdk: Sdk) -> None:
    assert sdk.get_body
    for _ in range(2):
        assert (await connection.send(sdk.publish_request())).status == 201
        assert (await connection.send(sdk.consume_request())).status == 200


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
async def test_point_10_expect_is_answered_at_once(connection: Connection, expect: str) -> None:
    head, _, body = signed("POST", POST_TARGET, MESSAGE, headers=[f"Expect: {expect}"]).partition(b"\r\n\r\n")

    async def ask() -> None:
        connection.writer.write(head + b"\r\n\r\n")
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    waits = []
    for _ in range(5):
        waits.append(await fastest(ask, attempts=1))
        assert (await connection.send(body)).status == 201
    assert min(waits) < 0.1


async def test_point_10_java_publishes_and_acks_without_its_pause(emulator: Emulator, connection: Connection) -> None:
    async def publish() -> None:
        assert (await connection.send(JAVA.publish_request())).status == 201

    assert await fastest(publish) < 0.5
    assert emulator.broker.calls.total() == 5


async def test_point_11_answers_carry_the_headers_in_their_spelling(connection: Connection) -> None:
    published = await connection.publish("a")
    consumed = await connection.consume()
    acked = await connection.ack(consumed.texts("ReceiptHandle"))
    responses = [published, consumed, acked, await connection.consume(), await connection.call("GET", "/nothing")]
    assert [response.status for response in responses] == [201, 200, 204, 404, 400]
    ids = []
    for response in responses:
        request_id = response.header("x-mq-request-id")
        assert request_id is not None
        assert len(request_id) == 24
        assert set(request_id) <= set("0123456789ABCDEF")
        assert abs(int(request_id[:8], 16) - time.time()) < 60
        ids.append(request_id)
        assert response.header("x-mq-version") == "2015-06-06"
        assert response.header("Date")
        if response.body:
            assert response.header("Content-Type") == "text/xml;charset=utf-8"
    assert len(set(ids)) == len(ids)


async def test_point_12_a_thousand_requests_on_one_connection(connection: Connection) -> None:
    for _ in range(250):
        assert (await connection.publish("a")).status == 201
        handles = (await connection.consume()).texts("ReceiptHandle")
        acked = await connection.ack(handles)
        assert acked.status == 204
        assert not acked.body
        assert acked.header("Content-Length") is None
        assert acked.header("Transfer-Encoding") is None
        assert (await connection.consume()).status == 404


async def test_point_13_a_request_line_of_1024_characters_works_and_1025_do_not(connection: Connection) -> None:
    def target(length: int) -> str:
        start = "/topics/topicA/messages?consumer=GID_a&ns=MQ_INST_1&numOfMessages=1&tag="
        return start + "x" * (length - len(f"GET {start} HTTP/1.1"))

    assert (await connection.call("GET", target(1024))).code == "MessageNotExist"
    too_long = await connection.call("GET", target(1025))
    assert (too_long.status, too_long.code) == (400, "InvalidRequestURL")
    assert (await connection.call("GET", target(20_000))).code == "InvalidRequestURL"
    assert (await connection.call("GET", target(1024))).code == "MessageNotExist"


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/topics/topicA", "InvalidRequestURL"),
        ("GET", "//topics/topicA/messages", "InvalidRequestURL"),
        ("GET", "/topics//messages", "InvalidRequestURL"),
        ("GET", "/topics/topicA/messages/", "InvalidRequestURL"),
        ("PUT", "/topics/topicA/messages", "HTTPForbidden"),
        ("POST", "/topics/topicA/messages?consumer=GID_a", "InvalidQueryString"),
        ("GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=1&color=red", "InvalidQueryString"),
        ("GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=1&tag=TagA||TagB", "InvalidQueryString"),
        ("GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=1&consumer=GID_b", "InvalidQueryString"),
        ("GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=1&trans=push", "InvalidArgument"),
        ("DELETE", "/topics/topicA/messages?consumer=GID_a&trans=maybe", "InvalidArgument"),
        ("GET", "/topics/topicA/messages?numOfMessages=1", "InvalidArgument"),
        ("GET", "/topics/topicA/messages?consumer=group&numOfMessages=1", "InvalidArgument"),
    ],
)
async def test_a_request_that_asks_for_nonsense_is_refused_by_name(
    connection: Connection, method: str, target: str, code: str
) -> None:
    assert (await connection.call(method, target)).code == code


async def test_a_request_without_version_is_refused(connection: Connection) -> None:
    response = await connection.send(signed("GET", GET_TARGET).replace(b"x-mq-version: 2015-06-06\r\n", b""))
    assert response.code == "InvalidArgument"


async def test_a_body_beyond_any_message_is_refused(emulator: Emulator) -> None:
    async with connect(emulator.url) as connection:
        head = signed("POST", POST_TARGET).replace(b"Content-Length: 0", b"Content-Length: 99999999")
        connection.writer.write(head)
        sending = asyncio.create_task(_send_much(connection))
        response = await connection.receive()
        sending.cancel()
    assert response.code == "InvalidArgument"


async def _send_much(connection: Connection) -> None:
    for _ in range(99):
        connection.writer.write(b"x" * 1_000_000)
        await connection.writer.drain()
