"""Getting in: TLS, passwords, tokens; and what a person is told where that fails."""

import asyncio
import base64
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.errors import BridgeError, FixSettingsError, SinkDownError
from bridge.sinks import Confirmed
from bridge.testing import make_event
from kafka.broker import PASSWORD, USER, Broker
from kafka.reading import read
from kafka.sinks import mutual_tls, open_sink, scram, sink_for


async def delivers(kafka: Broker, topic: str, **settings: Any) -> None:
    event = make_event()
    async with open_sink(kafka, topic, **settings) as caller:
        assert isinstance((await caller.send(event))[0], Confirmed)
    assert [record.event_id for record in read(kafka, topic)] == [event.id]


async def complaint(kafka: Broker, topic: str, error: type[BridgeError] = SinkDownError, **settings: Any) -> str:
    """What is said when the sink can't be opened: one line without a secret."""
    sink = sink_for(kafka, topic, **settings)
    with pytest.raises(error) as problem:
        await sink.open()
    await sink.close()
    text = str(problem.value)
    assert "\n" not in text
    assert settings.get("sasl_password", "nothing secret") not in text
    return text


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_tls_and_scram(kafka: Broker, topic: str, mechanism: str) -> None:
    await delivers(kafka, topic, **scram(kafka, mechanism))


async def test_mutual_tls(kafka: Broker, topic: str) -> None:
    await delivers(kafka, topic, **mutual_tls(kafka))


