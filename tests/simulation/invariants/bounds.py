"""What a process can't know better, or has no room for."""

CLOCK_SECONDS = 1.5
"""How much earlier than it ends a lease may be taken to end: the broker's clock is known to a second and a round trip."""
ROOM_FOR_ALL = 1 << 24
"""Bytes that suffice for every world's load; with fewer, what finds no room is left to the broker."""
