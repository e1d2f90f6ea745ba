"""The official RocketMQ HTTP SDKs as child processes: unmodified, each behind one small program in its own language.

A driver reads one JSON object a line: an operation `op`, whom to talk to (`endpoint`, `accessKeyId`, `accessKeySecret`,
`securityToken`, `instanceId`, `topic`, `group`), and what the operation takes. It answers each with one line:
`{"returned": …}` with what the SDK returned, or `{"raised": {…}}` with what it threw.

- `publish` takes `body`, `tag`, `keys`, `shardingKey`, `properties`, `startDeliverTime` (milliseconds since the epoch)
  and `transCheckImmunityTime` (seconds; makes it a half message), and returns `messageId`, `bodyMd5`, `receiptHandle`.
- `consume`, `consumeOrderly` and `consumeHalf` take `batch` [16], `wait` in seconds [none] and, but for half messages,
  `tag`, and return a list of messages. On an empty topic Java returns null, and the others throw.
- `ack` takes `handles`, `commit` and `rollback` take a `handle`; they return null, or, of Node, a `code` and the `items`
  that failed.

A message has `messageId`, `body`, `bodyMd5`, `receiptHandle`, `publishTime`, `firstConsumeTime`, `nextConsumeTime`,
`consumedTimes`, `tag`, `keys`, `shardingKey` and `properties`, in the types that the SDK gives (Node: numbers are text),
and with `properties` as the SDK leaves them (Node moves the reserved ones out).
"""

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal, TypeAlias

from sdks.install import Sdk, launch_command

Poll: TypeAlias = Literal["consume", "consumeOrderly", "consumeHalf"]
Settlement: TypeAlias = Literal["ack", "commit", "rollback"]
Operation: TypeAlias = Literal["publish", Poll, Settlement]

_CALL_TIMEOUT_SECONDS = 60.0
_EXIT_TIMEOUT_SECONDS = 5.0
_LINE_BYTES = 256 * 1024 * 1024
"""Room for the longest answer: 16 bodies of 4 MB, three times as long when every character is escaped."""
_STDERR_BYTES_SHOWN = 4000


class SdkError(Exception):
    """What an SDK threw at its caller."""

    def __init__(self, sdk: Sdk, raised: Mapping[str, Any]) -> None:
        super().__init__(f"{sdk}: {raised['type']} {raised['code']}: {raised['message']}")
        self.type: str = raised["type"]
        """The class of the exception, without its package."""
        self.code: str | None = raised["code"]
        """The error's code; Python calls it `type`, Node `Code`, Java `getErrorCode()`."""
        self.message: str = raised["message"]
        self.request_id: str | None = raised["requestId"]
        self.items: list[dict[str, str]] | None = raised["items"]
        """Of a failed ack, `receiptHandle`, `code` and `message` of each handle; Python's `sub_errors`, Java's map."""


class DriverDiedError(Exception):
    """A driver ended or fell silent in the middle of a call; the text has the end of what it wrote on stderr."""


