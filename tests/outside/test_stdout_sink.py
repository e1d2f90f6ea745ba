import asyncio
import fcntl
import os
import struct
import termios
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import orjson
import pytest

from bridge.errors import SinkGoneError
from bridge.event import BYTES, CLOUDEVENTS, ENVELOPES, JSON, TEXT, DataForm, Event, Origin
from bridge.sinks import CONFIRMED, Again, Outcome, Unknown
from bridge.sinks.stdout import CLOSE_SECONDS, StdoutSettings, StdoutSink
from outside.waiting import until

MEBIBYTE = 1024 * 1024
SOON, NOW = 60.0, 0.0
"""Deadlines, in seconds from now: one that no test reaches, and one that is there."""


def event(body: str | bytes, *, form: DataForm = DataForm.TEXT) -> Event:
    content = {DataForm.JSON: JSON, DataForm.TEXT: TEXT, DataForm.BASE64: BYTES}[form]
    attributes = {"specversion": "1.0", "source": "/s", "type": "t", "datacontenttype": content}
    return Event(
        id=f"{hash(body):X}",
        attributes=attributes,
        body=body,
        size=len(body),
        form=form,
        properties=MappingProxyType({}),
        origin=Origin(topic="t", group="GID_g"),
        envelope=CLOUDEVENTS,
    )


def line(one: Event) -> bytes:
    return one.structured() + b"\n"


