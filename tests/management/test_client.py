"""What our client makes of the management API's answers, the official SDK in between (protocol.md 8.3, 8.4)."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

from bridge.emulator.server import Emulator
from bridge.errors import BrokenAnswerError, FixSettingsError, MissingExtraError, ThrottledError, TryAgainError
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.management import ManagementApi, endpoint_for
from bridge.watch.consumer import MAX_CONNECTIONS, Backlog, Connection, Listed
from server_process import free_port

GROUP, INSTANCE = "GID_a", "MQ_INST_1"


class Key:
    """The credentials in force."""

    def __init__(self, **changes: str) -> None:
        self.now = Credentials(**{"access_key_id": "AKID", "access_key_secret": "SECRET", **changes})  # type: ignore[arg-type] # all of them are texts

    def __call__(self) -> Credentials:
        return self.now


@asynccontextmanager
async def asking(endpoint: str, key: Key | None = None, **settings: Any) -> AsyncIterator[ManagementApi]:
    api = ManagementApi(endpoint, key or Key(), group=GROUP, instance=INSTANCE, **settings)
    yield api
    api.close()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server of 127.0.0.1 shows, and the CA to trust."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    return tls, folder / "ca.pem"


def listing(*items: Any) -> dict[str, Any]:
    return {"Data": {"MessageModel": "CLUSTERING", "ConnectionList": {"ConnectionDo": list(items)}}}


DOCUMENTED = {"Version": "V4_3_6", "ClientAddr": "30.5.121.1", "Language": "JAVA", "ClientId": "30.5.121.1@24813#1"}


async def test_who_is_connected_is_told_with_all_four_fields(emulator: Emulator) -> None:
    emulator.faults.management_answers = {
        "OnsConsumerGetConnection": listing(DOCUMENTED, {}, {"ClientId": 7, "Language": None})
    }
    async with asking(emulator.url) as api:
        assert await api.connections() == Listed(
            connections=(
                Connection(client_id="30.5.121.1@24813#1", address="30.5.121.1", language="JAVA", version="V4_3_6"),
                Connection(client_id="", address="", language="", version=""),
                Connection(client_id="7", address="", language="", version=""),
            ),
            number=3,
            model="CLUSTERING",
        )


async def test_of_very_many_the_first_are_kept_and_all_are_counted(emulator: Emulator) -> None:
    item = {"ClientId": f"a{'b' * 1000}\nc"}
    emulator.faults.management_answers = {"OnsConsumerGetConnection": listing(*[item] * (MAX_CONNECTIONS + 1))}
    async with asking(emulator.url) as api:
        listed = await api.connections()
    assert (len(listed.connections), listed.number) == (MAX_CONNECTIONS, MAX_CONNECTIONS + 1)
    assert len(listed.connections[0].client_id) < 300


@pytest.mark.parametrize("answer", [{}, {"Data": {}}, {"Data": {"ConnectionList": {}}}, listing()])
async def test_every_way_to_list_nobody_is_understood(emulator: Emulator, answer: dict[str, Any]) -> None:
    emulator.faults.management_answers = {"OnsConsumerGetConnection": answer}
    async with asking(emulator.url) as api:
        assert (await api.connections()).number == 0


async def test_nobody_online_is_an_answer_and_no_error(emulator: Emulator) -> None:
    async with asking(emulator.url) as api:
        assert await api.connections() == Listed()


async def test_how_far_the_group_is_behind(emulator: Emulator) -> None:
    answer = {"Data": {"Online": True, "TotalDiff": 12, "DelayTime": 34_567, "LastTimestamp": 1, "ConsumeTps": 0.5}}
    emulator.faults.management_answers = {"OnsConsumerAccumulate": answer}
    async with asking(emulator.url) as api:
        assert await api.backlog() == Backlog(online=True, messages=12, delay_seconds=34.567)
        emulator.faults.management_answers = {"OnsConsumerAccumulate": {"Data": {"TotalDiff": "many", "Online": 1}}}
        assert await api.backlog() == Backlog(online=None, messages=None, delay_seconds=None)


@pytest.mark.parametrize(
    ("code", "status", "error", "words"),
    [
        ("Throttling.User", 400, ThrottledError, "BRIDGE_MANAGEMENT__INTERVAL_SECONDS"),
        ("Throttling", 503, ThrottledError, "BRIDGE_MANAGEMENT__INTERVAL_SECONDS"),
        ("NoPermission", 403, FixSettingsError, "allow the RAM action mq:QueryConsumerConnection"),
        ("AUTH_RESOURCE_OWNER_ERROR", 400, FixSettingsError, "allow the RAM action mq:QueryConsumerConnection"),
        ("InvalidSecurityToken.Expired", 400, FixSettingsError, "__SECURITY_TOKEN"),
        ("InvalidTimeStamp.Expired", 400, FixSettingsError, "clock"),
        ("INSTANCE_NOT_FOUND", 400, FixSettingsError, "BRIDGE_ROCKETMQ__INSTANCE_ID"),
        ("ONS_SYSTEM_ERROR", 400, TryAgainError, "ONS_SYSTEM_ERROR"),
        ("ServiceUnavailable", 503, TryAgainError, "503"),
        ("InternalError", 500, TryAgainError, "500"),
    ],
)
async def test_a_refusal_says_what_to_do(
    emulator: Emulator, code: str, status: int, error: type[Exception], words: str
) -> None:
    emulator.faults.management_error, emulator.faults.management_error_status = code, status
    async with asking(emulator.url) as api:
        with pytest.raises(error, match=words) as refused:
            await api.connections()
    assert type(refused.value) is error


async def test_throttling_is_known_by_its_header_too(emulator: Emulator) -> None:
    emulator.faults.management_error, emulator.faults.management_retry_after_ms = "Busy", 2000
    async with asking(emulator.url) as api:
        with pytest.raises(ThrottledError):
            await api.backlog()


@asynccontextmanager
async def answering(body: bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that has one answer for everybody: its address, and the request lines that it has seen."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode().splitlines()[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


@pytest.mark.parametrize("answer", [b"", b"[]", b'"x"', b"{}", b"<html>", b'{"RequestId":"x","Data":[1]}'])
async def test_what_is_no_answer_is_not_taken_for_one(answer: bytes) -> None:
    async with answering(answer) as (address, _), asking(f"http://{address}") as api:
        with pytest.raises(BrokenAnswerError):
            await api.connections()
        with pytest.raises(BrokenAnswerError):
            await api.backlog()


async def test_over_tls_the_certificate_is_checked_against_the_ca_that_was_given(tmp_path: Path) -> None:
    tls, ca_file = certified(tmp_path)
    async with answering(b'{"RequestId":"x","Data":{"TotalDiff":3}}', tls=tls) as (address, _):
        async with asking(f"https://{address}", ca_file=ca_file) as api:
            assert (await api.backlog()).messages == 3
        async with asking(f"https://{address}") as api:
            with pytest.raises(TryAgainError, match="CERTIFICATE_VERIFY_FAILED"):
                await api.backlog()


async def test_the_way_leads_through_the_proxy_that_was_given() -> None:
    async with (
        answering(b'{"RequestId":"x","Data":{"TotalDiff":3}}') as (proxy, seen),
        asking("http://ons.cn-hangzhou.aliyuncs.com", proxy=f"http://{proxy}") as api,
    ):
        assert (await api.backlog()).messages == 3
    assert seen == [f"POST http://ons.cn-hangzhou.aliyuncs.com/?GroupId={GROUP}&InstanceId={INSTANCE} HTTP/1.1"]


async def test_without_one_that_was_given_the_environment_is_not_asked_for_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives one has looked there, and at NO_PROXY, which the SDK doesn't heed."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    tls, ca_file = certified(tmp_path)
    answer = b'{"RequestId":"x","Data":{"TotalDiff":3}}'
    async with answering(answer, tls=tls) as (address, _), asking(f"https://{address}", ca_file=ca_file) as api:
        assert (await api.backlog()).messages == 3
    async with answering(answer) as (address, _), asking(f"http://{address}") as api:
        assert (await api.backlog()).messages == 3


async def test_garbage_of_the_emulator_is_no_answer_either(emulator: Emulator) -> None:
    emulator.faults.management_garbage = 1
    async with asking(emulator.url) as api:
        with pytest.raises(BrokenAnswerError, match="no answer of the management API"):
            await api.connections()


async def test_no_answer_ends_in_time(emulator: Emulator) -> None:
    async with asking(emulator.url) as api:
        await api.connections()  # the first call pays for the SDK's import, which may take longer than the call below has
    emulator.faults.management_stalled = 1
    async with asking(emulator.url, call_seconds=3) as api:
        with pytest.raises(TryAgainError, match=r"within 3 s"):
            await api.connections()
        emulator.faults.management_stalled = 0
        assert await api.connections() == Listed()  # the next call is as good as ever


async def test_no_connection_is_said_in_words(emulator: Emulator) -> None:
    await emulator.close()
    async with asking(emulator.url) as api:
        with pytest.raises(TryAgainError, match=r"no answer from 127\.0\.0\.1:"):
            await api.connections()


async def test_a_rotated_key_is_used_at_the_next_call(emulator: Emulator) -> None:
    key = Key()
    async with asking(emulator.url, key) as api:
        await api.connections()
        emulator.access_key.key_id, emulator.access_key.secret = "NEW", "NEWSECRET"
        with pytest.raises(FixSettingsError, match="BRIDGE_ROCKETMQ__ACCESS_KEY_ID"):
            await api.connections()
        key.now = Credentials(access_key_id="NEW", access_key_secret="NEWSECRET", security_token="token")
        assert await api.connections() == Listed()


async def test_the_loop_turns_while_the_sdk_blocks(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its import does, and making a TLS context, and whatever a future version comes up with."""
    blocking, released = threading.Event(), threading.Event()

    def block(name: str) -> None:
        blocking.set()
        released.wait(10)
        raise ImportError(name)

    api = ManagementApi(emulator.url, Key(), group=GROUP, instance=INSTANCE, call_seconds=2)
    monkeypatch.setattr("bridge.rocketmq.management.importlib", SimpleNamespace(import_module=block))
    asked = asyncio.create_task(api.connections())
    assert await asyncio.to_thread(blocking.wait, 10)
    assert not asked.done()
    async with asyncio.timeout(10):
        with pytest.raises(TryAgainError, match=r"within 2 s"):
            await asked
    released.set()
    api.close()


