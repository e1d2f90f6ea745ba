"""The whole way to a webhook, with an endpoint in all its moods: the bridge is a process, the receiver is aiohttp's server."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from acceptance.processes import GROUP, TOPIC, bridge, environment, events, get, until
from bridge.emulator.server import Emulator
from webhook.receiver import SECRET, Received, receiving
from webhook.token_server import CLIENT, CLIENT_SECRET, authorizing


@dataclass
class Mood:
    """What is answered, by event: a status; and what was taken with it."""

    status_of: Callable[[dict[str, Any]], int] = lambda _: 204
    taken: Counter[str] = field(default_factory=Counter)

    def __call__(self, received: Received) -> web.Response:
        event = json.loads(received.body)
        status = self.status_of(event)
        self.taken[event["id"]] += status < 300
        return web.Response(status=status)


def settings(emulator: Emulator, url: str, sink: str = "webhook", **others: str) -> dict[str, str]:
    return environment(emulator.url, SINK=sink, WEBHOOK__URL=url, ROCKETMQ__WAIT_SECONDS="2", **others)


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked


def consumed(emulator: Emulator) -> int:
    return sum(calls for call, calls in emulator.broker.calls.items() if call.kind == "consume")


async def test_messages_arrive_signed_and_once_each_with_tokens_of_a_second() -> None:
    found: Counter[str] = Counter()
    async with Emulator() as emulator, authorizing(life=1.0, expires_in=1) as server:

        def verify(received: Received) -> web.Response:
            answer = server.take(received)
            if answer.status == 204:
                batch = Webhook(SECRET).verify(received.body, dict(received.headers))
                assert received.headers["x-key"] == "k"
                found.update(event["id"] for event in batch)
            return answer

        server.receiver.answer = verify
        env = settings(
            emulator,
            server.receiver.url,
            WEBHOOK__MODE="batch",
            WEBHOOK__SIGNING_SECRET=SECRET,
            WEBHOOK__HEADERS="X-Key: k",
            WEBHOOK__AUTH_TOKEN_URL=server.url,
            WEBHOOK__AUTH_CLIENT_ID=CLIENT,
            WEBHOOK__AUTH_CLIENT_SECRET=CLIENT_SECRET,
        )
        published: set[str] = set()
        async with bridge("run", env=env) as running:
            while server.issued < 4:
                published.update(emulator.publish(TOPIC, f"message {number}").message_id for number in range(200))
                await until(lambda: acked(emulator) == len(published))
            running.process.terminate()
            assert await running.end() == 0
    assert found == Counter(published)


async def test_an_endpoint_that_says_401_and_then_404_to_everything_pauses_the_polling_and_makes_no_dead_letter(
    tmp_path: Path,
) -> None:
    letters = tmp_path / "letters"
    async with Emulator() as emulator, receiving() as receiver:
        receiver.answer = mood = Mood(lambda _: 401)
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(300)}
        with letters.open("wb") as stdout:
            async with bridge(
                "run", env=settings(emulator, receiver.url, DEAD_LETTER__SINK="stdout"), stdout=stdout
            ) as running:
                ready = f"http://127.0.0.1:{await running.port()}/readyz"

                async def says(reason: str) -> bool:
                    code, text = await get(ready)
                    return code == 503 and reason in text

                await until(lambda: says("answers 401 Unauthorized; check who the bridge is to it"))
                assert len(mood.taken) <= 8 * 16  # what all pollers had polled before the first answer came
                mood.status_of = lambda _: 404
                await until(lambda: says("answers 404 Not Found; check URL"))
                await asyncio.sleep(1)  # what was on its way when it began has come
                polls, calls = consumed(emulator), len(receiver.requests)
                await asyncio.sleep(4)
                assert consumed(emulator) - polls <= 1
                assert len(receiver.requests) - calls <= 8
                mood.status_of = lambda _: 204
                await until(lambda: acked(emulator) == 300)
                assert (await get(ready))[0] == 200
                running.process.terminate()
                assert await running.end() == 0
        assert not [line for line in running.errors if "refused" in line]
        assert {event_id for event_id, times in mood.taken.items() if times} == ids
        assert not letters.read_bytes()


async def test_one_message_in_a_hundred_that_gets_500_for_ever_does_not_hold_the_others() -> None:
    async with Emulator() as emulator, receiving() as receiver:
        receiver.answer = mood = Mood(lambda event: 500 if int(event["data"].split()[1]) % 100 == 99 else 204)
        for number in range(2000):
            emulator.publish(TOPIC, f"message {number}")
        async with bridge("run", env=settings(emulator, receiver.url)) as running:
            port = await running.port()
            await until(lambda: acked(emulator) == 1980)
            assert (await get(f"http://127.0.0.1:{port}/readyz"))[0] == 200
            assert max(mood.taken.values()) == 1


async def test_a_webhook_down_for_two_leases_gets_each_event_afterwards_and_the_other_sink_each_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with Emulator(invisible_seconds=3) as emulator, receiving() as receiver:
        receiver.answer = mood = Mood(lambda _: 403)
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(200)}
        with out.open("wb") as stdout:
            async with bridge("run", env=settings(emulator, receiver.url, "stdout,webhook"), stdout=stdout) as running:
                await until(lambda: len(receiver.requests) > 0)
                await asyncio.sleep(7)
                assert acked(emulator) == 0
                mood.status_of = lambda _: 204
                await until(lambda: acked(emulator) == 200)
                running.process.terminate()
                assert await running.end() == 0
        assert Counter(event["id"] for event in events(out)) == Counter(ids)
        assert {event_id for event_id, times in mood.taken.items() if times} == ids


async def test_what_keeps_failing_is_a_dead_letter_when_its_deliveries_have_reached_the_limit(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    mood = Mood(lambda event: 500 if event["data"] == "bad" else 204)

    def twice_a_lease(received: Received) -> web.Response:
        """So that each lease's last try ends well before it, and leaves time for the dead letter on a busy machine, too."""
        response = mood(received)
        response.headers["Retry-After"] = "2"
        return response

    async with Emulator(invisible_seconds=4) as emulator, receiving() as receiver:
        receiver.answer = twice_a_lease
        bad = emulator.publish(TOPIC, "bad").message_id
        env = settings(emulator, receiver.url, DEAD_LETTER__SINK="stdout", DELIVERY__MAX_DELIVERIES="2")
        with letters.open("wb") as stdout:
            async with bridge("run", env=env, stdout=stdout) as running:
                for number in range(100):
                    emulator.publish(TOPIC, f"good {number}")
                await until(lambda: acked(emulator) == 101)
                running.process.terminate()
                assert await running.end() == 0
        (letter,) = events(letters)
        assert (letter["id"], letter["mqdeadreason"], letter["mqconsumedtimes"]) == (bad, "deliveries", 2)
        assert mood.taken.total() == 100
