"""The credentials in force, and the task that sees to it that they stay good."""

import asyncio
import random
from types import TracebackType
from typing import Self

import structlog

from bridge.delivery.pace import Backoff, wait
from bridge.errors import BridgeError, FixSettingsError, TryAgainError
from bridge.rocketmq.credentials import Credentials, Place
from bridge.watch.facts import Component, instant

log: structlog.stdlib.BoundLogger = structlog.get_logger("bridge")

START_SECONDS = 10.0
"""How long the start waits for the first credentials; from then on it is the calls that fail without them."""
REFUSED_WAIT_SECONDS = 5.0
"""How long a call that was refused waits for other credentials."""
REFUSED_EVERY_SECONDS = 10.0
"""How often, at most, refusals make us look for other credentials."""
TOO_LONG_SECONDS = 60.0
"""A look that takes longer is reported."""
RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS = 1.0, 60.0


class CredentialsInForce:
    """Gives the credentials in force when called, at once; inside `async with` it keeps looking where they come from.

    Without a `place` the `first` ones stay in force. Credentials that can't be renewed stay in force, too: it is the service
    that decides when they have expired, by its own clock.
    """

    def __init__(self, first: Credentials | None, place: Place | None = None) -> None:
        self.component: Component | None = None
        """Is told how looking goes, once there is one."""
        self._current = first
        self._place = place
        self._problem: BridgeError | None = None if first else TryAgainError("there are no credentials yet")
        self._backoff = Backoff(RETRY_FIRST_SECONDS, RETRY_CEILING_SECONDS, random.Random())  # noqa: S311 - for jitter
        self._keeping: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._refused_again_at = 0.0
        self._hurry = asyncio.Event()

    def __call__(self) -> Credentials:
        """The credentials in force. As long as there have never been any, raises what `Place.look` has raised."""
        if self._current is None:
            assert self._problem
            raise type(self._problem)(str(self._problem))
        return self._current

    @property
    def can_change(self) -> bool:
        """Whether they come from a place where others may appear."""
        return self._place is not None

    @property
    def expires_at(self) -> float | None:
        """When those in force expire, in seconds since the epoch; None when they don't, or nobody has said when."""
        return self._current.expires_at if self._current else None

    async def __aenter__(self) -> Self:
        """Wait for the first credentials, for `START_SECONDS` at most, and not once `wait_no_longer` has been called.

        Raises FixSettingsError when only a person can help.
        """
        if self._place and self._current is None:
            looked = asyncio.Event()
            self._look(self._place).add_done_callback(lambda _: looked.set())
            await wait(START_SECONDS, looked, self._hurry)
            if isinstance(self._problem, FixSettingsError):
                raise self._problem
        if self._place:
            self._keeping = asyncio.create_task(self._keep(self._place))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no more; nobody waits for a thread that still does."""
        for task in (self._keeping, self._looking):
            if task:
                task.cancel()
        self._keeping = None

    def wait_no_longer(self) -> None:
        """The bridge is to end, so nobody needs the first credentials any more."""
        self._hurry.set()

    async def renew(self, refused: Credentials) -> bool:
        """Look now for others than these, which the service has refused; tell whether there are any.

        Takes `REFUSED_WAIT_SECONDS` at most, and looks once in `REFUSED_EVERY_SECONDS`, however many ask.
        """
        if self._keeping and self._place and self._current == refused:
            now = asyncio.get_running_loop().time()
            if now >= self._refused_again_at and not self._is_looking:
                self._refused_again_at = now + REFUSED_EVERY_SECONDS
                self._look(self._place, refused=True)
            if self._looking:
                await asyncio.wait([self._looking], timeout=REFUSED_WAIT_SECONDS)
        return self._current != refused

    async def _keep(self, place: Place) -> None:
        while True:
            if self._looking:
                _, still_looking = await asyncio.wait([self._looking], timeout=TOO_LONG_SECONDS)
                if still_looking:
                    self._fails(TryAgainError(f"looking for credentials takes longer than {TOO_LONG_SECONDS:g} s"))
                    continue
            await asyncio.sleep(min(place.period, self._backoff.pause()) if self._problem else place.period)
            self._look(place)

    @property
    def _is_looking(self) -> bool:
        return self._looking is not None and not self._looking.done()

    def _look(self, place: Place, *, refused: bool = False) -> "asyncio.Task[None]":
        """Look there, unless that is being done already."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_once(place, refused=refused))
        return self._looking

    async def _look_once(self, place: Place, *, refused: bool) -> None:
        try:
            found = await asyncio.to_thread(place.look, refused=refused)
        except BridgeError as problem:
            self._fails(problem)
            return
        if self.component:
            if self._current not in (None, found):
                log.info("new credentials", expires_at=instant(found.expires_at))
            self.component.works()
        self._current, self._problem = found, None
        self._backoff.reset()

    def _fails(self, problem: BridgeError) -> None:
        self._problem = problem
        if self.component:
            self.component.fails(str(problem))
