"""The client and counterparts that don't keep to anything; `answer_lost` tells whether a call may have had its effect."""

import asyncio
import gzip
import re
import socket
import traceback
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import BrokenAnswerError, FixSettingsError, TryAgainError
from bridge.rocketmq.client import Client, Patience
from bridge.rocketmq.codec import max_answer_bytes
from bridge.rocketmq.credentials import Credentials
from rocketmq.calls import CALLS, IDLE, SUBSCRIPTION, Call, failure_of, poll, publish, until
from rocketmq.documents import batch, element
from rocketmq.servers import CREDENTIALS, Line, answering, client_of, http, serving


@CALLS
async def test_a_refused_connection_says_where_and_had_no_effect(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    async with client_of(f"http://127.0.0.1:{port}") as client:
        problem = await failure_of(call(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert f"127.0.0.1:{port}" in str(problem)


@pytest.mark.usefixtures("invalid_names")
async def test_a_name_that_does_not_resolve_is_named() -> None:
    async with client_of("http://mqrest.invalid") as client:
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert "mqrest.invalid" in str(problem)
    assert "BRIDGE_ROCKETMQ__ENDPOINT" in str(problem)


@CALLS
async def test_an_endpoint_that_closes_without_an_answer_may_be_the_tcp_one(call: Call) -> None:
    async def hang_up(line: Line) -> None:
        await line.request()

    async with serving(hang_up) as server, client_of(server.url) as client:
        problem = await failure_of(call(client))

    assert type(problem) is TryAgainError
    assert problem.answer_lost
    assert "mqrest" in str(problem)


TO_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
UNASKED_GZIP = http(200, gzip.compress(batch(element())), "Content-Encoding: gzip", "Connection: close")


@pytest.mark.parametrize(
    ("answer", "kind", "lost"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", TryAgainError, True, id="SSH"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", TryAgainError, True, id="a TLS alert"),
        pytest.param(b"\x00" * 64, TryAgainError, True, id="zeros"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", TryAgainError, True, id="half a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, TryAgainError, True, id="a header without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, TryAgainError, True, id="headers without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", TryAgainError, True, id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", TryAgainError, True, id="2 lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<Messages>", TryAgainError, True, id="cut in the body"),
        pytest.param(b"HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n", TryAgainError, True, id="no chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n<Mes", TryAgainError, True, id="half a chunk"),
        pytest.param(TO_THE_END + batch(element(), element())[:-60], TryAgainError, True, id="cut, without a length"),
        pytest.param(http(101, b"", "Upgrade: x", "Connection: upgrade"), BrokenAnswerError, False, id="another protocol"),
        pytest.param(UNASKED_GZIP, BrokenAnswerError, False, id="unasked gzip"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n", BrokenAnswerError, True, id="10 GB announced"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_whole_http_is_tried_again(answer: bytes, kind: type[TryAgainError], *, lost: bool) -> None:
    first = True

    async def behave(line: Line) -> None:
        nonlocal first
        await line.request()
        await line.send(answer if first else IDLE)
        first = False

    async with serving(behave) as server, client_of(server.url) as client:
        problem = await failure_of(poll(client))
        after = await poll(client)

    assert type(problem) is kind
    assert problem.answer_lost is lost
    assert len(str(problem)) < 500
    assert after == []


async def test_an_answer_without_a_length_is_read_to_the_end_of_its_connection() -> None:
    async def behave(line: Line) -> None:
        await line.request()
        await line.send(TO_THE_END + batch(element(), element()))

    async with serving(behave) as server, client_of(server.url) as client:
        assert len(await poll(client)) == 2


async def test_what_comes_unasked_while_a_connection_lies_idle_answers_no_call() -> None:
    came = asyncio.Event()

    async def behave(line: Line) -> None:
        await line.request()
        await line.send(IDLE)
        await came.wait()
        await line.send(http(408))
        server.requests.append(await line.request())  # it must come on another connection

    async def answer(line: Line) -> None:
        await (behave if server.connections == 1 else in_order)(line)

    async def in_order(line: Line) -> None:
        await line.request()
        await line.send(http(200, batch(element())))

    async with serving(answer) as server, client_of(server.url) as client:
        assert await poll(client) == []
        came.set()
        await asyncio.sleep(0.05)  # nobody tells when it has arrived
        assert len(await poll(client)) == 1

    assert server.requests == []


async def test_the_answer_is_the_one_after_the_interim_ones() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"
    async with answering(interim + http(200, batch(element()))) as server, client_of(server.url) as client:
        assert len(await poll(client)) == 1
        assert len(await poll(client)) == 1
    assert server.connections == 1


async def test_a_token_with_a_line_break_is_sent_nowhere() -> None:
    credentials = Credentials(access_key_id="AKID", access_key_secret="SECRET", security_token="one\r\nX-Other: two")
    async with answering(IDLE) as server, Client(server.url, lambda: credentials, max_connections=1) as client:
        problem = await failure_of(poll(client))

    assert type(problem) is FixSettingsError
    assert "security-token holds a line break" in str(problem)
    assert "two" not in str(problem)
    assert server.requests == []


async def test_an_answer_that_nobody_asked_for_answers_no_other_call() -> None:
    smuggled = http(200, batch(element()))

    async with answering(IDLE + smuggled, IDLE) as server, client_of(server.url) as client:
        with suppress(TryAgainError):
            assert await poll(client) == []
        assert await poll(client) == []


@CALLS
@pytest.mark.parametrize("reused", [False, True])
async def test_a_call_is_never_sent_twice_behind_our_back(call: Call, *, reused: bool) -> None:
    async def hang_up(line: Line) -> None:
        if reused:
            await line.request()
            await line.send(IDLE)
        server.requests.append(await line.request())

    async with serving(hang_up) as server, client_of(server.url) as client:
        if reused:
            await poll(client)
        problem = await failure_of(call(client))

    assert isinstance(problem, TryAgainError)
    assert problem.answer_lost
    assert len(server.requests) == 1


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked\r\n", ""])
async def test_an_answer_without_end_is_read_no_further_than_a_legal_one_could_be(head: str) -> None:
    chunk = b"x" * 100_000
    sent = 0
    hung_up = asyncio.Event()

    async def flood(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        try:
            while True:
                await line.send(b"186A0\r\n" + chunk + b"\r\n" if head else chunk)
                sent += len(chunk)
        finally:
            hung_up.set()

    async with serving(flood) as server, client_of(server.url) as client:
        problem = await failure_of(poll(client))
        async with asyncio.timeout(10):
            await hung_up.wait()

    assert type(problem) is BrokenAnswerError
    assert f"{max_answer_bytes(1):,}" in str(problem)
    assert sent < max_answer_bytes(1) + 16_000_000  # what may be under way in between


@CALLS
async def test_an_answer_that_trickles_in_ends_with_our_patience(emulator: Emulator, call: Call) -> None:
    emulator.faults.trickle_seconds = 0.05
    async with client_of(emulator.url, patience=Patience(poll=0.6, write=0.6)) as client:
        problem = await failure_of(call(client))

    assert type(problem) is TryAgainError
    assert problem.answer_lost


@CALLS
async def test_a_service_that_takes_a_call_and_is_silent_has_lost_its_answer(emulator: Emulator, call: Call) -> None:
    emulator.faults.stalled = 1
    async with client_of(emulator.url, patience=Patience(silence=0.2, write_silence=0.2, write=60)) as client:
        problem = await failure_of(call(client))

    assert type(problem) is TryAgainError
    assert problem.answer_lost


async def test_a_poll_that_is_cancelled_is_cut_and_the_next_one_works(emulator: Emulator, client: Client) -> None:
    polling = asyncio.create_task(poll(client, wait_seconds=30))
    await until(lambda: emulator.open_polls("MQ_INST_1") == 1)

    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling

    await until(lambda: emulator.open_polls("MQ_INST_1") == 0)
    await publish(client)
    assert len(await poll(client)) == 1


async def test_a_redirect_is_not_followed_with_our_signature() -> None:
    async with (
        answering(IDLE) as elsewhere,
        answering(http(302, b"", f"Location: {elsewhere.url}/topics/topicA/messages")) as server,
        client_of(server.url) as client,
    ):
        problem = await failure_of(poll(client))

    assert type(problem) is BrokenAnswerError
    assert elsewhere.connections == 0


async def test_a_proxy_is_used_when_it_is_given_and_only_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    async with answering(IDLE) as service, answering(IDLE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        async with client_of(service.url) as client:
            await poll(client)
        async with Client("http://service.test", lambda: CREDENTIALS, max_connections=1, proxy=proxy.url) as client:
            await poll(client)

    assert b"\r\nAuthorization: MQ AKID:" in service.requests[0]
    target = SUBSCRIPTION.poll(1, 0).target
    assert [request.partition(b"\r\n")[0] for request in proxy.requests] == [
        f"GET http://service.test{target} HTTP/1.1".encode()
    ]


@pytest.mark.parametrize(
    ("endpoint", "first_line"),
    [("http://service.test", b"GET http://service.test/topics/"), ("https://service.test", b"CONNECT service.test:443 ")],
)
async def test_a_proxy_that_wants_a_password_gets_it_and_only_a_forwarding_one_sees_our_key(
    endpoint: str, first_line: bytes
) -> None:
    async with (
        answering(http(407)) as proxy,
        Client(
            endpoint, lambda: CREDENTIALS, max_connections=1, proxy=proxy.url.replace("http://", "http://user:p%40ss@")
        ) as client,
    ):
        await failure_of(poll(client))

    (request,) = proxy.requests
    assert request.startswith(first_line)
    assert f"Proxy-Authorization: Basic {b64encode(b'user:p@ss').decode()}\r\n".encode() in request
    assert (b"\r\nAuthorization: MQ " in request) is endpoint.startswith("http:")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 Conn", b"SSH-2.0-OpenSSH_9.2\r\n", http(407)])
async def test_a_proxy_that_makes_no_tunnel_is_told_as_that_and_nothing_was_sent(said: bytes) -> None:
    async def behave(line: Line) -> None:
        await line.request()
        await line.send(said)

    async with (
        serving(behave) as proxy,
        Client(
            "https://service.test",
            lambda: CREDENTIALS,
            max_connections=1,
            proxy=proxy.url.replace("http://", "http://user:S3%40CRET@"),
        ) as client,
    ):
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert re.search("the proxy (refuses|makes no tunnel).*HTTPS_PROXY", str(problem))
    assert "CRET" not in "".join(traceback.format_exception(problem))


async def test_a_proxy_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with Client(
        "http://service.test", lambda: CREDENTIALS, max_connections=1, proxy=f"http://user:hidden@127.0.0.1:{port}"
    ) as client:
        problem = await failure_of(poll(client))

    assert type(problem) is TryAgainError
    assert not problem.answer_lost
    assert f"127.0.0.1:{port}" in str(problem)
    assert "hidden" not in str(problem)
