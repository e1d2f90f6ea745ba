"""Sinks are opened as `bridge run` opens them; what is wrong with one says nothing of the others."""

import asyncio
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from bridge.check import sinks
from bridge.check.findings import Status, found
from bridge.emulator.server import Emulator
from bridge.errors import SinkDownError
from bridge.testing import MemorySink
from bridge.testing.memory import MemorySettings
from check.looking import closed_port, looked, statuses
from webhook.receiver import answers, receiving

GROUP_ALONE = {"group": "unknown"}


async def test_a_kafka_that_is_down(emulator: Emulator, tmp_path: Path) -> None:
    port = closed_port()
    looked_at = await looked(
        emulator, tmp_path, sink="kafka,stdout", kafka__topic="orders", kafka__bootstrap_servers=f"127.0.0.1:{port}"
    )
    assert statuses(looked_at) == {**GROUP_ALONE, "sink.kafka": "wrong"}
    pattern = (
        rf"Kafka at 127\.0\.0\.1:{port}: (Connection refused|Connect call failed .*): see BOOTSTRAP_SERVERS .*BRIDGE_KAFKA__"
    )
    assert re.search(pattern, looked_at["sink.kafka"].text)


async def test_a_webhook_is_asked_and_sent_nothing(emulator: Emulator, tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = answers(405)
        looked_at = await looked(
            emulator, tmp_path, sink="webhook", webhook__url=f"{receiver.url}?key=hush", webhook__headers='{"x-key": "hush"}'
        )
    assert statuses(looked_at) == GROUP_ALONE
    assert [(request.method, request.body) for request in receiver.requests] == [("OPTIONS", b"")]
    assert "x-key" not in receiver.last.headers
    assert re.search("answers OPTIONS with 405; whether it takes events", looked_at["sink.webhook"].text)
    assert "hush" not in str(looked_at)


async def test_a_webhook_whose_certificate_nobody_vouches_for(emulator: Emulator, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with receiving(tls=context) as receiver:
        looked_at = await looked(emulator, tmp_path, sink="webhook", webhook__url=receiver.url)
    assert statuses(looked_at) == {**GROUP_ALONE, "sink.webhook": "wrong"}
    assert re.search(r"certificate of .* is not trusted .*see CA_FILE .*BRIDGE_WEBHOOK__", looked_at["sink.webhook"].text)
    assert receiver.requests == []


async def test_a_webhook_that_its_probe_says_is_down(emulator: Emulator, tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = answers(503)
        looked_at = await looked(emulator, tmp_path, sink="webhook", webhook__url=receiver.url, webhook__probe_url=receiver.url)
    assert statuses(looked_at) == {**GROUP_ALONE, "sink.webhook": "wrong"}
    assert "answered 503" in looked_at["sink.webhook"].text


async def test_dead_letters_have_a_sink_of_their_own(emulator: Emulator, tmp_path: Path) -> None:
    looked_at = await looked(
        emulator, tmp_path, dead_letter__sink="webhook", dead_letter__webhook__url=f"http://127.0.0.1:{closed_port()}/"
    )
    assert statuses(looked_at) == {**GROUP_ALONE, "dead_letter.webhook": "wrong"}
    assert re.search("no connection.*BRIDGE_DEAD_LETTER__WEBHOOK__", looked_at["dead_letter.webhook"].text)


async def test_settings_that_forbid_order(emulator: Emulator, tmp_path: Path) -> None:
    looked_at = await looked(
        emulator, tmp_path, sink="kafka", rocketmq__ordered="true",
        kafka__topic="orders", kafka__key="id", kafka__bootstrap_servers="127.0.0.1:1",
    )  # fmt: skip
    assert re.search("KEY: in order, the key is the sharding key", looked_at["sink.kafka"].text)


class Recorded(MemorySink):
    """A plugin that does as it is told; `calls` is what was asked of it."""

    def __init__(self, behave: Callable[[], object]) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._behave = behave

    async def open(self) -> None:
        self.calls.append("open")
        if self._behave() == "hang":
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.calls.append("close")
        raise OSError("it won't close")


def fail(problem: Exception) -> Callable[[], object]:
    def behave() -> object:
        raise problem

    return behave


@pytest.mark.parametrize(
    ("behave", "status", "says"),
    [
        (lambda: None, Status.OK, "opened"),
        (fail(SinkDownError("it is away")), Status.WRONG, r"it is away \(its settings: BRIDGE_PLUGIN__…\)"),
        (fail(KeyError("x")), Status.WRONG, "KeyError: 'x'; this is a mistake in the code"),
        (lambda: "hang", Status.WRONG, "no answer within 0.1 s; see to BRIDGE_PLUGIN__…"),
    ],
)
async def test_a_plugin_is_opened_and_closed_whatever_it_does(
    monkeypatch: pytest.MonkeyPatch, behave: Callable[[], object], status: Status, says: str
) -> None:
    plugin = Recorded(behave)
    monkeypatch.setattr(sinks, "find", lambda _: lambda _: plugin)
    look = sinks.try_out("plugin", MemorySettings(), ordered=False, variables="BRIDGE_PLUGIN__…")
    finding = await found("sink.plugin", look, setting="BRIDGE_PLUGIN__…", seconds=0.1)
    assert finding.status is status
    assert re.fullmatch(f"{says}.*", finding.text)
    assert plugin.calls == ["open", "close"]
