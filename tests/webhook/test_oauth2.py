"""OAuth2 client credentials: one token for all, renewed before it ends and when it is rejected."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Again
from bridge.sinks.oauth2 import PAUSE_SECONDS, Client, Tokens
from bridge.sinks.webhook.authorization import UNTIL_REJECTED
from bridge.testing import make_event
from webhook.receiver import Receiver, opened, send
from webhook.token_server import CLIENT, CLIENT_SECRET, TokenServer, authorizing


def settings(server: TokenServer, **others: str) -> dict[str, Any]:
    client = {"auth_token_url": server.url, "auth_client_id": CLIENT, "auth_client_secret": CLIENT_SECRET}
    return {**client, **others}


@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_token_is_fetched_once_for_all_and_the_client_may_stand_in_either_place(place: str) -> None:
    async with authorizing() as server:
        asked = settings(server, auth_client_in=place, auth_scope="a b", auth_audience="https://api")
        async with opened(server.receiver.url, **asked) as sink:
            sends = [send(sink, make_event(), make_event()) for _ in range(8)]
            assert await asyncio.gather(*sends) == [[CONFIRMED] * 2] * 8
    (form,) = server.requests
    assert form["scope"] == ["a b"]
    assert form["audience"] == ["https://api"]
    assert ("client_secret" in form) is (place == "body")


async def test_tokens_of_a_few_seconds_lose_no_event_and_none_is_rejected() -> None:
    async with authorizing(life=3.0, expires_in=3) as server, opened(server.receiver.url, **settings(server)) as sink:
        sent = 0
        while server.issued < 4:
            assert await send(sink, make_event()) == [CONFIRMED]
            sent += 1
    assert sent > 10
    assert server.rejected == 0
    assert len(server.receiver.requests) == sent


async def test_a_token_that_is_rejected_is_fetched_anew_once_for_all_and_no_event_is_lost() -> None:
    async with authorizing() as server, opened(server.receiver.url, **settings(server)) as sink:
        for _ in range(3):
            server.revoke()
            assert await send(sink, *(make_event() for _ in range(8))) == [CONFIRMED] * 8
    assert server.issued == 4
    assert server.rejected <= 3 * 8


async def test_a_receiver_that_rejects_every_token_is_trouble_each_time_and_refuses_nothing() -> None:
    async with authorizing(life=0) as server, opened(server.receiver.url, **settings(server)) as sink:
        for count in range(1, 4):
            with pytest.raises(SinkDownError, match="401"):
                await send(sink, make_event())
            assert len(server.receiver.requests) == 2 * count


async def test_wrong_credentials_are_told_when_it_opens_and_show_no_secret() -> None:
    async with authorizing() as server:
        wrong = settings(server, auth_client_secret="wrong-secret")
        with pytest.raises(SinkDownError, match=r"fetching an OAuth2 token: answered 401 .*invalid_client.*AUTH_") as caught:
            async with opened(server.receiver.url, **wrong):
                pass
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=503),
        web.Response(status=200, text="<html>"),
        web.Response(status=200, text="[]"),
        web.Response(status=200, text='{"access_token": 7}'),
        web.Response(status=200, text='{"access_token": "a\\r\\nX-Injected: 1"}'),
        web.Response(status=200, text='{"access_token": "abc", "token_type": "mac"}'),
        web.Response(status=302),
    ],
)
async def test_an_authorisation_server_that_gives_no_token_is_trouble_until_it_does(answer: web.Response) -> None:
    async with authorizing() as server, opened(server.receiver.url, **settings(server)) as sink:
        server.revoke()
        server.trouble = answer
        with pytest.raises(SinkDownError, match="OAuth2 token"):
            await send(sink, make_event())
        server.trouble = None
        assert await send(sink, make_event()) == [CONFIRMED]
        assert all("x-injected" not in request.headers for request in server.receiver.requests)


async def test_an_event_that_waits_for_a_token_is_not_begun_after_its_deadline() -> None:
    async with authorizing() as server, opened(server.receiver.url, **settings(server)) as sink:
        server.revoke()
        server.hold.clear()
        (outcome,) = await send(sink, make_event(), within=1.0)
        assert isinstance(outcome, Again)
        posted = len(server.receiver.requests)
        server.hold.set()
        assert await send(sink, make_event()) == [CONFIRMED]
        assert len(server.receiver.requests) == posted + 1


# ---- with a clock of the test's own ----------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


Asking = tuple[TokenServer, Tokens, Clock]


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    async with authorizing() as server:
        clock = Clock()
        client = Client(
            url=URL(server.url),
            id=CLIENT,
            secret=SecretStr(CLIENT_SECRET),
            settings=("AUTH_TOKEN_URL", "AUTH_CLIENT_ID", "AUTH_CLIENT_SECRET"),
            parameters={},
            ca_setting="CA_FILE",
        )
        tokens = Tokens(client, life_seconds=UNTIL_REJECTED, now=clock)
        yield server, tokens, clock
        await tokens.close()


@pytest.mark.parametrize(("expires_in", "renewed_after"), [(3600, 3570), ("3600", 3570), (100, 80), (5.0, 4)])
async def test_a_token_is_renewed_half_a_minute_or_a_fifth_of_its_life_before_its_end(
    asking: Asking, expires_in: object, renewed_after: float
) -> None:
    server, tokens, clock = asking
    server.expires_in = expires_in
    assert await tokens.token() == "token-1"
    clock.now += renewed_after - 0.01
    assert await tokens.token() == "token-1"
    clock.now += 0.02
    assert await tokens.token() == "token-2"


async def test_a_token_that_tells_no_end_is_kept_until_it_is_rejected(asking: Asking) -> None:
    server, tokens, clock = asking
    server.expires_in = None
    value = await tokens.token()
    clock.now += 10_000_000
    assert await tokens.token() == value
    tokens.reject(value)
    assert await tokens.token() == "token-2"
    tokens.reject(value)  # a rejection of the old one, that comes late
    assert await tokens.token() == "token-2"


async def test_a_renewal_that_fails_is_no_trouble_while_the_token_holds_and_is_not_tried_all_the_time(asking: Asking) -> None:
    server, tokens, clock = asking
    value = await tokens.token()
    server.trouble = web.Response(status=500)
    clock.now += 3580
    for _ in range(3):
        assert await tokens.token() == value
    assert len(server.requests) == 2
    clock.now += PAUSE_SECONDS + 1
    assert await tokens.token() == value
    assert len(server.requests) == 3
    clock.now += 20  # beyond its end
    with pytest.raises(SinkDownError):
        await tokens.token()
    server.trouble = None
    assert await tokens.token() == "token-2"


async def test_whoever_stops_waiting_for_a_token_takes_it_from_nobody(asking: Asking) -> None:
    server, tokens, _ = asking
    server.hold.clear()
    patient, impatient = (asyncio.create_task(tokens.token()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    server.hold.set()
    assert await patient == "token-1"
    assert len(server.requests) == 1


async def test_the_token_goes_to_nobody_but_the_receiver(receiver: Receiver) -> None:
    """A probe of another server is told nothing."""
    async with authorizing() as server:
        elsewhere = f"{receiver.url}/health"
        async with opened(server.receiver.url, probe_url=elsewhere, headers="X-Key: k", **settings(server)):
            pass
    assert receiver.last.path == "/hook/health"
    assert not {"authorization", "x-key"} & {*receiver.last.headers}
