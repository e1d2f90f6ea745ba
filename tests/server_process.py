"""A server in a process of its own, which tests kill, freeze, and start again."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, TypeVar

_STOP_SECONDS = 20.0
_STARTS = 3


class EndedError(RuntimeError):
    """A server ended before it answered; the text has what it said."""


_Server = TypeVar("_Server", bound="ServerProcess")


@dataclass
class ServerProcess(ABC):
    """Its addresses stay the same through restarts."""

    folder: Path
    """Where it runs; its output is there too."""
    command: Sequence[str] = field(repr=False)
    start_seconds: ClassVar[float] = 20.0
    """How long it may take until it answers."""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is up, as a client sees it."""

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Started, and killed at the end."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Raises EndedError when it ends, and TimeoutError when it takes too long, with what it said."""
        assert self._process
        give_up = time.monotonic() + self.start_seconds
        while not self.answers():
            if (code := self._process.poll()) is not None:
                self.kill()
                raise EndedError(f"{type(self).__name__} ended with {code}:\n{self.output[-4000:]}")
            if time.monotonic() > give_up:
                self.kill()
                raise TimeoutError(
                    f"{type(self).__name__} did not answer within {self.start_seconds:g} s:\n{self.output[-4000:]}"
                )
            time.sleep(0.02)

    @property
    def runs(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has said, before restarts too."""
        return (self.folder / "output").read_text(errors="replace")

    def kill(self) -> None:
        """At once, without a chance to say anything."""
        if self._process:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """From now on the kernel takes connections for it, and nobody answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # the signal takes effect a moment later

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()


def enter_started(stack: contextlib.ExitStack, server: Callable[[], AbstractContextManager[_Server]]) -> _Server:
    """Enter a context that starts a server at ports which were free, and one at others if it ended at once.

    Somebody may have taken a port before the server bound it, which each server tells in words of its own, so any end is
    taken for that. Raises EndedError when the last one ends too.
    """
    for _ in range(_STARTS - 1):
        with contextlib.suppress(EndedError):
            return stack.enter_context(server())
    return stack.enter_context(server())


def free_ports(number: int) -> list[int]:
    """On loopback, for servers that must know theirs before they bind.

    They lie below those that the system gives to connections and to whoever asks for any, as there are thousands of these in
    the seconds that a server takes to bind.
    """
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < number:
            port = _CHANCE.randrange(10_000, 32_768)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
        return ports


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port


_CHANCE = random.SystemRandom()  # `random` itself begins each test alike, in every worker
