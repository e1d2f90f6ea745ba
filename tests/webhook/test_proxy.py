"""The usual variables name a proxy; its password is never shown."""

import pytest

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED
from bridge.testing import make_event
from rocketmq.servers import Server, answering, http, serving
from server_process import free_port
from webhook.receiver import opened, send

pytestmark = pytest.mark.usefixtures("no_proxies")


def use(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, server.url.replace("http://", "http://us:open-sesame@"))


async def test_events_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(http(204)) as proxy:
        use(monkeypatch, proxy)
        async with opened("http://hooks.invalid/x?y=1") as sink:
            assert await send(sink, make_event()) == [CONFIRMED]
    (request,) = proxy.requests
    assert request.startswith(b"POST http://hooks.invalid/x?y=1 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic dXM6b3Blbi1zZXNhbWU=\r\n" in request


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_the_endpoints_trouble(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    async with answering(http(407)) as proxy:
        use(monkeypatch, proxy)
        async with opened(f"{scheme}://hooks.invalid/") as sink:
            with pytest.raises(SinkDownError, match=r"407.*check HTTPS_PROXY and its user") as caught:
                await send(sink, make_event())
    assert "open-sesame" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_the_endpoints_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda line: line.send(b"")) as gone:
        use(monkeypatch, gone)
    async with opened("http://hooks.invalid/") as sink:
        with pytest.raises(SinkDownError, match=r"no connection to the proxy 127\.0\.0\.1:\d+; check HTTPS_PROXY") as caught:
            await send(sink, make_event())
    assert "open-sesame" not in str(caught.value)


async def test_a_receiver_on_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(http(500)) as proxy, answering(http(204)) as receiver:
        use(monkeypatch, proxy)
        async with opened(receiver.url) as sink:
            assert await send(sink, make_event()) == [CONFIRMED]
        assert proxy.requests == []


async def test_a_probe_of_another_server_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(http(500)) as proxy, answering(http(204)) as probed:
        use(monkeypatch, proxy)
        async with opened("http://hooks.invalid/", probe_url=probed.url):
            assert [request.split()[0] for request in probed.requests] == [b"GET"]
        assert proxy.requests == []


async def test_a_probe_that_reaches_nobody_names_its_own_setting() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(SinkDownError, match=r"no connection to .*; check PROBE_URL"):
        async with opened("http://hooks.invalid/", probe_url=nowhere):
            pass
