"""The whole way to a real Kafka: the bridge is a process, and Kafka's own client reads back."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from cloudevents.core.formats.json import JSONFormat

from acceptance.processes import GROUP, TOPIC, bridge, environment, get, until
from bridge.emulator.server import Emulator
from kafka.broker import Broker
from kafka.reading import Read, read
from kafka.sinks import scram


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked


def settings(emulator: Emulator, kafka: Broker, topic: str, **more: str) -> dict[str, str]:
    to_kafka = {"SINK": "kafka", "KAFKA__BOOTSTRAP_SERVERS": kafka.address(), "KAFKA__TOPIC": topic}
    return environment(emulator.url, **{**to_kafka, "ROCKETMQ__WAIT_SECONDS": "2", **more})


def _has_acked(emulator: Emulator, messages: int) -> bool:
    return acked(emulator) >= messages


def new_topic(kafka: Broker, *, partitions: int = 4, **config: str) -> str:
    name = f"events-{uuid4().hex}"
    kafka.create_topic(name, partitions=partitions, **config)
    return name


async def contents(kafka: Broker, topic: str) -> list[Read]:
    return list(await asyncio.to_thread(read, kafka, topic))


@pytest.mark.timeout(400)
async def test_a_hundred_thousand_messages_arrive_once_each_and_parse(kafka: Broker) -> None:
    topic = new_topic(kafka)
    messages = 100_000
    async with Emulator() as emulator:
        ids = set()
        for number in range(messages):
            body = "" if number == 5 else json.dumps({"number": number, "text": "中 😀 <&>"})
            properties = {"KEYS": f"key-{number % 1000}"}
            ids.add(emulator.broker.publish(emulator.now(), TOPIC, body, properties=properties).message_id)
        async with bridge("run", env=settings(emulator, kafka, topic)) as running:
            await until(lambda: acked(emulator) == messages, seconds=240)
            running.process.terminate()
            assert await running.end() == 0
    records = await contents(kafka, topic)
    assert len(records) == messages
    assert {record.event_id for record in records} == ids
    partition_of: dict[bytes | None, int] = {}
    for record in records:
        assert record.value  # an empty body is no tombstone
        assert partition_of.setdefault(record.key, record.partition) == record.partition
    for record in records[::997]:
        assert record.value
        assert JSONFormat().read(None, record.value).get_id() == record.event_id


@pytest.mark.timeout(800)  # each of its waits has a bound of its own
async def test_kafka_killed_thrice_and_frozen_for_longer_than_a_lease_loses_nothing(kafka: Broker) -> None:
    topic = new_topic(kafka)
    messages = 50_000
    lease = 12.0
    async with Emulator(invisible_seconds=lease) as emulator:
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(messages)}
        async with bridge("run", env=settings(emulator, kafka, topic)) as running:
            for part in range(1, 5):
                await until(partial(_has_acked, emulator, part * 9_000), seconds=240)
                if part < 4:
                    await asyncio.to_thread(kafka.kill)
                    await asyncio.to_thread(kafka.start)
                else:
                    kafka.freeze()
                    await asyncio.sleep(lease + 2)
                    kafka.thaw()
            await until(lambda: acked(emulator) == messages, seconds=320)
            port = await running.port()
            report = json.loads((await get(f"http://127.0.0.1:{port}/healthz"))[1])
            running.process.terminate()
            assert await running.end() == 0
    times = Counter(record.event_id for record in await contents(kafka, topic))
    assert times.keys() == ids
    # A record whose answer died with a killed broker may have been written: nobody can know, and it is written again.
    duplicates = sum(times.values()) - messages
    assert duplicates <= 3 * 8 * 16, report["messages"]


async def test_dead_letters_of_each_kind_reach_their_topic_with_their_reason_and_the_flow_goes_on(kafka: Broker) -> None:
    topic, letters = new_topic(kafka, max_message_bytes="100000"), new_topic(kafka, partitions=1)
    async with Emulator(invisible_seconds=4) as emulator:
        large = emulator.publish(TOPIC, "x" * 200_000).message_id
        good = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(500)}
        env = settings(emulator, kafka, topic, DEAD_LETTER__SINK="kafka", DEAD_LETTER__KAFKA__TOPIC=letters)
        async with bridge("run", env=env) as running:
            await until(lambda: acked(emulator) == 501)
            emulator.faults.missing_body = 1.0
            damaged = emulator.publish(TOPIC, "its body gets lost").message_id
            await until(lambda: acked(emulator) == 502)
            running.process.terminate()
            assert await running.end() == 0
    assert {record.event_id for record in await contents(kafka, topic)} == good
    buried = {record.event_id: json.loads(record.value or b"") for record in await contents(kafka, letters)}
    assert buried.keys() == {large, damaged}
    assert (buried[large]["mqdeadreason"], buried[large]["mqdeadsink"]) == ("refused", "kafka")
    assert buried[damaged]["mqdeadreason"] == "damaged"
    assert "data_base64" in buried[damaged]


async def test_a_wrong_topic_is_one_clear_line_and_not_ready_until_it_is_there(kafka: Broker) -> None:
    topic = f"events-{uuid4().hex}"
    async with Emulator() as emulator:
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(50)}
        async with bridge("run", env=settings(emulator, kafka, topic)) as running:
            port = await running.port()

            async def says() -> bool:
                status, text = await get(f"http://127.0.0.1:{port}/readyz")
                return status == 503 and topic in text

            await until(says)
            assert len([line for line in running.errors if '"level": "error"' in line]) == 1
            assert "Traceback" not in "".join(running.errors)
            await asyncio.to_thread(kafka.create_topic, topic)
            await until(lambda: acked(emulator) == 50)
    assert {record.event_id for record in await contents(kafka, topic)} == ids


async def stays_out_until(mended: Callable[[], object], kafka: Broker, reason: str, folder: Path, **access: str) -> None:
    """A bridge that Kafka doesn't let in says so, once; it is not ready, loses nothing, and goes on by itself."""
    topic, letters = new_topic(kafka), folder / "letters"
    async with Emulator() as emulator:
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(50)}
        to_kafka = {f"KAFKA__{name.upper()}": value for name, value in access.items()}
        env = settings(emulator, kafka, topic, DEAD_LETTER__SINK="stdout", **to_kafka)
        with letters.open("wb") as stdout:
            async with bridge("run", env=env, stdout=stdout) as running:
                url = f"http://127.0.0.1:{await running.port()}"

                async def failed_at() -> object:
                    return json.loads((await get(f"{url}/healthz"))[1])["components"]["sink kafka"]["last_error_at"]

                async def failed_after(earlier: object) -> bool:
                    return await failed_at() != earlier

                for _ in range(2):  # it tries again
                    await until(partial(failed_after, await failed_at()))
                status, text = await get(f"{url}/readyz")
                assert (status, reason in text) == (503, True)
                (complaint,) = [line for line in running.errors if '"level": "info"' not in line]
                assert json.loads(complaint)["error"].endswith(reason)
                mended()
                await until(lambda: acked(emulator) == 50)
                assert (await get(f"{url}/readyz"))[0] == 200
                running.process.terminate()
                assert await running.end() == 0
        assert "Traceback" not in "".join(running.errors)
        assert emulator.broker.book(emulator.now(), TOPIC, GROUP).backlog == 0
    assert Counter(record.event_id for record in await contents(kafka, topic)) == Counter(ids)
    assert not letters.read_bytes()


