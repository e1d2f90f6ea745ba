"""An event loop whose clock moves by itself, whose order a seed decides, and whose processes can be frozen and killed.

Everything that runs belongs to a process, or to the world around them: to whose Gate stands in the context that it runs in.
Frozen (SIGSTOP) means that nothing of a process runs while time goes on, and killed, that it never does again.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = 1_000_000.0
"""What the clock of a new loop shows, in seconds: far from 0, so that nobody takes it for a duration."""
MAX_CALLBACKS_AT_ONE_INSTANT = 50_000


class SpinsError(Exception):
    """So much was done without the passing of time that it would go on for ever."""


class Gate:
    """What a process runs through; shut, nothing of it runs, and what would have waits."""

    def __init__(self) -> None:
        self.shut = False
        self.waiting: list[Callback] = []
        self.tasks: list[asyncio.Task[Any]] = []
        """Every task that it ever began."""


GATE: ContextVar[Gate | None] = ContextVar("GATE", default=None)


class Callback:
    """What is to be called, perhaps at an instant: asyncio's Handle and TimerHandle."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when", "gate")

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self.gate = self._context.get(GATE)

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def run(self) -> None:
        self._context.run(self._callback, *self._args)


class _Task(asyncio.Task[T]):
    """Hashed by its number: a set of tasks is gone through in the same order in every run."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._number = number
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[T]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.AbstractEventLoop):
    """For what neither opens a socket nor starts a thread.

    `disorder` is the probability that what runs next is not what has been ready for longest, but any that is ready.
    """

    def __init__(self, rng: random.Random, disorder: float) -> None:
        self.now = START
        self.problems: list[str] = []
        """What asyncio reports to a loop's exception handler; from sound code, nothing."""
        self._rng = rng
        self._disorder = disorder
        self._ready: list[Callback] = []
        self._timers: list[tuple[float, int, Callback]] = []
        self._number = itertools.count()
        self._at_this_instant = 0

    # ---- what runs ---------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T], *, until: Callable[[], bool]) -> T | None:
        """Run it to its end, or until the condition holds after some step; then None. Raises SpinsError."""
        asyncio._set_running_loop(self)  # "This function is called by event loop implementations"
        try:
            task = self.create_task(main)
            while not task.done():
                if until():
                    return None
                self._step()
            result: T = task.result()
            return result
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        ready = self._ready
        if not ready:
            self._pass_time()
        index = self._rng.randrange(len(ready)) if len(ready) > 1 and self._rng.random() < self._disorder else 0
        callback = ready.pop(index)
        if callback.cancelled():
            return
        if callback.gate is not None and callback.gate.shut:
            callback.gate.waiting.append(callback)
            return
        self._at_this_instant += 1
        if self._at_this_instant > MAX_CALLBACKS_AT_ONE_INSTANT:
            raise SpinsError
        try:
            callback.run()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as problem:  # noqa: BLE001 - as asyncio does: it is reported, and the loop goes on
            self.problems.append(repr(problem))

    def _pass_time(self) -> None:
        timers = self._timers
        while timers[0][2].cancelled():
            heapq.heappop(timers)
        if timers[0][0] > self.now:
            self.now = timers[0][0]
            self._at_this_instant = 0
        while timers and timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(timers)[2])

    def open(self, gate: Gate) -> None:
        """Let what has waited behind a gate run, in the order in which it came."""
        gate.shut = False
        self._ready += gate.waiting
        gate.waiting.clear()

    # ---- what asyncio asks of a loop ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        scheduled = Callback(self.now, callback, args, context)
        self._ready.append(scheduled)
        return scheduled

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        scheduled = Callback(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._number), scheduled))
        return scheduled

    def call_later(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(next(self._number), self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any) -> asyncio.Task[Any]:
        context = context or copy_context()
        task: asyncio.Task[Any] = _Task(next(self._number), coro, self, context)
        gate = context.get(GATE)
        if gate is not None:
            gate.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")
