"""Which event loop it is."""

import sys

import pytest
import uvloop

from bridge.fast_loop import loop_factory


@pytest.mark.parametrize(("platform", "fast"), [("linux", True), ("darwin", False), ("win32", False)])
def test_it_is_uvloop_only_where_that_has_the_clock_of_leases(
    monkeypatch: pytest.MonkeyPatch, platform: str, *, fast: bool
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert (loop_factory() is uvloop.new_event_loop) == fast
