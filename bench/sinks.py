"""A sink that writes each event, as every sink does, and confirms at once: what is left is the way to it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bridge.event import Event
from bridge.sinks import CONFIRMED, Outcome, Sink


class NothingSettings(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid")


class NothingSink(Sink):
    """Writes, confirms, forgets."""

    Settings = NothingSettings

    async def send(self, events: Sequence[Event], deadline: float) -> Sequence[Outcome]:  # noqa: ARG002 - it needs no time
        """See `Sink.send`."""
        for event in events:
            event.structured()
        return [CONFIRMED] * len(events)


def register(folder: Path) -> None:
    """Make the sink `nothing` known to every Python that has this folder on its path, as an installed package would."""
    metadata = folder / "bench_sinks-1.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-sinks\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[bridge.sinks]\nnothing = bench.sinks:NothingSink\n")
