"""Mutual TLS and a private CA, with certificates by trustme."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr
from yarl import URL

from bridge.errors import FixSettingsError, SinkDownError
from bridge.sinks import CONFIRMED, Refused
from bridge.sinks.oauth2 import Client, Tokens
from bridge.sinks.webhook import WebhookSink
from bridge.testing import make_event
from rocketmq.servers import Line, serving
from webhook.alerting import refusing_certificates
from webhook.receiver import Receiver, opened, receiving, send
from webhook.token_server import CLIENT, CLIENT_SECRET, TokenServer


@dataclass(frozen=True)
class House:
    """A private CA, what it vouches for, and where the files are."""

    ca: trustme.CA
    ca_file: Path
    cert_file: Path
    key_file: Path

    @property
    def shown(self) -> dict[str, Any]:
        """The settings that show the certificate to the receiver, and trust it."""
        return {"ca_file": self.ca_file, "client_cert_file": self.cert_file, "client_key_file": self.key_file}

    def server(self, *, asks_for_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1").configure_cert(context)
        if asks_for_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


def write(cert: trustme.LeafCert, cert_file: Path, key_file: Path) -> None:
    cert_file.write_bytes(b"".join(pem.bytes() for pem in cert.cert_chain_pems))
    key_file.write_bytes(cert.private_key_pem.bytes())


async def gets_through(sink: WebhookSink) -> bool:
    try:
        (outcome,) = await send(sink, make_event())
    except SinkDownError:
        return False
    assert not isinstance(outcome, Refused)
    return outcome == CONFIRMED


@pytest.fixture
def house(tmp_path: Path) -> House:
    ca = trustme.CA()
    house = House(ca, tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    ca.cert_pem.write_to_path(house.ca_file)
    write(ca.issue_cert("bridge.example"), house.cert_file, house.key_file)
    return house


async def test_a_private_ca_is_trusted_when_it_is_named(house: House) -> None:
    async with receiving(tls=house.server()) as receiver, opened(receiver.url, ca_file=str(house.ca_file)) as sink:
        assert await send(sink, make_event()) == [CONFIRMED]


async def test_a_certificate_of_an_unknown_ca_is_the_endpoints_trouble_and_gets_nothing(house: House) -> None:
    async with receiving(tls=house.server()) as receiver, opened(receiver.url) as sink:
        with pytest.raises(SinkDownError, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted .*CA_FILE"):
            await send(sink, make_event())
        assert receiver.requests == []


async def test_a_certificate_for_another_host_is_not_trusted(house: House) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    house.ca.issue_cert("other.example").configure_cert(context)
    async with receiving(tls=context) as receiver, opened(receiver.url, ca_file=house.ca_file) as sink:
        with pytest.raises(SinkDownError, match="not trusted"):
            await send(sink, make_event())


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("newest", VERSIONS)
async def test_mutual_tls_shows_the_certificate_and_its_lack_confirms_and_refuses_nothing(
    house: House, newest: ssl.TLSVersion
) -> None:
    context = house.server(asks_for_certificate=True)
    context.maximum_version = newest
    async with receiving(tls=context) as receiver:
        async with opened(receiver.url, **house.shown) as sink:
            assert await send(sink, make_event()) == [CONFIRMED]
        async with opened(receiver.url, ca_file=house.ca_file) as sink:
            assert not await gets_through(sink)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("newest", VERSIONS)
async def test_a_server_that_says_what_it_misses_is_the_endpoints_trouble_each_time(
    house: House, newest: ssl.TLSVersion
) -> None:
    context = house.server(asks_for_certificate=True)
    context.maximum_version = newest
    with refusing_certificates(context) as url:
        async with opened(url, ca_file=house.ca_file) as sink:
            for _ in range(3):
                with pytest.raises(SinkDownError, match=r"TLS.*CLIENT_CERT_FILE"):
                    await send(sink, make_event(), make_event())


async def test_the_certificate_and_its_key_may_stand_in_one_file(house: House) -> None:
    house.cert_file.write_bytes(house.cert_file.read_bytes() + house.key_file.read_bytes())
    async with (
        receiving(tls=house.server(asks_for_certificate=True)) as receiver,
        opened(receiver.url, ca_file=house.ca_file, client_cert_file=house.cert_file) as sink,
    ):
        assert await send(sink, make_event()) == [CONFIRMED]


async def test_a_key_with_a_password_works_with_it_and_without_it_nobody_is_asked_on_the_terminal(house: House) -> None:
    key = serialization.load_pem_private_key(house.key_file.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"open sesame")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    house.key_file.write_bytes(pem)
    async with receiving(tls=house.server(asks_for_certificate=True)) as receiver:
        async with opened(receiver.url, client_key_password="open sesame", **house.shown) as sink:
            assert await send(sink, make_event()) == [CONFIRMED]
        for wrong in (None, "open caraway"):
            with pytest.raises(FixSettingsError, match="CLIENT_KEY_PASSWORD") as caught:
                async with opened(receiver.url, client_key_password=wrong, **house.shown):
                    pass
            assert "caraway" not in str(caught.value)


async def test_a_renewed_certificate_is_shown_without_a_restart(house: House) -> None:
    """The first one is of a CA that the receiver doesn't know."""
    write(trustme.CA().issue_cert("bridge.example"), house.cert_file, house.key_file)
    async with (
        receiving(tls=house.server(asks_for_certificate=True)) as receiver,
        opened(receiver.url, **house.shown) as sink,
    ):
        assert not await gets_through(sink)
        house.cert_file.write_bytes(b"half writ")
        assert not await gets_through(sink)
        write(house.ca.issue_cert("bridge.example"), house.cert_file, house.key_file)
        assert await send(sink, make_event()) == [CONFIRMED]


