"""Which connections count as consumers."""

from bridge.emulator.connections import EXPIRY, Connections, Peer

GROUP = "GID_a"


def peer(*, port: int = 50_000, address: str = "10.0.0.1", user_agent: str = "") -> tuple[Peer, list[bool]]:
    """A client, and the list to empty when it goes."""
    here = [True]
    return Peer(address=address, port=port, user_agent=user_agent, connected=lambda: bool(here)), here


def poll(connections: Connections, now: int, peer: Peer, *, topic: str = "topicA", tags: frozenset[str] | None = None) -> None:
    connections.note_poll(now, peer, instance=None, group=GROUP, topic=topic, tags=tags)


def listed(connections: Connections, now: int) -> list[str]:
    return [connection.client_id for connection in connections.of(now, instance=None, group=GROUP)]


def test_a_connection_counts_for_a_while_after_its_last_poll() -> None:
    connections, (client, _) = Connections(), peer()
    poll(connections, 0, client)
    poll(connections, 1000, client)
    assert listed(connections, 1000 + EXPIRY - 1) == ["10.0.0.1@50000"]
    assert listed(connections, 1000 + EXPIRY) == []


def test_a_closed_connection_counts_no_more_even_when_its_port_is_used_again() -> None:
    connections, (client, here) = Connections(), peer()
    poll(connections, 0, client, topic="old")
    here.clear()
    assert listed(connections, 0) == []
    again, _ = peer()
    poll(connections, 5, again, topic="new", tags=frozenset({"B", "A"}))
    (connection,) = connections.of(5, instance=None, group=GROUP)
    assert (connection.since, connection.subscriptions) == (5, {"new": "A||B"})


def test_groups_and_instances_have_nothing_in_common() -> None:
    connections, (client, _) = Connections(), peer()
    poll(connections, 0, client)
    assert not connections.of(0, instance="MQ_INST_1", group=GROUP)
    assert not connections.of(0, instance=None, group="GID_b")


def test_language_and_version_are_those_of_the_user_agent() -> None:
    seen = {}
    for user_agent in ("mq-python-sdk/1.0.3(Linux;3.11)", "rocketmq-bridge/0.1.0", "curl", ""):
        connections, (client, _) = Connections(), peer(user_agent=user_agent, address="::1")
        poll(connections, 0, client)
        (connection,) = connections.of(0, instance=None, group=GROUP)
        assert connection.address == "[::1]:50000"
        seen[user_agent] = connection.language, connection.version
    assert list(seen.values()) == [("PYTHON", "1.0.3"), ("HTTP", "0.1.0"), ("HTTP", ""), ("HTTP", "")]