def plain(kafka: Broker) -> dict[str, str]:
    return {
        "bootstrap_servers": kafka.address("PLAIN"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
    }


async def test_sasl_plain(kafka: Broker, topic: str) -> None:
    await delivers(kafka, topic, **plain(kafka))


async def test_the_second_bootstrap_server_is_tried_when_the_first_is_away(kafka: Broker, topic: str) -> None:
    await delivers(kafka, topic, bootstrap_servers=f"localhost:1,{kafka.address()}")


async def test_a_wrong_password_says_so(kafka: Broker, topic: str) -> None:
    for settings in (scram(kafka), plain(kafka)):
        text = await complaint(kafka, topic, **settings | {"sasl_password": "wr0ng"})
        assert "SASL_USERNAME and SASL_PASSWORD" in text
        assert repr(USER) in text


async def test_a_wrong_password_recovers_when_it_is_mended(kafka: Broker, topic: str) -> None:
    """The broker learns the password that we have."""
    sink = sink_for(kafka, topic, **scram(kafka) | {"sasl_username": "bob", "sasl_password": "bob's"})
    with pytest.raises(SinkDownError):
        await sink.open()
    kafka.set_password("bob", "bob's")
    async with asyncio.timeout(20):
        while True:  # the broker takes a moment
            try:
                await sink.open()
            except SinkDownError:
                await asyncio.sleep(0.1)
            else:
                break
    (outcome,) = await sink.send([make_event()], asyncio.get_running_loop().time() + 20)
    assert isinstance(outcome, Confirmed)
    await sink.close()


async def test_an_untrusted_ca_says_so_and_recovers_when_the_file_is_mended(kafka: Broker, topic: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(kafka.certificates.stranger_ca, ca)
    settings = scram(kafka) | {"ssl_cafile": str(ca)}
    text = await complaint(kafka, topic, **settings)
    assert "SSL_CAFILE" in text
    sink = sink_for(kafka, topic, **settings)
    with pytest.raises(SinkDownError):
        await sink.open()
    shutil.copy(kafka.certificates.ca, ca)
    await sink.open()
    await sink.probe()
    await sink.close()


async def test_a_missing_client_certificate_says_so(kafka: Broker, topic: str) -> None:
    text = await complaint(kafka, topic, **mutual_tls(kafka) | {"ssl_certfile": None})
    assert "SSL_CERTFILE" in text


async def test_a_certificate_is_checked_against_the_name_unless_told_otherwise(
    kafka: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = asyncio.BaseEventLoop.getaddrinfo

    async def here(loop: asyncio.BaseEventLoop, _host: object, *more: Any, **named: Any) -> Any:
        return await resolve(loop, "localhost", *more, **named)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", here)
    elsewhere = mutual_tls(kafka) | {"bootstrap_servers": f"elsewhere.invalid:{kafka.ports['MUTUAL']}"}
    assert "not valid for 'elsewhere.invalid'" in await complaint(kafka, topic, **elsewhere)
    await delivers(kafka, topic, **elsewhere | {"ssl_check_hostname": False})


async def test_a_certificate_by_an_unknown_authority_says_so(kafka: Broker, topic: str) -> None:
    text = await complaint(kafka, topic, **mutual_tls(kafka) | {"ssl_cafile": str(kafka.certificates.client)})
    assert "SSL_CAFILE" in text


@pytest.mark.parametrize("setting", ["ssl_cafile", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_is_missing_or_no_certificate_is_a_mistake(
    kafka: Broker, topic: str, setting: str, tmp_path: Path
) -> None:
    (tmp_path / "rubbish.pem").write_text("rubbish")
    for path in ("rubbish.pem", "missing.pem"):
        text = await complaint(kafka, topic, FixSettingsError, **mutual_tls(kafka) | {setting: str(tmp_path / path)})
        assert "SSL_" in text


async def test_plain_text_to_a_listener_with_tls_says_so_in_time(kafka: Broker, topic: str) -> None:
    began = time.monotonic()
    text = await complaint(kafka, topic, bootstrap_servers=kafka.address("SASL"))
    assert "SECURITY_PROTOCOL" in text
    assert time.monotonic() - began < 10


async def test_tls_to_a_listener_without_says_so_in_time(kafka: Broker, topic: str) -> None:
    began = time.monotonic()
    text = await complaint(kafka, topic, **scram(kafka) | {"bootstrap_servers": kafka.address()})
    assert "SECURITY_PROTOCOL" in text
    assert time.monotonic() - began < 10


async def test_a_mechanism_that_the_broker_has_not_says_so(kafka: Broker, topic: str) -> None:
    text = await complaint(kafka, topic, **scram(kafka) | {"sasl_mechanism": "PLAIN"})
    assert "SASL_MECHANISM PLAIN" in text


@pytest.mark.usefixtures("invalid_names")
async def test_nobody_there_says_where(kafka: Broker, topic: str) -> None:
    text = await complaint(kafka, topic, bootstrap_servers="localhost:1")
    assert "localhost:1" in text
    text = await complaint(kafka, topic, bootstrap_servers="no.such.host.invalid:9092")
    assert "BOOTSTRAP_SERVERS" in text


# ---- tokens ----------------------------------------------------------------------------------------------------------


@dataclass
class TokenEndpoint:
    """Gives tokens without a signature, to a client that knows its secret."""

    url: str = ""
    life: int = 3600
    failing: bool = False
    expired: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        login = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        if self.failing or login != "the+bridge:s%2Fcret":
            return web.json_response({"error": "invalid_client"}, status=401)
        now = int(time.time())
        ends = now - 60 if self.expired else now + self.life + 5
        claims = {"sub": "bridge", "iat": now - 120, "exp": ends, "scope": form.get("scope", "")}
        return web.json_response({"access_token": unsigned(claims), "token_type": "Bearer", "expires_in": self.life})


def unsigned(claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
    return b".".join([*parts, b""]).decode()


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    app = web.Application()
    app.router.add_post("/token", endpoint.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    yield endpoint
    await runner.cleanup()


def oauth(kafka: Broker, endpoint: TokenEndpoint) -> dict[str, Any]:
    return {
        "bootstrap_servers": kafka.address("OAUTH"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": endpoint.url,
        "sasl_oauthbearer_client_id": "the bridge",
        "sasl_oauthbearer_client_secret": "s/cret",
        "sasl_oauthbearer_scope": "kafka",
    }


async def test_a_token_by_client_credentials_serves_all_connections(kafka: Broker, topic: str, endpoint: TokenEndpoint) -> None:
    await delivers(kafka, topic, **oauth(kafka, endpoint))
    assert endpoint.asked == [{"grant_type": "client_credentials", "scope": "kafka"}]


async def test_a_token_is_renewed_before_it_expires(kafka: Broker, topic: str, endpoint: TokenEndpoint) -> None:
    endpoint.life = 2
    async with open_sink(kafka, topic, **oauth(kafka, endpoint)) as caller:
        before = len(endpoint.asked)
        async with asyncio.timeout(10):
            while len(endpoint.asked) == before:
                assert await caller.probe()  # on a connection of its own, with a token that still holds
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("template", [False, True])
async def test_a_token_that_is_not_accepted_says_so_and_is_not_shown_again(
    kafka: Broker, topic: str, endpoint: TokenEndpoint, *, template: bool
) -> None:
    endpoint.expired = True
    sink = sink_for(kafka, "{topic}" if template else topic, **oauth(kafka, endpoint))
    with pytest.raises(SinkDownError, match="the token was not accepted: see SASL_OAUTHBEARER_CLIENT_ID"):
        await sink.open()
    endpoint.expired = False
    await sink.open()
    await sink.close()


async def test_an_endpoint_that_refuses_says_so_without_the_secret(kafka: Broker, topic: str, endpoint: TokenEndpoint) -> None:
    text = await complaint(kafka, topic, **oauth(kafka, endpoint) | {"sasl_oauthbearer_client_secret": "wr0ng"})
    assert "answered 401 Unauthorized" in text
    assert "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL" in text
    assert "wr0ng" not in text


async def test_an_endpoint_that_is_away_says_so(kafka: Broker, topic: str, endpoint: TokenEndpoint) -> None:
    away = oauth(kafka, endpoint) | {"sasl_oauthbearer_token_endpoint_url": "http://127.0.0.1:1/token"}
    assert "127.0.0.1:1" in await complaint(kafka, topic, **away)


async def test_a_token_serves_to_its_end_while_the_endpoint_fails(kafka: Broker, topic: str, endpoint: TokenEndpoint) -> None:
    endpoint.life = 12
    async with open_sink(kafka, topic, **oauth(kafka, endpoint)) as caller:
        endpoint.failing = True
        asked = len(endpoint.asked)
        async with asyncio.timeout(20):
            while len(endpoint.asked) == asked:
                assert await caller.probe()
                await asyncio.sleep(0.05)
        assert await caller.probe()
