"""Points 14 to 24 of protocol.md 10: consuming."""

import asyncio
import itertools
import re
import time

import pytest

from bridge.emulator.server import Emulator
from emulator.raw_http import NAMESPACE, Connection, connect
from emulator.sdk_replay import GO, SDKS, Sdk


def by_name(sdk: Sdk) -> str:
    return sdk.name


@pytest.mark.parametrize("sdk", SDKS, ids=by_name)
async def test_point_14_every_query_order_gives_the_same(emulator: Emulator, connection: Connection, sdk: Sdk) -> None:
    for tag in ("TagA", "TagC", "TagB *~"):
        emulator.publish("topicA", f"body of {tag}", instance="MQ_INST_1", tag=tag)
    assert (await connection.send(sdk.consume_request())).texts("MessageBody") == ["body of TagA", "body of TagB *~"]


@pytest.mark.parametrize("sdk", SDKS, ids=by_name)
async def test_point_14_every_query_order_of_a_half_consume_is_understood(
    emulator: Emulator, connection: Connection, sdk: Sdk
) -> None:
    begin = emulator.now()
    emulator.broker.publish(begin - 11_000, "topicA", "half", instance="MQ_INST_1", properties={"__TransCheckT": "10"})
    assert (await connection.send(sdk.consume_request(sdk.half))).texts("MessageBody") == ["half"]


@pytest.mark.parametrize("wait", ["", "&waitseconds=", "&waitseconds=0", "&waitseconds=-1"])
async def test_point_14_a_short_poll_is_answered_at_once(connection: Connection, wait: str) -> None:
    durations = []
    for _ in range(3):
        begin = time.perf_counter()
        assert (await connection.consume(wait)).code == "MessageNotExist"
        durations.append(time.perf_counter() - begin)
    assert min(durations) < 0.2


@pytest.mark.parametrize("wait", ["31", "x", "1.5", "99999999999999999999"])
async def test_a_wait_out_of_range_is_refused(connection: Connection, wait: str) -> None:
    assert (await connection.consume(f"&waitseconds={wait}")).code == "InvalidArgument"


async def test_point_15_a_long_poll_ends_when_its_time_has_passed(connection: Connection) -> None:
    durations: list[float] = []
    while len(durations) < 3 and not any(duration < 5.5 for duration in durations):  # the machine may be busy
        begin = time.perf_counter()
        assert (await connection.consume("&waitseconds=5")).code == "MessageNotExist"
        durations.append(time.perf_counter() - begin)
    assert 4.5 < min(durations) < 5.5


async def test_point_15_a_publish_ends_a_long_poll(emulator: Emulator, connection: Connection) -> None:
    waits = []
    async with connect(emulator.url) as other:
        for _ in range(3):
            poll = asyncio.create_task(connection.consume("&waitseconds=5"))
            await opened(emulator, polls=1)
            begin = time.perf_counter()
            await other.publish("a")
            assert (await poll).texts("MessageBody") == ["a"]
            waits.append(time.perf_counter() - begin)
    assert min(waits) < 0.2


async def opened(emulator: Emulator, *, polls: int) -> None:
    """Wait until that many polls are waiting."""
    async with asyncio.timeout(10):
        await emulator.until(lambda: emulator.open_polls("MQ_INST_1") == polls)


@pytest.mark.parametrize("count", ["0", "17", "-1", "x", "", "1.0", "१"])
async def test_point_16_a_wrong_number_of_messages_is_refused(connection: Connection, count: str) -> None:
    target = f"/topics/topicA/messages?consumer=GID_a&ns=MQ_INST_1&numOfMessages={count}"
    response = await connection.call("GET", target.encode("unicode_escape").decode())
    assert (response.status, response.code) == (400, "InvalidArgument")


async def test_point_16_no_number_of_messages_is_refused(connection: Connection) -> None:
    response = await connection.call("GET", "/topics/topicA/messages?consumer=GID_a&ns=MQ_INST_1")
    assert (response.status, response.code) == (400, "InvalidArgument")


async def test_point_16_sixteen_messages_are_delivered(emulator: Emulator, connection: Connection) -> None:
    for number in range(17):
        emulator.publish("topicA", str(number), instance="MQ_INST_1")
    assert (await connection.consume(count=16)).texts("MessageBody") == [str(number) for number in range(16)]


async def test_point_17_an_empty_topic_answers_message_not_exist(connection: Connection) -> None:
    response = await connection.consume()
    assert response.status == 404
    assert f'<Error xmlns="{NAMESPACE}">'.encode() in response.body
    texts = {field.tag: field.text for field in response.root}
    assert texts == {
        f"{{{NAMESPACE}}}Code": "MessageNotExist",
        f"{{{NAMESPACE}}}Message": "Message not exist.",
        f"{{{NAMESPACE}}}RequestId": response.header("x-mq-request-id"),
        f"{{{NAMESPACE}}}HostId": f"http://{connection.host}",
    }


@pytest.mark.parametrize(
    ("query", "bodies"),
    [
        ("&tag=TagA%7C%7CTagB", ["TagA", "TagB"]),
        ("&tag=TagB", ["TagB"]),
        ("&tag=", ["TagA", "TagB", "TagC", ""]),
        ("&tag=*", ["TagA", "TagB", "TagC", ""]),
        ("", ["TagA", "TagB", "TagC", ""]),
    ],
)
async def test_point_18_a_tag_filters(emulator: Emulator, connection: Connection, query: str, bodies: list[str]) -> None:
    for tag in ("TagA", "TagB", "TagC", ""):
        emulator.publish("topicA", tag, instance="MQ_INST_1", tag=tag)
    assert (await connection.consume(query)).texts("MessageBody") == bodies


