import asyncio

import pytest

from sdks.drivers import Driver, DriverDiedError, SdkError, start_driver

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOWHERE = "http://127.0.0.1:9"


async def test_a_driver_that_ends_in_a_call_says_so_and_shows_its_last_words() -> None:
    async with start_driver("python", NOWHERE) as driver:
        with pytest.raises(DriverDiedError, match="KeyError: 'dance'"):
            await driver.call("dance")  # type: ignore[arg-type]  # what no driver knows


async def test_a_cancelled_call_never_gives_its_answer_to_the_next_one() -> None:
    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await released.wait()
        writer.close()

    accepted, released = asyncio.Event(), asyncio.Event()
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with start_driver("python", f"http://{host}:{port}") as driver:
            silent = asyncio.create_task(driver.call("publish", topic="topic", body="unanswered"))
            await accepted.wait()
            silent.cancel()
            with pytest.raises(asyncio.CancelledError):
                await silent
            with pytest.raises(DriverDiedError):
                await driver.call("publish", topic="topic", body="another")
        released.set()


async def test_what_an_sdk_says_of_a_closed_port_is_its_own(driver: Driver) -> None:
    with pytest.raises(SdkError) as caught:
        await driver.using(endpoint=NOWHERE).call("publish", body="unheard")
    assert caught.value.items is None
    assert caught.value.message
