"""Which tests begin first, which share a process, and how many processes there are. For `pytest -n auto --dist loadgroup`."""

import os
from typing import Final

import pytest

LONG: Final = frozenset({"acceptance", "chaos", "kafka"})
"""Folders with tests that take ten seconds or many: begun last, one alone would keep a process when all others are done."""
TOGETHER: Final = frozenset({"nats", "page", "sdks"})
"""Folders whose fixtures cost more than it saves to run their tests beside each other: a browser, JVMs, an installation."""

MOST_PROCESSES = 8
"""The longest test takes as long with more, and each wants memory for a Kafka."""


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half of its time a test waits: for processes, leases, polls."""
    return min(2 * (os.cpu_count() or 1), MOST_PROCESSES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.parent.name))
    items.sort(key=lambda item: item.path.parent.name not in LONG)
