"""Worlds: the real delivery of one process or two (Engine), the emulator's broker, and models of sinks, on a clock that costs
nothing. A seed decides the settings, the load, the schedule and the faults, so that what breaks a promise can be replayed.

    plan.py         what a seed makes of a world
    loop.py         the event loop: virtual time, a seeded order, processes that can be frozen and killed
    weather.py      which faults happen, while they may
    broker_side.py  the broker behind its network     sink_side.py  what is behind a sink     ledger_side.py  the shared ledger
    world.py        processes among all that, from their start to the end
    story.py        what happened, entry by entry
    invariants/     the promises, which watch the story
    mutants.py      the delivery with one mistake in it: each must be seen to break its promise

`python -m simulation` lives through worlds until a promise is broken; `--replay SEED` tells the story of one.
"""
