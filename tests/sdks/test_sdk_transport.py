import asyncio
import base64
import hashlib
import re
import time

import pytest

from bridge.emulator.server import Emulator
from sdks.drivers import Driver, SdkError
from sdks.wiretap import tap

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_point_02_nodes_digest_of_a_hexadecimal_digest_is_signed_and_accepted(node: Driver, emulator: Emulator) -> None:
    async with tap(emulator.url) as wire:
        published = await node.using(endpoint=wire.url).call("publish", body="digested")
    sent_body = bytes(wire.sent).partition(b"\r\n\r\n")[2]
    digest = base64.b64encode(hashlib.md5(sent_body, usedforsecurity=False).hexdigest().encode())
    assert b"content-md5: " + digest in wire.sent
    assert published["messageId"]


async def test_point_03_a_python_get_without_a_content_type_verifies(python: Driver, emulator: Emulator) -> None:
    await python.call("publish", body="fetched")
    async with tap(emulator.url) as wire:
        messages = await python.using(endpoint=wire.url).poll()
    assert [message["body"] for message in messages] == ["fetched"]
    assert wire.sent.startswith(b"GET ")
    assert b"content-type" not in wire.sent.lower()


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({"accessKeySecret": "WRONG"}, "SignatureDoesNotMatch"),
        ({"accessKeyId": "NOBODY"}, "InvalidAccessKeyId"),
    ],
)
async def test_a_wrong_key_is_told_from_an_unknown_one(driver: Driver, credentials: dict[str, str], code: str) -> None:
    stranger = driver.using(**credentials)
    with pytest.raises(SdkError) as publishing:
        await stranger.call("publish", body="unsigned")
    with pytest.raises(SdkError) as consuming:
        await stranger.call("consume")
    with pytest.raises(SdkError) as acking:
        await stranger.call("ack", handles=["handle"])
    assert [caught.value.code for caught in (publishing, consuming, acking)] == [code, code, code]


async def test_point_07_a_security_token_travels_beside_the_signature(driver: Driver, emulator: Emulator) -> None:
    async with tap(emulator.url) as wire:
        assumed = driver.using(endpoint=wire.url, securityToken="TEMPORARY")
        published = await assumed.call("publish", body="by a role")
        [message] = await assumed.poll()
        assert await assumed.settle(handles=[message["receiptHandle"]]) == {}
    assert message["messageId"] == published["messageId"]
    assert wire.sent.lower().count(b"\r\nsecurity-token: temporary\r\n") == 3


async def test_point_10_a_java_publish_does_not_wait_for_a_continue(java: Driver, emulator: Emulator) -> None:
    async with tap(emulator.url) as wire:
        tapped = java.using(endpoint=wire.url)
        await tapped.call("publish", body="the first loads classes")
        took = []
        for _ in range(3):
            began = time.monotonic()
            await tapped.call("publish", body="expected")
            took.append(time.monotonic() - began)
    assert wire.sent.count(b"Expect: 100-continue\r\n") == 4
    assert wire.answered.count(b"HTTP/1.1 100 ") == 4
    # An unanswered Expect costs 3 s each time; a busy machine, something now and then.
    assert min(took) < 0.5


async def test_point_11_every_answer_has_its_request_id_and_version_in_lower_case(driver: Driver, emulator: Emulator) -> None:
    async with tap(emulator.url) as wire:
        tapped = driver.using(endpoint=wire.url)
        await tapped.call("publish", body="identified")
        [message] = await tapped.poll()
        await tapped.settle(handles=[message["receiptHandle"]])
        await tapped.poll()
    statuses = re.findall(rb"HTTP/1\.1 (2\d\d|4\d\d) ", wire.answered)
    assert statuses == [b"201", b"200", b"204", b"404"]
    assert len(re.findall(rb"\r\nx-mq-request-id: [0-9A-F]{24}\r\n", wire.answered)) == 4
    assert wire.answered.count(b"\r\nx-mq-version: 2015-06-06\r\n") == 4


async def test_the_request_id_of_an_error_reaches_the_caller(driver: Driver) -> None:
    with pytest.raises(SdkError) as caught:
        await driver.using(accessKeySecret="WRONG").call("publish", body="unsigned")
    assert re.fullmatch("[0-9A-F]{24}", caught.value.request_id or "")


async def test_point_15_a_publish_ends_a_poll_that_waits(
    driver: Driver, python: Driver, node: Driver, emulator: Emulator
) -> None:
    publisher = node if driver.sdk == "python" else python  # a process does one thing at a time
    async with tap(emulator.url) as wire, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(driver.using(endpoint=wire.url).poll(wait=20))
        await wire.until_sent(b"waitseconds=20")
        published = await publisher.call("publish", body="at last")
        began = time.monotonic()
        [message] = await poll
        took = time.monotonic() - began
    assert message["messageId"] == published["messageId"]
    assert took < 1


async def test_point_15_a_wait_for_nothing_ends_in_time(driver: Driver) -> None:
    began = time.monotonic()
    assert await driver.poll(wait=2) == []
    assert 1.9 < time.monotonic() - began < 3