async def test_point_19_no_tag_and_no_properties_have_no_elements(connection: Connection) -> None:
    await connection.publish("a")
    [message] = (await connection.consume()).items
    assert set(message) == {
        "MessageId",
        "MessageBodyMD5",
        "MessageBody",
        "ReceiptHandle",
        "PublishTime",
        "FirstConsumeTime",
        "NextConsumeTime",
        "ConsumedTimes",
    }


async def test_the_properties_that_the_real_service_adds_can_be_switched_on() -> None:
    async with Emulator(service_properties=True) as emulator, connect(emulator.url) as connection:
        published = await connection.publish("a")
        await connection.publish("b", properties="KEYS:k|")
        one, other = (await connection.consume()).texts("Properties")
    assert one == f"KEYS:{published.header('x-mq-request-id')}|__BORNHOST:127.0.0.1|"
    assert other == "KEYS:k|__BORNHOST:127.0.0.1|"


async def test_point_20_a_body_published_by_go_is_received_exactly(connection: Connection) -> None:
    # As Go escapes it (protocol.md 4.1).
    document = "<Message><MessageBody>a &lt;b&gt;&amp;&#34;&#39; 中 😀 &#xD;&#xA;</MessageBody></Message>"
    await connection.call("POST", "/topics/topicA/messages?ns=MQ_INST_1", document.encode(), content_type=GO.write_type)
    assert (await connection.consume()).texts("MessageBody") == ["a <b>&\"' 中 😀 \r\n"]


async def test_point_21_answers_keep_to_the_xml_that_every_sdk_reads(emulator: Emulator, connection: Connection) -> None:
    emulator.publish("topicA", "", instance="MQ_INST_1", tag="")
    emulator.publish("topicA", "a]]>b <![CDATA[", instance="MQ_INST_1", tag="TagA", properties={"a": "b"})
    consumed = await connection.consume()
    responses = [
        consumed,
        await connection.publish("a", properties="__TransCheckT:10|"),
        await connection.ack(["nothing"]),
        await connection.consume(topic="topicB"),
    ]
    for response in responses:
        document = response.body.decode()
        assert "CDATA" not in document.replace("&lt;![CDATA[", "")
        assert "/>" not in document
        tags = re.findall(r"<([^?/][^>]*)>", document)
        assert tags[0].partition(" ")[2] == f'xmlns="{NAMESPACE}"'
        assert all(re.fullmatch(r"[A-Za-z0-9]+", tag) for tag in tags[1:])
        assert not re.search(r">[^<>\s][^<>]*<[^/]", document.partition("?>")[2])  # no text beside elements
    assert consumed.texts("MessageBody") == ["", "a]]>b <![CDATA["]


@pytest.mark.parametrize("sent", ["KEYS:k|a:b", "KEYS:k|a:b|"])
async def test_point_22_properties_end_with_a_bar(connection: Connection, sent: str) -> None:
    await connection.publish("a", properties=sent)
    assert (await connection.consume()).texts("Properties") == ["KEYS:k|a:b|"]


async def test_point_23_a_group_gets_a_message_once_and_another_group_gets_it_too(connection: Connection) -> None:
    for number in range(3):
        await connection.publish(str(number))
    first = await connection.consume(count=2)
    second = await connection.consume(count=2)
    assert sorted(first.texts("MessageBody") + second.texts("MessageBody")) == ["0", "1", "2"]
    assert (await connection.consume()).code == "MessageNotExist"
    assert (await connection.consume(group="GID_b")).texts("MessageBody") == ["0", "1", "2"]


async def test_point_24_an_unknown_topic_does_not_exist() -> None:
    async with Emulator(topics=["topicA"]) as emulator, connect(emulator.url) as connection:
        responses = [
            await connection.consume(topic="topicB"),
            await connection.publish("a", topic="topicB"),
            await connection.ack(["h"], topic="topicB"),
        ]
        assert [(response.status, response.code) for response in responses] == [(404, "TopicNotExist")] * 3
        assert (await connection.publish("a")).status == 201


@pytest.mark.parametrize("topic", ["ab", "x" * 65, "CIDtopic", "GID_topic", "top%20ic", "t%C3%B6pic"])
async def test_a_name_that_no_topic_can_have_does_not_exist(connection: Connection, topic: str) -> None:
    assert (await connection.consume(topic=topic)).code == "TopicNotExist"


async def test_instances_do_not_share_topics(emulator: Emulator, connection: Connection) -> None:
    emulator.publish("topicA", "in none")
    emulator.publish("topicA", "in another", instance="MQ_INST_2")
    assert (await connection.consume()).code == "MessageNotExist"
    response = await connection.call("GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=16")
    assert response.texts("MessageBody") == ["in none"]


async def test_what_xml_forbids_is_sent_as_the_service_sends_it(emulator: Emulator, connection: Connection) -> None:
    body = "".join(map(chr, itertools.chain(range(0x20), [0xFFFE, 0xFFFF])))
    emulator.publish("topicA", body, instance="MQ_INST_1")
    document = (await connection.consume()).body.decode()
    sent = re.search(r"<MessageBody>(.*)</MessageBody>", document, re.DOTALL)
    assert sent is not None
    assert "&#1;" in sent[1]
    decoded = re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), sent[1])
    assert decoded == body
