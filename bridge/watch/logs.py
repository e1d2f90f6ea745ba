"""Logs: on stderr, for people or for machines; quiet when all is well."""

import atexit
import logging
import sys
from contextlib import suppress
from queue import Full, Queue
from threading import Event, Thread
from typing import Literal, TextIO

import structlog

# By default a traceback comes with the local variables of its functions: the keys, and the bodies of messages.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(*, level: str, form: Literal["console", "json"] | None) -> None:
    """Write log lines of at least `level` to stderr: as `console` or `json`, or, for None, as befits what stderr is."""
    if form is None:
        form = "console" if sys.stderr.isatty() else "json"
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor]
    if form == "json":
        last = [structlog.processors.ExceptionRenderer(_TRACEBACK), _what_first, structlog.processors.JSONRenderer()]
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        last = [renderer]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # What libraries say comes out in the same form.
    handler = _Unblocked()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    ours = logging.getLogger("bridge")
    ours.setLevel(level.upper())
    root.setLevel(max(logging.WARNING, ours.level))


MAX_WAITING_LINES = 10_000


class _Unblocked(logging.Handler):
    """Has a thread write to stderr, so that a reader who doesn't read blocks no event loop; too many lines are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: Queue[str | Event] = Queue(MAX_WAITING_LINES)
        Thread(target=self._write_all, args=(sys.stderr,), name="logs", daemon=True).start()
        atexit.register(self.flush_within, 1.0)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self._lines.put_nowait(self.format(record))

    def flush_within(self, seconds: float) -> None:
        written = Event()
        with suppress(Full):
            self._lines.put_nowait(written)
            written.wait(seconds)

    def _write_all(self, stream: TextIO) -> None:
        with suppress(OSError, ValueError):  # its reader has gone, or it was closed
            while True:
                line = self._lines.get()
                if isinstance(line, Event):
                    line.set()
                else:
                    stream.write(f"{line}\n")
                    stream.flush()


def flush(seconds: float) -> None:
    """Wait until what was logged so far is written, for so many seconds at most."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Unblocked):
            handler.flush_within(seconds)


def _what_first(_logger: object, _method: str, event_dict: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Begin each line with when, how bad, and what."""
    first = {name: event_dict.pop(name) for name in ("timestamp", "level", "event") if name in event_dict}
    return {**first, **event_dict}
