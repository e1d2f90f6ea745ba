"""Tests that give a secret out, each in its own way: none of them may pass. They are not collected by themselves."""

import asyncio
import json
import logging
import subprocess
import sys
from base64 import b64encode
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel, SecretStr
from structlog import get_logger
from structlog.testing import capture_logs

from bridge.errors import SinkDownError
from bridge.rocketmq.credentials import Credentials
from bridge.sinks import Refused
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.watch.face import Face
from bridge.watch.facts import Facts

VALUE = "corréct horse/battery+"
CHILD = {"BRIDGE_WEBHOOK__HEADERS": f"X-Key: {VALUE}", "PYTHONIOENCODING": "utf-8"}
IN_PIECES = f"""
import sys, time
sys.stderr.write({VALUE[:9]!r})
sys.stderr.flush()
time.sleep(0.2)
sys.stderr.write({VALUE[9:]!r})
"""


class Settings(BaseModel):
    password: SecretStr


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate({"password": VALUE})


def test_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """The one that passes."""
    sys.stdout.write(f"{settings!r}, corréct horse\n")
    sys.stdout.write(f"{settings!r}, {capsys.readouterr()}\n")


def test_stdout(settings: Settings) -> None:
    sys.stdout.write(f"the password is {settings.password.get_secret_value()}\n")


def test_what_the_test_reads(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    sys.stderr.write(json.dumps(VALUE))
    capsys.readouterr()


def test_logging(settings: Settings) -> None:
    logging.getLogger("a.library").warning("GET http://host/?key=%s", quote(VALUE, safe=""))


def test_structlog(settings: Settings) -> None:
    with capture_logs():
        get_logger().info("connecting", url=f"redis://:{VALUE}@host")


def test_error(settings: Settings) -> None:
    SinkDownError(f"it was sent {b64encode(f'user:{VALUE}'.encode()).decode()}")


def test_reason() -> None:
    Credentials(access_key_id="AKID", access_key_secret=VALUE)
    Refused(f"<p>{VALUE}</p>")


def test_url() -> None:
    WebhookSink(WebhookSettings.model_validate({"url": f"http://host/?key={quote(VALUE, safe='')}"}))
    sys.stdout.write(VALUE)


async def test_face(settings: Settings) -> None:
    page = {"/": lambda _: web.Response(text=VALUE)}
    async with (
        Face(Facts(["kafka"]), host="127.0.0.1", port=0, labels={}, page=page) as face,
        aiohttp.request("GET", f"http://127.0.0.1:{face.port}/"),
    ):
        pass


def test_child() -> None:
    program = "import os; print(os.environ['BRIDGE_WEBHOOK__HEADERS'][7:])"
    subprocess.run([sys.executable, "-c", program], env=CHILD, capture_output=True, check=True)


async def test_child_in_pieces() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", IN_PIECES, env=CHILD, stderr=asyncio.subprocess.PIPE)
    await child.communicate()
