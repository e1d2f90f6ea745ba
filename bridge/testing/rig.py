"""What the contract suite has to be given: a sink, and power over its other side."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, NoReturn

import pytest

from bridge.event import Event
from bridge.sinks import Sink


class Rig(ABC):
    """A sink and its other side, for one test.

    `sink` and `held` are needed. Each of the others is an ability: a rig that lacks one has the tests that need it skipped,
    with a line that says what to give. The more a rig can do, the more the suite proves; a test that is skipped proves nothing.

    The other side is a real one, on this machine, and new for each test. It outlives the sinks: what one has sent is held
    when the next is made.
    """

    probes: ClassVar[bool] = True
    """Whether a sink that is a ProbedSink can really tell, as this rig sets it, or always lets an event find out."""

    @abstractmethod
    def sink(self) -> Sink:
        """A new sink for this other side, not opened. It is made outside of the event loop, as the bridge makes it."""

    @abstractmethod
    async def held(self) -> Sequence[str]:
        """The ids of the events that the other side holds durably. Only called while that is up.

        They come as a reader of the other side finds them: in its order, and each as often as it is there.
        """

    async def contents(self) -> Mapping[str, bytes]:
        """What is held of each event, by its id: the event in its envelope, or its body alone, as the sink writes it."""
        self._lacks("contents")

    def unacceptable(self) -> Event:
        """A new event that this other side will never take: too large for it, against its schema, as may be.

        `bridge.testing.make_event` makes events.
        """
        self._lacks("unacceptable")

    async def take_down(self) -> None:
        """Take the other side away, as when its process is killed; what it holds durably it keeps."""
        self._lacks("take_down", "bring_up")

    async def bring_up(self) -> None:
        """Bring it back, where it was, with what it held; return when it is ready."""
        self._lacks("take_down", "bring_up")

    async def freeze(self) -> None:
        """Stop the other side from doing anything while connections to it stay open, as SIGSTOP does to its process.

        Return when it has stopped: a signal takes effect a moment later, and `os.waitid` with `WSTOPPED` waits for that.
        """
        self._lacks("freeze", "thaw")

    async def thaw(self) -> None:
        """Let it go on where it was frozen."""
        self._lacks("freeze", "thaw")

    def skip_without_outages(self) -> None:
        """Skip the test that runs, before it has begun anything, where the other side can't be taken down."""
        if type(self).take_down is Rig.take_down:
            self._lacks("take_down", "bring_up")

    def _lacks(self, *abilities: str) -> NoReturn:
        methods = " and ".join(f"`{ability}`" for ability in abilities)
        pytest.skip(f"needs {methods} of {type(self).__name__}, see bridge.testing.contract.Rig")


@asynccontextmanager
async def down(rig: Rig) -> AsyncIterator[None]:
    """The other side is away meanwhile."""
    await rig.take_down()
    try:
        yield
    finally:
        await rig.bring_up()


@asynccontextmanager
async def frozen(rig: Rig) -> AsyncIterator[None]:
    """The other side does nothing meanwhile."""
    await rig.freeze()
    try:
        yield
    finally:
        await rig.thaw()
