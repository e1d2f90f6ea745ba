import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import orjson
import pytest

from bridge.errors import SinkDownError
from bridge.event import Event
from bridge.sinks import CONFIRMED, Outcome, Refused
from bridge.sinks.stdout import StdoutSettings, StdoutSink
from bridge.testing import MemorySink, make_event
from bridge.testing.contract import Rig, SinkContract

UNACCEPTABLE = "what nobody takes"


class MemoryRig(Rig):
    """What the memory sink keeps is its other side; that can't be frozen, as holding it back is what breaks its contract."""

    def __init__(self) -> None:
        self._sinks: list[MemorySink] = []
        self._trouble: SinkDownError | None = None

    def sink(self) -> MemorySink:
        sink = MemorySink(self._answer)
        sink.trouble = self._trouble
        self._sinks.append(sink)
        return sink

    def _answer(self, event: Event) -> Outcome:
        return Refused(event.body) if event.body == UNACCEPTABLE else CONFIRMED

    @property
    def _confirmed(self) -> Iterator[Event]:
        return (event for sink in self._sinks for event in sink.confirmed)

    async def held(self) -> Sequence[str]:
        return [event.id for event in self._confirmed]

    async def contents(self) -> Mapping[str, bytes]:
        return {event.id: event.structured() for event in self._confirmed}

    def unacceptable(self) -> Event:
        return make_event(UNACCEPTABLE)

    async def take_down(self) -> None:
        self._trouble = SinkDownError("taken down")
        for sink in self._sinks:
            sink.trouble = self._trouble

    async def bring_up(self) -> None:
        self._trouble = None
        for sink in self._sinks:
            sink.trouble = None


class FileRig(Rig):
    """Standard output goes into a file, which neither fails nor stops."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def sink(self) -> StdoutSink:
        return StdoutSink(StdoutSettings(), descriptor=self._descriptor)

    async def held(self) -> Sequence[str]:
        return [orjson.loads(line)["id"] for line in self._lines()]

    async def contents(self) -> Mapping[str, bytes]:
        return {orjson.loads(line)["id"]: line for line in self._lines()}

    def _lines(self) -> Sequence[bytes]:
        return self._path.read_bytes().split(b"\n")[:-1]

    def close(self) -> None:
        os.close(self._descriptor)


class PipeRig(Rig):
    """Standard output goes into a pipe; frozen, its reader doesn't read. A reader that goes is the end, and no outage."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(path, os.O_WRONLY)
        self._filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        self._read = bytearray()

    def sink(self) -> StdoutSink:
        return StdoutSink(StdoutSettings(), descriptor=self._writer)

    async def held(self) -> Sequence[str]:
        return [orjson.loads(line)["id"] for line in self._lines()]

    async def contents(self) -> Mapping[str, bytes]:
        return {orjson.loads(line)["id"]: line for line in self._lines()}

    def _lines(self) -> Sequence[bytes]:
        self._read_what_is_there()
        return [line for line in bytes(self._read).split(b"\n")[:-1] if line]

    def _read_what_is_there(self) -> None:
        while True:
            try:
                self._read += os.read(self._reader, 1 << 20)
            except BlockingIOError:
                return

    async def thaw(self) -> None:
        asyncio.get_running_loop().add_reader(self._reader, self._read_what_is_there)

    async def freeze(self) -> None:
        """Nothing more fits into the pipe: it is full of empty lines."""
        asyncio.get_running_loop().remove_reader(self._reader)
        for size in (4096, 1):
            while True:
                try:
                    os.write(self._filler, b"\n" * size)
                except BlockingIOError:
                    break

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._reader)
        for descriptor in (self._reader, self._writer, self._filler):
            os.close(descriptor)


class TestMemorySink(SinkContract):
    @pytest.fixture
    async def rig(self) -> MemoryRig:
        return MemoryRig()


class TestStdoutIntoAFile(SinkContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[FileRig]:
        rig = FileRig(tmp_path / "events")
        yield rig
        rig.close()


class TestStdoutIntoAPipe(SinkContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[PipeRig]:
        rig = PipeRig(tmp_path / "pipe")
        await rig.thaw()
        yield rig
        rig.close()