async def test_a_wrong_password_is_one_clear_line_and_not_ready_until_it_is_right(kafka: Broker, tmp_path: Path) -> None:
    """The broker learns the one that we have."""
    user = f"user-{uuid4().hex}"
    kafka.set_password(user, "another")
    access = scram(kafka) | {"sasl_username": user, "sasl_password": "ours"}
    reason = f"the user '{user}' or its password was not accepted: see SASL_USERNAME and SASL_PASSWORD"
    await stays_out_until(lambda: kafka.set_password(user, "ours"), kafka, reason, tmp_path, **access)


async def test_an_untrusted_ca_is_one_clear_line_and_not_ready_until_its_file_is_replaced(
    kafka: Broker, tmp_path: Path
) -> None:
    """As a mounted secret is: nobody starts the bridge anew."""
    ca, replacement = tmp_path / "ca.pem", tmp_path / "new.pem"
    shutil.copy(kafka.certificates.stranger_ca, ca)
    shutil.copy(kafka.certificates.ca, replacement)
    access = scram(kafka) | {"ssl_cafile": str(ca)}
    reason = "its certificate is not accepted: unable to get local issuer certificate: see SSL_CAFILE"
    await stays_out_until(lambda: replacement.replace(ca), kafka, reason, tmp_path, **access)


async def test_with_the_topic_of_dead_letters_gone_they_stay_with_the_broker_and_nothing_pauses(kafka: Broker) -> None:
    topic = new_topic(kafka, max_message_bytes="100000")
    async with Emulator(invisible_seconds=4) as emulator:
        emulator.publish(TOPIC, "x" * 200_000)
        good = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(500)}
        env = settings(emulator, kafka, topic, DEAD_LETTER__SINK="kafka", DEAD_LETTER__KAFKA__TOPIC=f"missing-{uuid4().hex}")
        async with bridge("run", env=env) as running:
            await until(lambda: acked(emulator) == 500)
            assert (await get(f"http://127.0.0.1:{await running.port()}/readyz"))[0] == 200
            await asyncio.sleep(5)  # it comes again, and again finds no grave
            assert emulator.broker.book(emulator.now(), TOPIC, GROUP).backlog == 1
    assert {record.event_id for record in await contents(kafka, topic)} == good
