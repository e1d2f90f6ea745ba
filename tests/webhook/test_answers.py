"""What an answer means: confirmed, refused, again, or the endpoint's trouble (design.md 5, Down or poison?)."""

import asyncio
import gzip
import time
import tracemalloc
from email.utils import formatdate

import pytest
from aiohttp import web

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Again, Refused
from bridge.testing import make_event
from rocketmq.servers import Line, answering, http, serving
from webhook.receiver import Received, Receiver, answers, opened, send

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_confirms(receiver: Receiver, status: int) -> None:
    receiver.answer = answers(status)
    async with opened(receiver.url) as sink:
        assert await send(sink, make_event()) == [CONFIRMED]


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_some_statuses_condemn_the_event_and_say_why(receiver: Receiver, status: int) -> None:
    receiver.answer = answers(status, text="no\n such \x1b[31m field")
    async with opened(receiver.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Refused)
    assert outcome.reason.startswith(f"answered {status} ")
    assert outcome.reason.endswith(": no such [31m field")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 402, 409, 418, 431, 451, 499])
async def test_some_statuses_ask_to_try_again(receiver: Receiver, status: int) -> None:
    receiver.answer = answers(status)
    async with opened(receiver.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)
    assert str(status) in outcome.reason
    assert outcome.after is None


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 410, 300, 301, 302, 303, 304, 307, 308])
async def test_some_statuses_are_the_endpoints_trouble_every_time_and_refuse_nothing(receiver: Receiver, status: int) -> None:
    receiver.answer = answers(status)
    async with opened(receiver.url) as sink:
        for _ in range(7):
            with pytest.raises(SinkDownError, match=rf"^{receiver.url} answers {status}.*(check|set) "):
                await send(sink, make_event(), make_event())


@pytest.mark.parametrize(
    "text",
    [
        "<center>No required SSL certificate was sent</center>",
        "<center>The plain HTTP request was sent to HTTPS port</center>",
        "Client sent an HTTP request to an HTTPS server.\n",
    ],
)
async def test_a_web_server_that_misses_tls_says_400_and_condemns_no_event(receiver: Receiver, text: str) -> None:
    receiver.answer = answers(400, text=f"<html><head><title>400</title></head><body>{text}</body></html>")
    async with opened(receiver.url) as sink:
        with pytest.raises(SinkDownError, match="check URL and CLIENT_CERT_FILE"):
            await send(sink, make_event())


async def test_a_redirect_is_not_followed_and_says_where_it_leads(receiver: Receiver) -> None:
    elsewhere = receiver.url.replace("http://", "http://user:secret@").replace("/hook", "/elsewhere?sig=secret")
    receiver.answer = answers(307, {"Location": elsewhere})
    async with opened(receiver.url) as sink:
        with pytest.raises(SinkDownError, match=r"a redirect to '.*/elsewhere.*redirects are not followed: set URL") as caught:
            await send(sink, make_event())
    assert [request.path for request in receiver.requests] == ["/hook"]
    assert "secret" not in str(caught.value)


async def test_when_another_event_was_confirmed_the_endpoints_trouble_is_again(receiver: Receiver) -> None:
    good, bad = make_event("good"), make_event("bad")
    both = asyncio.Barrier(2)

    async def answer(received: Received) -> web.Response:
        await both.wait()
        return web.Response(status=403 if b"bad" in received.body else 200)

    receiver.answer = answer
    async with opened(receiver.url) as sink:
        confirmed, again = await send(sink, good, bad)
    assert confirmed == CONFIRMED
    assert isinstance(again, Again)
    assert "403" in again.reason


async def test_each_event_has_its_own_outcome(receiver: Receiver) -> None:
    statuses = [200, 422, 500, 204]
    events = [make_event(f"{status}!") for status in statuses]
    receiver.answer = lambda received: web.Response(
        status=next(status for status in statuses if f'"{status}!"'.encode() in received.body)
    )
    async with opened(receiver.url) as sink:
        first, second, third, fourth = await send(sink, *events)
    assert first == fourth == CONFIRMED
    assert isinstance(second, Refused)
    assert isinstance(third, Again)


async def again_after(receiver: Receiver, status: int, headers: dict[str, str]) -> float | None:
    receiver.answer = answers(status, headers)
    async with opened(receiver.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)
    return outcome.after


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_is_honoured(receiver: Receiver, status: int) -> None:
    assert await again_after(receiver, status, {"Retry-After": "2"}) == 2.0


async def test_retry_after_as_a_date_is_honoured_by_the_receivers_own_clock(receiver: Receiver) -> None:
    theirs = time.time() - 3600
    headers = {"Date": formatdate(theirs, usegmt=True), "Retry-After": formatdate(theirs + 90, usegmt=True)}
    assert await again_after(receiver, 503, headers) == pytest.approx(90.0, abs=1.0)