def test_the_extra_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    without = SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None))
    monkeypatch.setattr("bridge.rocketmq.management.importlib", without)
    with pytest.raises(MissingExtraError, match=r"rocketmq-bridge\[management\]"):
        ManagementApi("http://localhost", Key(), group=GROUP, instance=None)


@pytest.mark.parametrize(
    ("endpoint", "region", "url"),
    [
        (None, "cn-hangzhou", "https://ons.cn-hangzhou.aliyuncs.com"),
        (None, "cn-wuhan", "https://ons.cn-wuhan.aliyuncs.com"),  # which the SDK's own map sends elsewhere
        ("ons-vpc.cn-hangzhou.aliyuncs.com", "cn-wuhan", "https://ons-vpc.cn-hangzhou.aliyuncs.com"),
        ("http://127.0.0.1:8088", None, "http://127.0.0.1:8088"),
    ],
)
def test_the_place_is_what_was_set_or_that_of_the_region(endpoint: str | None, region: str | None, url: str) -> None:
    assert endpoint_for(endpoint=endpoint, region=region) == url


def test_without_a_region_nobody_knows_whom_to_ask() -> None:
    with pytest.raises(FixSettingsError, match="BRIDGE_MANAGEMENT__REGION is not set"):
        endpoint_for(endpoint=None, region=None)
