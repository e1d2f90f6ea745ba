"""Promise 8, with real signals."""

import asyncio
import signal
from pathlib import Path

from acceptance.processes import GROUP, TOPIC, Running, bridge, environment, events, get, until
from bridge.emulator.server import Emulator
from rocketmq.servers import Line, serving


async def drains(running: Running) -> None:
    """Wait until it has heard a SIGTERM."""
    url = f"http://127.0.0.1:{await running.port()}/readyz"

    async def says() -> bool:
        return await get(url) == (503, "draining\n")

    await until(says, seconds=5)


async def test_sigterm_in_a_long_poll_lets_it_come_back_and_delivers_and_acks_what_it_brings(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with Emulator() as emulator:
        with out.open("wb") as stdout:
            async with bridge("run", env=environment(emulator.url), stdout=stdout) as running:
                await until(lambda: emulator.open_polls() == 1)
                running.process.terminate()
                await drains(running)
                assert running.process.returncode is None
                ids = [emulator.publish(TOPIC, f"late {number}").message_id for number in range(3)]
                assert await running.end(seconds=10) == 0
        assert emulator.open_polls() == 0
        group = emulator.broker.group_ids(emulator.now(), TOPIC, GROUP)
        printed = [event["id"] for event in events(out)]
        # the one poll that was out takes what was there when it woke; no other poll has begun
        assert printed
        assert printed == group.acked == ids[: len(printed)]
        assert not group.leased


async def test_sigint_ends_at_once_and_says_what_may_come_again_and_when() -> None:
    async with Emulator() as emulator, bridge("run", env=environment(emulator.url)) as running:
        emulator.publish(TOPIC, "a")
        await until(lambda: emulator.broker.book(emulator.now(), TOPIC, GROUP).acked == 1)
        await until(lambda: emulator.open_polls() == 1)
        running.process.send_signal(signal.SIGINT)
        assert await running.end(seconds=3) == 0
        said = await running.event("stopped")
        assert said["polls_cut"] == 1
        assert said["comes_again_by"].endswith("Z")


async def test_a_second_sigterm_cuts_the_poll() -> None:
    async with Emulator() as emulator, bridge("run", env=environment(emulator.url)) as running:
        await until(lambda: emulator.open_polls() == 1)
        running.process.terminate()
        await drains(running)
        running.process.terminate()
        assert await running.end(seconds=3) == 0


async def test_sigterm_is_heard_while_the_first_credentials_are_looked_for() -> None:
    asked = asyncio.Event()

    async def never(line: Line) -> None:
        await line.request()
        asked.set()
        await asyncio.Event().wait()

    async with serving(never) as server:
        env = environment("http://127.0.0.1:1", ROCKETMQ__ACCESS_KEY_ID="", ROCKETMQ__ACCESS_KEY_SECRET="")
        chain = {"ALIBABA_CLOUD_CREDENTIALS_URI": f"{server.url}/key", "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
        async with bridge("run", env=env | chain) as running:
            await until(asked.is_set)
            running.process.terminate()
            assert await running.end(seconds=3) == 0