async def test_retry_after_as_a_date_without_a_date_header_is_honoured_by_ours() -> None:
    now = 1_700_000_000.0
    answer = http(503, b"", f"Retry-After: {formatdate(now + 30, usegmt=True)}")
    async with answering(answer) as server, opened(server.url, wall_clock=lambda: now) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)
    assert outcome.after == 30.0


async def test_retry_after_in_the_past_is_now(receiver: Receiver) -> None:
    assert await again_after(receiver, 503, {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0.0


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "", "٣", "Sun, 99 Foo 2025 99:99:99 GMT"])
async def test_retry_after_that_says_nothing_is_as_none(receiver: Receiver, value: str) -> None:
    assert await again_after(receiver, 503, {"Retry-After": value}) is None


async def test_retry_after_for_ever_is_a_number() -> None:
    async with answering(http(503, b"", f"Retry-After: {'9' * 5000}")) as server, opened(server.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)
    assert outcome.after is not None
    assert 10**9 < outcome.after < 10**12


CHUNK = b"x" * 65_536


@pytest.mark.parametrize("framing", ["Content-Length: 1073741824", "Transfer-Encoding: chunked", "Connection: close"])
@pytest.mark.parametrize("status", [200, 422])
async def test_an_answer_of_1_gb_is_read_to_a_bound(status: int, framing: str) -> None:
    """Its sender doesn't get rid of it, and memory doesn't move."""
    written = 0
    frame = b"10000\r\n" + CHUNK + b"\r\n" if "chunked" in framing else CHUNK

    async def flood(line: Line) -> None:
        nonlocal written
        await line.request()
        await line.send(f"HTTP/1.1 {status} Whatever\r\n{framing}\r\n\r\n".encode())
        while written < 1 << 30:
            await line.send(frame)
            written += len(frame)

    async with serving(flood) as server, opened(server.url) as sink:
        tracemalloc.start()
        try:
            (outcome,) = await send(sink, make_event())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    if status == 200:
        assert outcome == CONFIRMED
    else:
        assert isinstance(outcome, Refused)
        assert len(outcome.reason) < 300
    assert written < 64 * MEBIBYTE  # what the buffers of the sockets take
    assert peak < 4 * MEBIBYTE


async def test_a_compressed_answer_is_not_unfolded(receiver: Receiver) -> None:
    body = gzip.compress(b"x" * 100 * MEBIBYTE, 9)[:16_000]
    receiver.answer = lambda _: web.Response(status=422, body=body, headers={"Content-Encoding": "gzip"})
    async with opened(receiver.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Refused)
    assert "xxx" not in outcome.reason
    assert receiver.last.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_off_or_is_no_http_is_again(answer: bytes) -> None:
    async def behave(line: Line) -> None:
        await line.request()
        await line.send(answer)

    async with serving(behave) as server, opened(server.url) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)
    assert "broke off or is no HTTP" in outcome.reason


async def test_an_answer_that_does_not_come_in_time_is_again(receiver: Receiver) -> None:
    async def never(_: Received) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    receiver.answer = never
    async with opened(receiver.url, timeout_seconds="0.3") as sink:
        (outcome,) = await send(sink, make_event())
    assert outcome == Again("no whole answer within 0.3 s")


async def test_an_answer_that_trickles_is_again_when_its_time_is_over() -> None:
    async def trickle(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await line.send(b"x")
            await asyncio.sleep(0.02)

    async with serving(trickle) as server, opened(server.url, timeout_seconds=0.5) as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Again)


async def test_a_reason_repeats_no_secret_that_the_receiver_repeats(receiver: Receiver) -> None:
    def echo(received: Received) -> web.Response:
        return web.Response(status=400, text=f"Cannot POST {received.path} {dict(received.headers)}")

    receiver.answer = echo
    async with opened(f"{receiver.url}?code=in-the-query", auth_token="the-token", headers="X-Key: the-key") as sink:
        (outcome,) = await send(sink, make_event())
    assert isinstance(outcome, Refused)
    assert "Cannot POST /hook" in outcome.reason
    for secret in ("in-the-query", "the-token", "the-key"):
        assert secret in str(receiver.last)
        assert secret not in outcome.reason


async def test_nobody_there_is_the_endpoints_trouble_in_one_line() -> None:
    async with serving(lambda line: line.send(b"")) as server:
        url = server.url
    async with opened(f"{url.replace('http://', 'http://user:secret@')}/?code=secret") as sink:
        with pytest.raises(SinkDownError, match=r"no connection to 127\.0\.0\.1:.*check URL") as caught:
            await send(sink, make_event())
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("invalid_names", "no_proxies")
async def test_a_name_that_does_not_resolve_is_the_endpoints_trouble() -> None:
    async with opened("http://nowhere.invalid/") as sink:
        with pytest.raises(SinkDownError, match=r"the name nowhere\.invalid does not resolve; check URL"):
            await send(sink, make_event())
