"""Who is connected: HTTP knows no sessions, so a consumer is a TCP connection over which its group polls."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

EXPIRY = 120_000
"""How long a connection counts after its last poll began, in milliseconds; twice the longest poll and more."""

_PRODUCT = re.compile(r"(?:mq-([a-z]+)-sdk|[^/\s]+)/([^\s(]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The client's end of a TCP connection."""

    address: str
    """An IP address; empty when the client has gone already."""
    port: int
    user_agent: str
    connected: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Connection:
    """A connection over which a group has polled. Instants are milliseconds since the epoch."""

    peer: Peer
    since: int
    """When its first poll began."""
    last_poll: int = 0
    subscriptions: dict[str, str] = field(default_factory=dict)
    """The tags that it asked for last, as `TagA||TagB` or `*`, by topic."""

    @property
    def client_id(self) -> str:
        """`<ip>@<port>`: clients over TCP have `<ip>@<process>#…` (protocol.md 8.3), over HTTP they send no id."""
        return f"{self.peer.address}@{self.peer.port}"

    @property
    def address(self) -> str:
        """IP address and port."""
        host = f"[{self.peer.address}]" if ":" in self.peer.address else self.peer.address
        return f"{host}:{self.peer.port}"

    @property
    def language(self) -> str:
        """The language of the official SDK that says so in its User-Agent (protocol.md 1.4), in capitals; else `HTTP`."""
        product = _PRODUCT.match(self.peer.user_agent)
        return product[1].upper() if product and product[1] else "HTTP"

    @property
    def version(self) -> str:
        """The version that the client gives itself in its User-Agent; empty when it doesn't."""
        product = _PRODUCT.match(self.peer.user_agent)
        return product[2] if product else ""


class Connections:
    """Remembers them, by instance and group, for as long as they are open."""

    def __init__(self) -> None:
        self._of: dict[tuple[str | None, str], dict[tuple[str, int], Connection]] = {}

    def note_poll(
        self, now: int, peer: Peer, *, instance: str | None, group: str, topic: str, tags: frozenset[str] | None
    ) -> None:
        """A poll has begun."""
        place = self._of.setdefault((instance, group), {})
        end = (peer.address, peer.port)
        connection = place.get(end)
        if connection is None or not connection.peer.connected():  # a port is used again
            for gone in [end for end, known in place.items() if not known.peer.connected()]:
                del place[gone]
            connection = place[end] = Connection(peer=peer, since=now)
        connection.last_poll = now
        connection.subscriptions[topic] = "*" if tags is None else "||".join(sorted(tags))

    def of(self, now: int, *, instance: str | None, group: str) -> list[Connection]:
        """Those of a group that are open, and have polled lately; the oldest first."""
        known = self._of.get((instance, group), {}).values()
        return [connection for connection in known if connection.peer.connected() and now - connection.last_poll < EXPIRY]
