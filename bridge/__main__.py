"""python -m bridge."""

from bridge.cli import entry

entry()
