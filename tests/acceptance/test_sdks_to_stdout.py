"""Two processes, two official SDKs: what they publish comes out of the bridge once each, as their encoding means it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cloudevents.core.formats.json import JSONFormat

from acceptance.processes import GROUP, TOPIC, bridge, emulator, environment, until
from sdks.drivers import start_driver
from sdks.install import Sdk
from sdks.skipping import skipped_without_sdk

BODIES = [
    "a <b>&\"' 中 😀\r\nc\td",
    '{"n": 1234567890123456789012345, "price": 1.10}',
    '{\n  "pretty": [\n    1,\n    2\n  ]\n}',
    "{}",
    "plain",
    "[1, 2, 3]",
    "]]x < 3 & \"'",
    "\t\tindented\n",
]
KINDS: list[dict[str, Any]] = [
    {},
    {"tag": "TagA"},
    {"keys": "key-1"},
    {"keys": "k", "tag": "TagB", "properties": {"colour": "blue", "größe": "中 😀"}},
    {"shardingKey": "shard-7"},
]


def received(body: str) -> str:
    """protocol.md 4.1: Python and Node send CR LF raw, and an XML parser makes LF of it."""
    return body.replace("\r\n", "\n")


async def publish_500(sdk: Sdk, url: str) -> dict[str, tuple[str, dict[str, Any]]]:
    published: dict[str, tuple[str, dict[str, Any]]] = {}
    async with start_driver(sdk, url) as driver:
        here = driver.using(topic=TOPIC, group=GROUP)
        for number in range(500):
            body = f"x{number}" * 600_000 if number == 250 else BODIES[number % len(BODIES)]
            body = body[: 4 << 20]
            fields = KINDS[number % len(KINDS)]
            answer = await here.call("publish", body=body, **fields)
            published[answer["messageId"]] = (received(body), fields)
    return published


async def test_a_thousand_messages_of_two_official_sdks_arrive_once_each_as_cloudevents(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with skipped_without_sdk(), out.open("wb") as stdout:
        async with (
            emulator() as (_, url),
            bridge("run", env=environment(url, ROCKETMQ__WAIT_SECONDS="2"), stdout=stdout) as running,
        ):
            one, other = await asyncio.gather(publish_500("python", url), publish_500("node", url))
            published = one | other
            await until(lambda: len(out.read_bytes().splitlines()) >= 1000)
            running.process.terminate()
            assert await running.end(seconds=40) == 0
    lines = out.read_bytes().splitlines()
    assert len(lines) == 1000
    assert {json.loads(line)["id"] for line in lines} == published.keys()
    for line in lines:
        check(json.loads(line), line, *published[json.loads(line)["id"]])


def check(event: dict[str, Any], line: bytes, body: str, fields: dict[str, Any]) -> None:
    foreign = JSONFormat().read(None, line)
    assert (foreign.get_id(), foreign.get_subject()) == (event["id"], fields.get("keys") or event.get("subject"))
    if body[:1] in "{[":
        assert event["data"] == json.loads(body)
        assert body.replace("\n", " ").encode() in line  # byte for byte, but for what would break the line
    else:
        assert event["data"] == body
    assert event.get("mqtag") == fields.get("tag")
    assert event.get("mqkeys", fields.get("keys")) == event.get("subject")
    if "keys" in fields:
        assert event["subject"] == fields["keys"]
    assert event.get("partitionkey") == fields.get("shardingKey")
    others = json.loads(event.get("mqproperties", "{}"))
    assert fields.get("properties", {}).items() <= others.items()
