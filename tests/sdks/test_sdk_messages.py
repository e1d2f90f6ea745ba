import hashlib
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.emulator.server import Emulator
from sdks.drivers import Driver, SdkError
from sdks.install import Sdk
from sdks.wiretap import tap

pytestmark = pytest.mark.asyncio(loop_scope="session")

MAX_BODY_BYTES = 4 * 1024 * 1024


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


@pytest_asyncio.fixture(loop_scope="session")
async def emulator_of_one_topic() -> AsyncIterator[Emulator]:
    async with Emulator(topics=["known"]) as emulator:
        yield emulator


async def test_point_17_python_raises_on_an_empty_topic(python: Driver) -> None:
    with pytest.raises(SdkError) as caught:
        await python.call("consume")
    assert (caught.value.type, caught.value.code) == ("MQServerException", "MessageNotExist")


async def test_point_17_node_rejects_on_an_empty_topic(node: Driver) -> None:
    with pytest.raises(SdkError) as caught:
        await node.call("consume")
    assert caught.value.code == "MessageNotExist"


async def test_point_17_java_returns_null_on_an_empty_topic(java: Driver) -> None:
    assert await java.call("consume") is None
    # Its second call would hang, had the first one killed the dispatcher (protocol.md 2.5).
    assert await java.call("consumeOrderly") is None


BODY = "a <b>&\"' 中 😀\r\n\tend"

AS_RECOVERED: dict[Sdk, str] = {
    # Raw CR LF in the request is LF to whoever parses it (protocol.md 4.1).
    "python": BODY.replace("\r\n", "\n"),
    "node": BODY.replace("\r\n", "\n"),
    "java": BODY,
}


async def test_point_20_a_body_arrives_as_its_publisher_wrote_it(publisher: Driver, driver: Driver) -> None:
    published = await publisher.call("publish", body=BODY)
    [message] = await driver.poll()
    body = AS_RECOVERED[publisher.sdk]
    assert message["body"] == body
    assert published["bodyMd5"] == message["bodyMd5"] == md5(body)


async def test_a_body_of_the_largest_size_goes_there_and_back(driver: Driver) -> None:
    body = "&quot; 中".ljust(64) * (MAX_BODY_BYTES // 66)
    published = await driver.call("publish", body=body)
    [message] = await driver.poll()
    assert (message["messageId"], message["body"]) == (published["messageId"], body)


@pytest.mark.parametrize("body", ["a]]>b", "a]]><b>"])
async def test_point_37_node_is_told_that_its_cdata_broke(node: Driver, body: str) -> None:
    with pytest.raises(SdkError) as caught:
        await node.call("publish", body=body)
    assert caught.value.code == "MalformedXML"


async def test_point_37_java_is_told_that_xml_holds_no_control_characters(java: Driver) -> None:
    with pytest.raises(SdkError) as caught:
        await java.call("publish", body="a\x01b")
    assert caught.value.code == "MalformedXML"


async def test_point_22_every_sdk_sees_every_property_of_every_other(
    publisher: Driver, driver: Driver, emulator: Emulator
) -> None:
    properties = {"colour": "red", "größe": "大 1", "last": "pair"}
    await publisher.call("publish", body="lettered", tag="TagA", keys="order-1", properties=properties)
    async with tap(emulator.url) as wire:
        [message] = await driver.using(endpoint=wire.url).poll()
    assert (message["tag"], message["keys"]) == ("TagA", "order-1")
    assert {name: message["properties"].get(name) for name in properties} == properties
    assert re.search(rb"<Properties>[^<]+\|</Properties>", wire.answered)


async def test_point_19_a_message_without_tag_and_properties_of_its_own_is_read(publisher: Driver, driver: Driver) -> None:
    published = await publisher.call("publish", body="bare")
    [message] = await driver.poll()
    assert message["messageId"] == published["messageId"]
    assert (message["body"], message["tag"], message["shardingKey"]) == ("bare", None, None)


async def test_point_05_each_sdks_spelling_of_tags_means_the_same(driver: Driver) -> None:
    tags = ["TagA", "TagB *~", "TagC"]
    for tag in tags:
        await driver.call("publish", body=tag, tag=tag)
    messages = await driver.poll(tag="TagA||TagB *~")
    assert sorted(message["tag"] for message in messages) == ["TagA", "TagB *~"]


async def test_point_24_an_unknown_topic_is_named_as_such(driver: Driver, emulator_of_one_topic: Emulator) -> None:
    known = driver.using(endpoint=emulator_of_one_topic.url, topic="known")
    await known.call("publish", body="arrives")
    assert [message["body"] for message in await known.poll()] == ["arrives"]
    unknown = known.using(topic="unknown")
    with pytest.raises(SdkError) as publishing:
        await unknown.call("publish", body="lost")
    with pytest.raises(SdkError) as consuming:
        await unknown.call("consume")
    assert (publishing.value.code, consuming.value.code) == ("TopicNotExist", "TopicNotExist")


async def test_point_35_a_publish_is_answered_with_id_and_digest(driver: Driver, emulator: Emulator) -> None:
    async with tap(emulator.url) as wire:
        published = await driver.using(endpoint=wire.url).call("publish", body="a")
    assert b"HTTP/1.1 201 " in wire.answered
    assert re.fullmatch("[0-9A-F]{32}", published["messageId"])
    # The documented digest of the documented body (protocol.md 2.3).
    assert published["bodyMd5"] == "0CC175B9C0F1B6A831C399E269772661"
    assert published["receiptHandle"] is None


async def test_point_35_a_half_message_is_answered_with_a_handle(driver: Driver) -> None:
    published = await driver.call("publish", body="half", transCheckImmunityTime=10)
    assert published["receiptHandle"]


async def test_instances_are_worlds_apart(driver: Driver) -> None:
    published = await driver.using(instanceId="MQ_INST_1_AAAAAAAA").call("publish", body="over there")
    assert await driver.poll() == []
    assert await driver.using(instanceId="MQ_INST_1_BBBBBBBB").poll() == []
    [message] = await driver.using(instanceId="MQ_INST_1_AAAAAAAA").poll()
    assert message["messageId"] == published["messageId"]
