"""The whole way to a webhook, with an endpoint in all its moods: the bridge is a process, the receiver is aiohttp's server."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from acceptance.processes import GROUP, TOPIC, bridge, environment, events, get, until
from bridge.emulator.server import Emulator


class Receiver:
    """What came, and what is answered: a status for each event."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[str] = []
        self.taken: Counter[str] = Counter()
        self.answer: Callable[[dict[str, Any]], int] = lambda _: 204

    async def handle(self, request: web.Request) -> web.Response:
        event = json.loads(await request.read())
        self.calls.append(event["id"])
        status = self.answer(event)
        self.taken[event["id"]] += status < 300
        return web.Response(status=status)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver()
    app = web.Application()
    app.router.add_post("/events", it.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    try:
        yield it
    finally:
        await runner.cleanup()


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked


def consumed(emulator: Emulator) -> int:
    return sum(calls for call, calls in emulator.broker.calls.items() if call.kind == "consume")


async def test_an_endpoint_that_says_401_and_then_404_to_everything_pauses_the_polling_and_makes_no_dead_letter(
    tmp_path: Path,
) -> None:
    letters = tmp_path / "letters"
    async with Emulator() as emulator, receiver() as endpoint:
        endpoint.answer = lambda _: 401
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(300)}
        env = environment(
            emulator.url, SINK="webhook", WEBHOOK__URL=endpoint.url, DEAD_LETTER__SINK="stdout", ROCKETMQ__WAIT_SECONDS="2"
        )
        with letters.open("wb") as stdout:
            async with bridge("run", env=env, stdout=stdout) as running:
                ready = f"http://127.0.0.1:{await running.port()}/readyz"

                async def says(status: str) -> bool:
                    code, text = await get(ready)
                    return code == 503 and status in text

                await until(lambda: says("401"))
                endpoint.answer = lambda _: 404
                await until(lambda: says("404"))
                await asyncio.sleep(1)  # what was on its way when it began has come
                polls, calls = consumed(emulator), len(endpoint.calls)
                await asyncio.sleep(4)
                assert consumed(emulator) - polls <= 1
                assert len(endpoint.calls) - calls <= 8
                endpoint.answer = lambda _: 204
                await until(lambda: acked(emulator) == 300, seconds=40)
                assert (await get(ready))[0] == 200
                running.process.terminate()
                assert await running.end() == 0
        assert endpoint.taken.keys() == ids
        assert not letters.read_bytes()


async def test_one_message_in_a_hundred_that_gets_500_for_ever_does_not_hold_the_others() -> None:
    async with Emulator() as emulator, receiver() as endpoint:
        endpoint.answer = lambda event: 500 if int(event["data"].split()[1]) % 100 == 99 else 204
        for number in range(2000):
            emulator.publish(TOPIC, f"message {number}")
        env = environment(emulator.url, SINK="webhook", WEBHOOK__URL=endpoint.url)
        async with bridge("run", env=env) as running:
            port = await running.port()
            await until(lambda: acked(emulator) == 1980, seconds=20)
            assert (await get(f"http://127.0.0.1:{port}/readyz"))[0] == 200
            assert max(endpoint.taken.values()) == 1


async def test_a_webhook_down_for_two_leases_gets_each_event_afterwards_and_the_other_sink_each_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with Emulator(invisible_seconds=3) as emulator, receiver() as endpoint:
        endpoint.answer = lambda _: 403
        ids = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(200)}
        env = environment(emulator.url, SINK="stdout,webhook", WEBHOOK__URL=endpoint.url, ROCKETMQ__WAIT_SECONDS="2")
        with out.open("wb") as stdout:
            async with bridge("run", env=env, stdout=stdout) as running:
                await until(lambda: len(endpoint.calls) > 0)
                await asyncio.sleep(7)
                assert acked(emulator) == 0
                endpoint.answer = lambda _: 204
                await until(lambda: acked(emulator) == 200, seconds=40)
                running.process.terminate()
                assert await running.end() == 0
        printed = Counter(event["id"] for event in events(out))
        assert printed.keys() == ids
        assert set(printed.values()) == {1}
        assert endpoint.taken.keys() == ids


async def test_what_keeps_failing_is_a_dead_letter_when_its_deliveries_have_reached_the_limit(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    async with Emulator(invisible_seconds=3) as emulator, receiver() as endpoint:
        endpoint.answer = lambda event: 500 if event["data"] == "bad" else 204
        bad = emulator.publish(TOPIC, "bad").message_id
        env = environment(
            emulator.url,
            SINK="webhook",
            WEBHOOK__URL=endpoint.url,
            DEAD_LETTER__SINK="stdout",
            DELIVERY__MAX_DELIVERIES="2",
            ROCKETMQ__WAIT_SECONDS="2",
        )
        with letters.open("wb") as stdout:
            async with bridge("run", env=env, stdout=stdout) as running:
                for number in range(100):
                    emulator.publish(TOPIC, f"good {number}")
                await until(lambda: acked(emulator) == 101, seconds=30)
                running.process.terminate()
                assert await running.end() == 0
        (letter,) = events(letters)
        assert (letter["id"], letter["mqdeadreason"], letter["mqconsumedtimes"]) == (bad, "deliveries", 2)
        assert sum(endpoint.taken.values()) == 100
