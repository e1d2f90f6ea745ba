"""The emulator's own pages."""

import asyncio
from typing import Any

import aiohttp
import pytest

from bridge.emulator.faults import Faults
from bridge.emulator.server import Emulator
from emulator.raw_http import Connection

INSTANCE = "MQ_INST_1"


async def get(emulator: Emulator, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(emulator.url + path) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return await response.json()


async def patch(emulator: Emulator, body: bytes) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.patch(emulator.url + "/emulator/faults", data=body) as response:
        return response.status, await response.json()


async def test_the_front_page_says_what_this_is_and_how_to_get_at_it(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as session, session.get(emulator.url) as response:
        text = await response.text()
    assert response.content_type == "text/plain"
    assert f"BRIDGE_ROCKETMQ__ENDPOINT={emulator.url}\n" in text
    assert "AKID" in text
    assert "SECRET\n" not in text


async def test_faults_are_shown_and_changed(emulator: Emulator) -> None:
    assert await get(emulator, "/emulator/faults") == Faults().model_dump()
    status, answer = await patch(emulator, b'{"internal_error": 0.5, "ack_stuck": true}')
    assert status == 200
    assert answer == Faults(internal_error=0.5, ack_stuck=True).model_dump()
    assert emulator.faults == Faults(internal_error=0.5, ack_stuck=True)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "reading the request's JSON"),
        (b"{", "reading the request's JSON"),
        (b"[]", "not an object"),
        (b'{"internal_error": 0.5, "throttled": 2}', "nothing was changed"),
        (b'{"internal_error": 0.5, "no_such_fault": 2}', "nothing was changed"),
    ],
)
async def test_a_wrong_change_is_explained_and_changes_nothing(emulator: Emulator, body: bytes, complaint: str) -> None:
    status, answer = await patch(emulator, body)
    assert status == 400
    assert complaint in answer["error"]
    assert emulator.faults == Faults()
    for problem in answer.get("problems", []):
        assert problem["fault"] in {"throttled", "no_such_fault"}
        assert problem["problem"]


async def put_key(emulator: Emulator, body: bytes) -> int:
    async with aiohttp.ClientSession() as session, session.put(emulator.url + "/emulator/key", data=body) as response:
        assert "secret-of-new" not in await response.text()
        return response.status


async def test_another_key_takes_the_place_of_the_old_one_at_once(emulator: Emulator, connection: Connection) -> None:
    assert await put_key(emulator, b'{"access_key_id": "NEW", "access_key_secret": "secret-of-new"}') == 200
    assert (await connection.consume()).code == "InvalidAccessKeyId"
    emulator.access_key.key_id = "AKID"
    assert (await connection.consume()).code == "SignatureDoesNotMatch"
    emulator.access_key.secret = "SECRET"
    assert (await connection.consume()).code == "MessageNotExist"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"access_key_id": "a"}', b'{"access_key_id": "a", "access_key_secret": 1}'])
async def test_what_is_no_key_is_explained_and_changes_nothing(emulator: Emulator, body: bytes) -> None:
    assert await put_key(emulator, body) == 400
    assert (emulator.access_key.key_id, emulator.access_key.secret) == ("AKID", "SECRET")


async def test_a_change_of_the_clock_reaches_waiting_polls(emulator: Emulator, connection: Connection) -> None:
    later = str(emulator.now() + 600_000)
    emulator.publish("topicA", "late", instance=INSTANCE, properties={"__STARTDELIVERTIME": later})
    poll = asyncio.create_task(connection.consume("&waitseconds=30"))
    async with asyncio.timeout(10):
        await emulator.until(lambda: emulator.open_polls(INSTANCE) == 1)
    await patch(emulator, b'{"clock_offset_seconds": 600}')
    assert (await poll).texts("MessageBody") == ["late"]


async def test_books_are_shown_by_topic_and_group(emulator: Emulator, connection: Connection) -> None:
    one, other = (emulator.publish("topicA", body, instance=INSTANCE).message_id for body in "ab")
    emulator.publish("topicB", "b")
    handles = (await connection.consume(count=1)).texts("ReceiptHandle")
    await connection.ack(handles)
    numbers = {"ready": 1, "leased": 0, "acked": 1, "dead_lettered": 0, "expired": 0, "backlog": 1}
    topic = {"instance": INSTANCE, "topic": "topicA", "published": 2, "delayed": 0, "half": 0}
    elsewhere: dict[str, Any] = {"instance": None, "topic": "topicB", "published": 1, "delayed": 0, "half": 0, "groups": {}}
    shown = {**topic, "groups": {"GID_a": numbers}}
    assert await get(emulator, "/emulator/books") == {"topics": [shown, elsewhere]}
    assert await get(emulator, f"/emulator/books?instance={INSTANCE}&group=GID_a") == {"topics": [shown]}
    assert await get(emulator, "/emulator/books?topic=topicA&group=GID_b") == {"topics": [{**topic, "groups": {}}]}
    assert await get(emulator, "/emulator/books?instance=") == {"topics": [elsewhere]}
    ids = {"ready": [other], "leased": [], "acked": [one], "dead_lettered": []}
    assert await get(emulator, "/emulator/books?topic=topicA&ids=true") == {
        "topics": [{**topic, "groups": {"GID_a": {**numbers, "ids": ids}}, "ids": [one, other]}]
    }


async def test_calls_are_counted_by_kind_and_group(emulator: Emulator, connection: Connection) -> None:
    await connection.publish("a")
    await connection.consume()
    await connection.consume()
    await connection.consume("&trans=pop", group="GID_p")
    await connection.ack(["x"])
    await connection.ack(["x"], "&trans=commit", group="GID_p")
    await connection.ack(["x"], "&trans=rollback", group="GID_p")
    calls = await get(emulator, "/emulator/calls")
    assert {(call["instance"], call["topic"]) for call in calls} == {(INSTANCE, "topicA")}
    assert {(call["kind"], call["group"]): call["calls"] for call in calls} == {
        ("publish", None): 1,
        ("consume", "GID_a"): 2,
        ("consume_half", "GID_p"): 1,
        ("ack", "GID_a"): 1,
        ("commit", "GID_p"): 1,
        ("rollback", "GID_p"): 1,
    }


async def test_a_waiting_poll_is_one_call(emulator: Emulator, connection: Connection) -> None:
    poll = asyncio.create_task(connection.consume("&waitseconds=30&tag=A"))
    async with asyncio.timeout(10):
        await emulator.until(lambda: emulator.open_polls(INSTANCE) == 1)
    for tag in ("B", "C", "A"):
        emulator.publish("topicA", tag, instance=INSTANCE, tag=tag)
    await poll
    assert emulator.broker.calls.total() == 1


@pytest.mark.parametrize("path", ["/emulator/", "/emulator/nothing"])
async def test_another_page_does_not_exist(emulator: Emulator, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(emulator.url + path) as response:
        assert response.status == 404
        assert path in (await response.json())["error"]
