"""Every secret setting there is, in a bridge in which all fails that can: what it says then, and what its objects say."""

import asyncio
import gc
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.emulator.server import Emulator
from bridge.loading import load
from bridge.service import Service
from bridge.settings import RunSettings
from bridge.sinks.kafka import KafkaSettings
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.variables import is_secret, settings_of
from bridge.watch.facts import Facts
from outside.command import PATIENCE_SECONDS, TOPIC, settings_for
from outside.waiting import until
from secrecy.plugin import NET
from webhook.receiver import Received, receiving

CLOSED = "127.0.0.1:9"
KEY = {
    "ROCKETMQ__ACCESS_KEY_SECRET": "hidden-access-key",
    "ROCKETMQ__SECURITY_TOKEN": "hidden-security-token",
}
TO_A_RECEIVER_THAT_REPEATS_ALL = {
    "SINK": "webhook",
    "WEBHOOK__URL": "{receiver}?key=hidden-query",
    "WEBHOOK__SIGNING_SECRET": f"whsec_{b64encode(b'a hidden signing secret').decode()}",
    "WEBHOOK__HEADERS": "X-Key: hidden-header",
    "WEBHOOK__AUTH_TOKEN": "hidden-bearer",
    "DEAD_LETTER__SINK": "kafka",
    "DEAD_LETTER__KAFKA__BOOTSTRAP_SERVERS": CLOSED,
    "DEAD_LETTER__KAFKA__TOPIC": "letters",
    "DEAD_LETTER__KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "DEAD_LETTER__KAFKA__SASL_USERNAME": "user",
    "DEAD_LETTER__KAFKA__SASL_PASSWORD": "hidden-sasl-password",
    "LEDGER__REDIS_URL": f"redis://user:hidden-redis-password@{CLOSED}/0",
}
TO_NOBODY = {
    "SINK": "kafka,webhook",
    "KAFKA__BOOTSTRAP_SERVERS": CLOSED,
    "KAFKA__TOPIC": "orders",
    "KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA__SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"http://{CLOSED}/token",
    "KAFKA__SASL_OAUTHBEARER_CLIENT_ID": "client",
    "KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": "hidden-kafka-client",
    "WEBHOOK__URL": f"http://{CLOSED}/",
    "WEBHOOK__AUTH_TOKEN_URL": f"http://{CLOSED}/token?key=hidden-token-query",
    "WEBHOOK__AUTH_CLIENT_ID": "client",
    "WEBHOOK__AUTH_CLIENT_SECRET": "hidden-webhook-client",
}
WITH_A_PASSWORD = {
    "SINK": "webhook",
    "WEBHOOK__URL": f"http://{CLOSED}/",
    "WEBHOOK__AUTH_USERNAME": "user",
    "WEBHOOK__AUTH_PASSWORD": "hidden-password",
}
OF_KEYS_ON_DISK = {"SSL_KEY_PASSWORD", "CLIENT_KEY_PASSWORD"}
"""They need a key that they fit; the tests of TLS have some."""


def repeat(received: Received) -> web.Response:
    """A receiver that logs what it is sent into its answer."""
    return web.Response(status=400, text=json.dumps([received.path, dict(received.headers)]))


@dataclass
class Failing:
    settings: Mapping[str, str]
    failed: Callable[[Facts], object]


CASES = {
    "repeated": Failing(TO_A_RECEIVER_THAT_REPEATS_ALL, lambda facts: facts.counts.refused),
    "unreachable": Failing(TO_NOBODY, lambda facts: all(sink.last_error for sink in facts.sinks.values())),
    "password": Failing(WITH_A_PASSWORD, lambda facts: facts.sinks["webhook"].last_error),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_whatever_fails_no_answer_no_log_and_no_object_shows_a_secret(case: Failing, tmp_path: Path) -> None:
    async with Emulator(access_key_secret=KEY["ROCKETMQ__ACCESS_KEY_SECRET"]) as emulator, receiving() as receiver:
        receiver.answer = repeat
        emulator.publish(TOPIC, "hello")
        chosen = {f"BRIDGE_{name}": text.format(receiver=receiver.url) for name, text in {**KEY, **case.settings}.items()}
        service = Service(load(RunSettings, environ={**settings_for(emulator), **chosen}, folder=tmp_path).settings)
        running = asyncio.create_task(service.run())
        await until(lambda: service.port is not None and bool(case.failed(service.facts)))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as session:
            for path in ("/", "/page.json", "/livez", "/readyz", "/healthz", "/metrics"):
                async with session.get(path) as response:
                    await response.read()
        ours = [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("bridge.")]
        for thing in ours:
            NET.look(f"in the repr of a {type(thing).__name__}", repr(thing))
        assert {"Service", "Client", "WebhookSink", "WebhookSettings"} <= {type(thing).__name__ for thing in ours}
        service.interrupt()
        service.interrupt()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running


def test_no_secret_setting_is_left_out() -> None:
    told = {_last(name) for settings in (KEY, *(case.settings for case in CASES.values())) for name in settings}
    models = (RunSettings, KafkaSettings, WebhookSettings)
    secret = {_last(name) for model in models for name, field in settings_of(model, "").items() if is_secret(field)}
    assert len(secret) > 10
    assert secret == told & secret | OF_KEYS_ON_DISK


def _last(name: str) -> str:
    return name.rpartition("__")[2]