@dataclass
class Pipe:
    """A sink that writes into a pipe, and the pipe's other end."""

    reader: int
    writer: int
    sink: StdoutSink
    open: bool = field(default=True)

    async def send(self, *events: Event, within: float = SOON) -> list[Outcome]:
        return list(await self.sink.send(events, asyncio.get_running_loop().time() + within))

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes, as soon as they are there."""
        return await asyncio.to_thread(self._read, size)

    def _read(self, size: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < size:
            chunk = os.read(self.reader, size - len(chunks))
            assert chunk, "the pipe was closed"
            chunks += chunk
        return bytes(chunks)

    @property
    def unread(self) -> int:
        """How many bytes stand in the pipe."""
        return int(struct.unpack("i", fcntl.ioctl(self.reader, termios.FIONREAD, b"\0\0\0\0"))[0])

    @property
    def room(self) -> int:
        return fcntl.fcntl(self.reader, fcntl.F_GETPIPE_SZ)

    async def blocked(self) -> None:
        """Wait until the pipe is full, so that the writer waits for its reader."""
        await until(lambda: self.unread > self.room - 4096)

    def close_reader(self) -> None:
        self.open = False
        os.close(self.reader)


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    reader, writer = os.pipe()
    pipe = Pipe(reader, writer, StdoutSink(StdoutSettings(), descriptor=writer))
    await pipe.sink.open()
    yield pipe
    if pipe.open:
        pipe.close_reader()  # which ends a write that is still blocked
    await pipe.sink.close()
    os.close(writer)


async def test_an_event_is_one_line_and_keeps_its_bytes_but_for_line_breaks(pipe: Pipe) -> None:
    events = [
        event('{"a":\r\n 1.10,\r"b": ["x\\r\\ny",\n12345678901234567890123]}', form=DataForm.JSON),
        event("two\r\nlines, and \u2028 a third"),
    ]
    assert await pipe.send(*events) == [CONFIRMED, CONFIRMED]
    json, text, end = (await pipe.read(pipe.unread)).split(b"\n")
    assert json.endswith(b'"data":{"a":   1.10, "b": ["x\\r\\ny", 12345678901234567890123]}}')
    assert b"\r" not in json + text
    assert orjson.loads(text)["data"] == events[1].body
    assert end == b""


async def test_a_body_alone_is_one_line_and_loses_nothing(pipe: Pipe) -> None:
    written = [
        (b"plain", event("plain")),
        (b'"two\\r\\nlines"', event("two\r\nlines")),
        (b'"/wo="', event(b"\xff\n", form=DataForm.BASE64)),
        (b'{"a":  1}', event('{"a":\r\n1}', form=DataForm.JSON)),
    ]
    for line, one in written:
        assert await pipe.send(replace(one, envelope=ENVELOPES["body"])) == [CONFIRMED]
        assert await pipe.read(pipe.unread) == line + b"\n"


async def test_an_event_is_confirmed_when_its_line_is_out_whole_and_not_before(pipe: Pipe) -> None:
    big = event("x" * 4 * MEBIBYTE)
    sending = asyncio.create_task(pipe.send(big))
    await pipe.blocked()
    seen = await pipe.read(len(line(big)) - pipe.room - 1)  # one byte more than the pipe can hold is still to come
    await pipe.blocked()
    assert not sending.done()
    seen += await pipe.read(1 + pipe.room)
    assert await sending == [CONFIRMED]
    assert seen == line(big)


async def test_while_the_reader_blocks_what_is_begun_is_unknown_and_what_is_not_is_again(pipe: Pipe) -> None:
    begun, waiting, later = event("b" * MEBIBYTE), event("never seen"), event("later")
    sending = asyncio.create_task(pipe.send(begun, begun, within=1.0))
    await pipe.blocked()
    assert await pipe.send(waiting, within=0.05) == [Again("stdout is blocked by its reader")]
    answers = await sending
    assert [type(answer) for answer in answers] == [Unknown, Unknown]
    assert not any(isinstance(answer, Unknown) and answer.answer.done() for answer in answers)
    # What was begun comes out whole, and is then confirmed; what was given back is nowhere.
    sending = asyncio.create_task(pipe.send(later))
    assert await pipe.read(len(line(begun) * 2 + line(later))) == line(begun) * 2 + line(later)
    assert await sending == [CONFIRMED]
    for answer in answers:
        assert isinstance(answer, Unknown)
        assert await answer.answer == CONFIRMED
    assert pipe.unread == 0


async def test_the_event_loop_turns_while_the_reader_blocks(pipe: Pipe) -> None:
    """A send that blocked the loop would let nobody read, and this test never end."""
    big = event("x" * MEBIBYTE)
    sending = asyncio.create_task(pipe.send(big))
    await pipe.blocked()
    loop = asyncio.get_running_loop()
    start, longest = loop.time(), 0.0
    for _ in range(50):
        before = loop.time()
        await asyncio.sleep(0)
        longest = max(longest, loop.time() - before)
    assert longest < 0.5
    assert loop.time() - start < 1.0
    await pipe.read(len(line(big)))
    assert await sending == [CONFIRMED]


async def test_a_reader_that_goes_ends_it_for_the_one_who_writes_and_for_all_who_wait(pipe: Pipe) -> None:
    big = event("x" * MEBIBYTE)
    unanswered = asyncio.create_task(pipe.send(big, within=NOW + 1.0))
    sends = [asyncio.create_task(pipe.send(big)) for _ in range(3)]
    await pipe.blocked()
    (unknown,) = await unanswered
    pipe.close_reader()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SinkGoneError] * 3
        assert isinstance(unknown, Unknown)
        assert isinstance(await unknown.answer, Again)
        with pytest.raises(SinkGoneError, match="stdout was closed by its reader"):
            await pipe.send(event("afterwards"))


async def test_what_was_written_just_before_the_reader_went_is_confirmed(pipe: Pipe) -> None:
    """The event loop is busy, so that it learns of both at once."""
    first = asyncio.create_task(pipe.send(event("first")))
    second = asyncio.create_task(pipe.send(event("x" * MEBIBYTE)))
    await asyncio.sleep(0)  # both are handed over
    _keep_the_loop_busy_until_the_reader_has_gone(pipe)
    assert await first == [CONFIRMED]
    with pytest.raises(SinkGoneError):
        await second


def _keep_the_loop_busy_until_the_reader_has_gone(pipe: Pipe) -> None:
    while pipe.unread <= pipe.room - 4096:
        time.sleep(0.001)
    pipe.close_reader()
    time.sleep(0.1)  # for the thread that writes to notice


async def test_a_disk_that_is_full_ends_it_and_says_why() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    sink = StdoutSink(StdoutSettings(), descriptor=descriptor)
    await sink.open()
    with pytest.raises(SinkGoneError, match="No space left on device"):
        await sink.send([event("x")], asyncio.get_running_loop().time() + SOON)
    await sink.close()
    os.close(descriptor)


async def test_closing_is_bounded_while_the_reader_blocks(pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(pipe.send(event("x" * MEBIBYTE), within=0.1))
    await pipe.blocked()
    await sending
    start = loop.time()
    await pipe.sink.close()
    assert loop.time() - start < CLOSE_SECONDS + 1


async def test_closing_waits_for_what_was_handed_over(pipe: Pipe) -> None:
    events = [event(f"{number}" * MEBIBYTE) for number in range(3)]
    sends = [asyncio.create_task(pipe.send(one)) for one in events]
    await pipe.blocked()
    closing = asyncio.create_task(pipe.sink.close())
    expected = b"".join(map(line, events))
    assert await pipe.read(len(expected)) == expected
    await closing
    assert await asyncio.gather(*sends) == [[CONFIRMED]] * 3


async def test_a_pipe_that_somebody_made_non_blocking_works_as_well(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    big = event("x" * 4 * MEBIBYTE)
    sending = asyncio.create_task(pipe.send(big, event("after")))
    await pipe.blocked()
    expected = line(big) + line(event("after"))
    assert await pipe.read(len(expected)) == expected
    assert await sending == [CONFIRMED, CONFIRMED]


async def test_sends_at_once_do_not_mix_their_lines_and_each_keeps_its_order(pipe: Pipe) -> None:
    batches = [[event(f"{batch}{number}" * 100_000) for number in range(3)] for batch in "abcd"]
    sends = [asyncio.create_task(pipe.send(*batch)) for batch in batches]
    expected = [line(one) for batch in batches for one in batch]
    seen = await pipe.read(sum(map(len, expected)))
    assert await asyncio.gather(*sends) == [[CONFIRMED] * 3] * 4
    assert seen == b"".join(expected)
