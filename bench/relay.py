"""Stands between a Kafka client and its broker, and takes the time: `python -m bench.relay BROKER_PORT`.

Kafka's frames pass unchanged, but for the broker's address in its answers, which becomes the relay's own. It tells in the end
what it saw (`bench.witness`): of each event, when its Produce request had arrived whole, and when Kafka's answer was there.
"""

import asyncio
import sys
import time
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

import uvloop

from bench.serving import port_of, until_stdin_ends
from bench.witness import Witness

_PRODUCE = 0  # the number of that call in Kafka's protocol


class Relay:
    """One broker's stand-in."""

    def __init__(self, broker_port: int, witness: Witness) -> None:
        self._broker_port = broker_port
        self._port = 0
        self._witness = witness

    async def serve(self) -> None:
        """Until stdin ends."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = port_of(server)
        await until_stdin_ends(server)

    async def _connected(self, client: StreamReader, to_client: StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("localhost", self._broker_port)
        produced: dict[bytes, tuple[bytes, float]] = {}  # frames, and when they had arrived, by correlation id
        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(
                self._pass_requests(client, to_broker, produced), self._pass_answers(broker, to_client, produced)
            )
        to_client.close()
        to_broker.close()

    async def _pass_requests(
        self, client: StreamReader, to_broker: StreamWriter, produced: dict[bytes, tuple[bytes, float]]
    ) -> None:
        while True:
            frame = await _frame(client)
            if int.from_bytes(frame[:2], "big") == _PRODUCE:
                produced[frame[4:8]] = frame, time.monotonic()
            to_broker.write(len(frame).to_bytes(4, "big") + frame)

    async def _pass_answers(
        self, broker: StreamReader, to_client: StreamWriter, produced: dict[bytes, tuple[bytes, float]]
    ) -> None:
        # Whatever the version of an answer that names the broker, its port follows its host.
        theirs, ours = (b"localhost" + port.to_bytes(4, "big") for port in (self._broker_port, self._port))
        while True:
            frame = (await _frame(broker)).replace(theirs, ours)
            to_client.write(len(frame).to_bytes(4, "big") + frame)
            if request := produced.pop(frame[:4], None):
                self._witness.note(*request)


async def _frame(stream: StreamReader) -> bytes:
    return await stream.readexactly(int.from_bytes(await stream.readexactly(4), "big"))


def main() -> None:
    """Serve, then tell."""
    witness = Witness()
    uvloop.run(Relay(int(sys.argv[1]), witness).serve())
    witness.testify()


if __name__ == "__main__":
    main()
