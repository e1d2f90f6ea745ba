"""A webhook that takes everything at once: `python -m bench.receiver`. It tells in the end what it saw (`bench.witness`)."""

import time

import uvloop

from bench.http import Connection
from bench.serving import serve
from bench.witness import Witness

_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sender(Connection):
    """One connection of a bridge."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def request(self, method: bytes, target: bytes, content: bytes) -> None:  # noqa: ARG002 - whatever it is, it is taken
        """See Connection."""
        arrived_at = time.monotonic()
        self.answer(_TAKEN)
        self._witness.note(content, arrived_at)


def main() -> None:
    """Serve, then tell."""
    witness = Witness()
    uvloop.run(serve(lambda: Sender(witness)))
    witness.testify()


if __name__ == "__main__":
    main()