@dataclass(frozen=True)
class Driver:
    """An SDK's process, and what every call tells it unless the call itself says otherwise.

    Calls of one process are carried out one after the other; for a poll that waits while something is published, use two.
    """

    sdk: Sdk
    _process: "_Process"
    _fields: Mapping[str, object] = field(default_factory=dict)

    def using(self, **fields: object) -> "Driver":
        """The same process with other fields by default, such as `topic`, `group`, or `endpoint`."""
        return replace(self, _fields={**self._fields, **fields})

    @property
    def ended(self) -> bool:
        """Whether the process is gone, as after a call that was cut off."""
        return self._process.ended

    async def call(self, op: Operation, **fields: object) -> Any:
        """Let the SDK do something, and return what it returned; see the list at the top of this module.

        Raises SdkError for what the SDK throws, and DriverDiedError when no answer came within a minute.
        """
        reply = await self._process.exchange({"op": op, **self._fields, **fields})
        if "raised" in reply:
            raise SdkError(self.sdk, reply["raised"])
        return reply["returned"]

    async def poll(self, op: Poll = "consume", **fields: object) -> list[dict[str, Any]]:
        """The messages of one poll: none where the SDK, each in its own way, says that there are none."""
        try:
            messages: list[dict[str, Any]] | None = await self.call(op, **fields)
        except SdkError as error:
            if error.code != "MessageNotExist":
                raise
            return []
        return messages or []

    async def settle(self, op: Settlement = "ack", **fields: object) -> dict[str, str]:
        """Ack, commit or roll back: the error code of each handle that failed, in whichever way the SDK says so."""
        try:
            answer = await self.call(op, **fields)
        except SdkError as error:
            if error.items is None:
                raise
            items = error.items
        else:
            items = (answer or {}).get("items") or []
        return {item["receiptHandle"]: item["code"] for item in items}


@contextlib.asynccontextmanager
async def start_driver(
    sdk: Sdk,
    url: str,
    *,
    access_key_id: str = "AKID",
    access_key_secret: str = "SECRET",
    security_token: str | None = None,
    instance_id: str | None = None,
) -> AsyncIterator[Driver]:
    """Start the program that drives an SDK (and install the SDK, the first time) against a broker's URL.

    Raises SdkMissingError, which says what to install.
    """
    command, environment = await asyncio.to_thread(launch_command, sdk)
    fields = {
        "endpoint": url,
        "accessKeyId": access_key_id,
        "accessKeySecret": access_key_secret,
        "securityToken": security_token,
        "instanceId": instance_id,
    }
    async with _Process.started(command, environment) as process:
        yield Driver(sdk, process, fields)


class _Process:
    """One program, one line in, one line out."""

    def __init__(self, child: asyncio.subprocess.Process, stderr: BinaryIO) -> None:
        self._child = child
        self._stderr = stderr
        self._turn = asyncio.Lock()
        self._killed = False

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator["_Process"]:
        with tempfile.TemporaryFile() as stderr:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                limit=_LINE_BYTES,
            )
            try:
                yield cls(child, stderr)
            finally:
                await _ended(child)

    async def exchange(self, request: Mapping[str, object]) -> dict[str, Any]:
        async with self._turn:
            try:
                async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                    line = await self._answer(request)
            except TimeoutError as error:
                raise self._died(f"no answer within {_CALL_TIMEOUT_SECONDS:g} s") from error
            except OSError as error:
                raise self._died("it ended before the call") from error
            except asyncio.CancelledError:
                self._kill()  # its answer would otherwise be taken for the next call's
                raise
            if not line.endswith(b"\n"):
                raise self._died("it ended during the call")
            reply: dict[str, Any] = json.loads(line)
            return reply

    async def _answer(self, request: Mapping[str, object]) -> bytes:
        # Escaped to ASCII, both ways, so that no encoding or newline of a language stands between us and a body.
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(request).encode("ascii") + b"\n")
        await self._child.stdin.drain()
        return await self._child.stdout.readline()

    def _died(self, why: str) -> DriverDiedError:
        self._kill()
        # The child writes where this file stands, so it is read without moving there.
        end = os.fstat(self._stderr.fileno()).st_size
        written = os.pread(self._stderr.fileno(), _STDERR_BYTES_SHOWN, max(0, end - _STDERR_BYTES_SHOWN))
        return DriverDiedError(f"{why}; on stderr:\n{written.decode(errors='replace')}")

    @property
    def ended(self) -> bool:
        return self._killed or self._child.returncode is not None

    def _kill(self) -> None:
        self._killed = True
        if self._child.returncode is None:
            self._child.kill()


async def _ended(child: asyncio.subprocess.Process) -> None:
    """A driver ends when its input does; one that doesn't is killed."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(_EXIT_TIMEOUT_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
