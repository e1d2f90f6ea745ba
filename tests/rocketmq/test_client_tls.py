"""The client and TLS, on either side or on one alone."""

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import TryAgainError
from bridge.rocketmq.client import Patience
from rocketmq.calls import CALLS, IDLE, Call, failure_of, poll
from rocketmq.servers import Line, answering, client_of, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own authority for 127.0.0.1, with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not there")
    folder = tmp_path_factory.mktemp("tls")
    pem, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem],
        check=True,
        capture_output=True,
    )  # fmt: skip
    pem.write_bytes(pem.read_bytes() + key.read_bytes())
    return pem


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_works_with_a_ca_of_ones_own(tls: ssl.SSLContext, certificate: Path) -> None:
    async with (
        answering(IDLE, tls=tls) as server,
        client_of(server.url, tls=ssl.create_default_context(cafile=certificate)) as client,
    ):
        assert await poll(client) == []


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls: ssl.SSLContext) -> None:
    async with answering(IDLE, tls=tls) as server, client_of(server.url) as client:
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert re.search("not trusted.*BRIDGE_ROCKETMQ__CA_FILE", str(problem))
    assert server.requests == []


async def test_https_on_a_plain_port_is_told_as_that(emulator: Emulator) -> None:
    async with client_of(emulator.url.replace("http:", "https:")) as client:
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert re.search("no TLS with .*https on a plain port", str(problem))


async def test_http_on_a_tls_port_is_told_as_that(tls: ssl.SSLContext) -> None:
    async with answering(IDLE, tls=tls) as server, client_of(server.url.replace("https:", "http:")) as client:
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert "http or https" in str(problem)


@CALLS
async def test_a_handshake_that_never_ends_is_no_connection(call: Call) -> None:
    async def say_nothing(line: Line) -> None:
        await line.reader.read()

    async with (
        serving(say_nothing) as server,
        client_of(server.url.replace("http:", "https:"), patience=Patience(connect=0.5)) as client,
    ):
        problem = await failure_of(call(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert "no connection within 0.5 s" in str(problem)
