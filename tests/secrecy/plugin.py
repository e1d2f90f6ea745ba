"""Fails each test that gives a secret out: on a stream of this process or of a child, over HTTP, in a log, in an error's text.

Nothing is to be remembered for that. A secret is whatever becomes a SecretStr, or an access key, and what the environment of a
child says in a variable for one. What the bridge says to the broker, to sinks and to authorisation servers is left out: they
are told secrets on purpose.
"""

import asyncio.subprocess
import gc
import inspect
import re
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import BaseModel, SecretStr
from structlog import DropEvent
from structlog.testing import LogCapture

from bridge.errors import BridgeError
from bridge.rocketmq.credentials import Credentials
from bridge.sinks import Again, Refused, Sink
from bridge.watch.face import Face
from secrecy.net import Net

NET = Net()

_SECRET_VARIABLE = re.compile(r"BRIDGE_\w+(SECRET|PASSWORD|TOKEN|HEADERS|_URL)")
_OTHERWISE_PROVED = (
    "fuzz/test_oracles.py::",
    "outside/test_settings.py::test_what_is_printed_does_not_depend_on_a_secret",
)
"""The counter-proofs of another search for secrets, which break the code so that it shows one; and what holds for any text as a
secret, words of messages too."""
_FACE = re.compile(r"/(livez|readyz|healthz|metrics|page\.json)?")


# ---- what is secret --------------------------------------------------------------------------------------------------


def _of_settings(_result: None, secret: SecretStr, value: str) -> None:
    NET.is_told(value, lambda: _setting(value))


def _setting(value: str) -> str:
    """The setting that holds it, found among all that there are."""
    for model in [thing for thing in gc.get_objects() if isinstance(thing, BaseModel)]:
        for name, held in model:
            held_by_name = held if isinstance(held, Mapping) else {name: held}
            if any(isinstance(one, SecretStr) and one.get_secret_value() == value for one in held_by_name.values()):
                return f"{type(model).__name__}.{name}"
    return "a SecretStr"


def _of_an_access_key(_result: None, key: Credentials, **_named: Any) -> None:
    NET.is_told(key.access_key_secret, lambda: "Credentials.access_key_secret")
    NET.is_told(key.security_token or "", lambda: "Credentials.security_token")


def _of_a_sink(_result: None, _sink: Sink, settings: BaseModel | None) -> None:
    for name, value in settings or ():
        if isinstance(value, str) and "://" in value:  # what stands before the @, and in the query
            NET.is_told(value, partial("{}.{}".format, type(settings).__name__, name))


def _of_a_child(_result: None, *_given: Any, env: Mapping[str, str] | None = None, **_named: Any) -> None:
    for name, value in (env or {}).items():
        if _SECRET_VARIABLE.fullmatch(name):
            NET.is_told(value, partial(str, name))


# ---- what is given out -----------------------------------------------------------------------------------------------


def _captured(result: Any, _fixture: object) -> None:
    NET.look("on stdout", result.out)
    NET.look("on stderr", result.err)


def _logged(_result: None, _log: LogCapture, _logger: object, method: str, line: Mapping[str, Any]) -> None:
    NET.look("in the log", f"{method} {dict(line)}")


def _read_from_a_pipe(_result: None, protocol: object, fd: int, data: bytes) -> None:
    NET.look_at_more(f"on a child's {'stdout' if fd == 1 else 'stderr'}", (protocol, fd), data)


def _communicated(result: tuple[Any, Any], *_given: Any, **_named: Any) -> None:
    for channel, text in zip(("on a child's stdout", "on a child's stderr"), result, strict=True):
        NET.look(channel, text or "")


def _served(response: web.Response, _face: Face, request: web.BaseRequest) -> None:
    NET.look(f"at {request.path}", f"{response.headers}")
    NET.look(f"at {request.path}", str(response.text))


def _fetched(body: bytes, response: aiohttp.ClientResponse) -> None:
    if _FACE.fullmatch(response.url.path):
        NET.look(f"at {response.url.path}", body)


def _raised(_result: None, error: BridgeError, *texts: object, **_named: Any) -> None:
    NET.look(f"in a {type(error).__name__}", " ".join(map(str, texts)))


def _answered(_result: None, outcome: Refused | Again, *_given: Any, **_named: Any) -> None:
    NET.look(f"in the reason of a {type(outcome).__name__}", outcome.reason)


_TAPS: Sequence[tuple[Any, str, Callable[..., None]]] = (
    (SecretStr, "__init__", _of_settings),
    (Credentials, "__init__", _of_an_access_key),
    (Sink, "__init__", _of_a_sink),
    (subprocess.Popen, "__init__", _of_a_child),
    (pytest.CaptureFixture, "readouterr", _captured),
    (LogCapture, "__call__", _logged),
    (asyncio.subprocess.SubprocessStreamProtocol, "pipe_data_received", _read_from_a_pipe),
    (subprocess.Popen, "communicate", _communicated),
    (Face, "_answer", _served),
    (aiohttp.ClientResponse, "read", _fetched),
    (BridgeError, "__init__", _raised),
    (Refused, "__init__", _answered),
    (Again, "__init__", _answered),
)


def _tap(method: Callable[..., Any], look: Callable[..., None]) -> Callable[..., Any]:
    """The method, with somebody who is told its result and its arguments."""

    @wraps(method)
    def tapped(*given: Any, **named: Any) -> Any:
        try:
            result = method(*given, **named)
        except DropEvent:  # how a LogCapture returns
            look(None, *given, **named)
            raise
        look(result, *given, **named)
        return result

    @wraps(method)
    async def tapped_coroutine(*given: Any, **named: Any) -> Any:
        result = await method(*given, **named)
        look(result, *given, **named)
        return result

    return tapped_coroutine if inspect.iscoroutinefunction(method) else tapped


# ---- pytest ----------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Listen everywhere, until the end."""
    patch = pytest.MonkeyPatch()
    for owner, name, look in _TAPS:
        patch.setattr(owner, name, _tap(getattr(owner, name), look))
    config.add_cleanup(patch.undo)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Each test has secrets of its own."""
    NET.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test is over, it has failed if anything was found."""
    report = yield
    if report.when == "teardown":
        for section, text in report.sections:
            NET.look(f"in its {section.lower()}", text)
        if NET.leaks and report.passed and not any(name in report.nodeid for name in _OTHERWISE_PROVED):
            report.outcome = "failed"
            report.longrepr = "\n".join([f"{report.nodeid} gave a secret out:", *sorted(NET.leaks)])
    return report
