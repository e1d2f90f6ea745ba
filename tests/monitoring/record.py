"""Record the states of a bridge anew, all of them or those that are named: python -m monitoring.record [state …]"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from monitoring import promtool
from monitoring.pods import pods
from monitoring.states import STATES, State

AT_ONCE = 6
"""So many don't get in each other's way."""


async def _record(state: State, room: asyncio.Semaphore) -> None:
    async with room:
        with tempfile.TemporaryDirectory() as folder:
            async with pods(Path(folder), lease_seconds=state.lease_seconds, minute_seconds=state.minute_seconds) as running:
                await state.happens(running)
        running.recording.save(state.name)


async def _record_all(names: Sequence[str]) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    chosen = [state for state in STATES if not names or state.name in names]
    ends = await asyncio.gather(*(_record(state, room) for state in chosen), return_exceptions=True)
    if problems := [end for end in ends if isinstance(end, Exception)]:
        raise ExceptionGroup("states that were not recorded", problems)


def _write_pages() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pages = {state.name: promtool.pages(Path(folder), state) for state in STATES}
    promtool.PAGES.write_text(yaml.dump(pages, Dumper=yaml.CSafeDumper, sort_keys=False, width=100), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(_record_all(sys.argv[1:]))
    _write_pages()