async def test_a_file_that_is_no_certificate_is_a_settings_mistake(house: House, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(FixSettingsError, match=r"CA_FILE: '.*nonsense\.pem' holds no CA in PEM"):
        async with opened("https://127.0.0.1:1/", ca_file=nonsense):
            pass
    with pytest.raises(FixSettingsError, match="CLIENT_CERT_FILE"):
        async with opened("https://127.0.0.1:1/", client_cert_file=nonsense):
            pass


async def test_https_on_a_plain_port_is_told_as_that(receiver: Receiver) -> None:
    async with opened(receiver.url.replace("http:", "https:")) as sink:
        with pytest.raises(SinkDownError, match=r"no TLS with .*https on a plain port"):
            await send(sink, make_event())


async def test_a_handshake_that_never_ends_is_no_connection() -> None:
    async def say_nothing(line: Line) -> None:
        await line.reader.read()

    async with serving(say_nothing) as server, opened(server.url.replace("http:", "https:"), timeout_seconds=0.6) as sink:
        async with asyncio.timeout(5):
            with pytest.raises(SinkDownError, match=r"no connection to .* within 0\.3 s"):
                await send(sink, make_event())


async def test_the_authorisation_server_may_have_a_certificate_of_the_same_ca(house: House) -> None:
    async with receiving(tls=house.server()) as tokens, receiving(tls=house.server()) as receiver:
        server = TokenServer(3600, 3600, receiver=receiver)
        server.hold.set()
        tokens.answer, receiver.answer = server.token, server.take
        async with opened(
            receiver.url,
            ca_file=house.ca_file,
            auth_token_url=tokens.url,
            auth_client_id=CLIENT,
            auth_client_secret=CLIENT_SECRET,
        ) as sink:
            assert await send(sink, make_event()) == [CONFIRMED]


@pytest.mark.parametrize("tls", [True, False])
async def test_a_token_endpoint_that_is_not_reached_names_the_settings_of_whoever_asks(house: House, *, tls: bool) -> None:
    """Kafka's aren't the webhook's, and nobody shows it a certificate."""
    async with receiving(tls=house.server() if tls else None) as server:
        client = Client(
            url=URL(server.url).with_scheme("https"),
            id="a",
            secret=SecretStr("b"),
            settings=("SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "SASL_USERNAME", "SASL_PASSWORD"),
            parameters={},
            ca_setting="SSL_CAFILE",
        )
        tokens = Tokens(client, life_seconds=60)
        named = "see SSL_CAFILE" if tls else "is SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL https on a plain port"
        with pytest.raises(SinkDownError, match=f"{named}(?!.*CERT)"):
            await tokens.token()
        await tokens.close()
