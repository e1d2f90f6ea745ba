"""`bridge check`: tries out the settings of `bridge run` before it runs, and consumes, sends and stores nothing.

Each look is bounded, and what needs no other answer is looked at at the same time: all of it takes 25 seconds at most. What
has lost its ground is unknown, and says which finding to see.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack

from bridge.check.acknowledging import QUESTIONS, acknowledge_nothing, concluded
from bridge.check.beside import ask_management, use_ledger
from bridge.check.findings import Finding, Status, found
from bridge.check.reaching import connect, resolve
from bridge.check.sinks import try_out
from bridge.rocketmq.credentials.in_force import CredentialsInForce
from bridge.service import credentials_for
from bridge.settings import RunSettings
from bridge.watch.facts import instant

Look = Coroutine[None, None, str]


async def check(settings: RunSettings) -> list[Finding]:
    """Everything that can be found out, always in the same order. Raises nothing."""
    credentials = credentials_for(settings.rocketmq)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        key = tasks.create_task(found("credentials", _enter(credentials, stack), setting="BRIDGE_ROCKETMQ__ACCESS_KEY_ID"))
        way = tasks.create_task(_way_to(settings.rocketmq.endpoint))
        answer = tasks.create_task(_answer(settings, credentials, key, way))
        sinks = [tasks.create_task(look) for look in _sinks(settings)]
        ledger = tasks.create_task(_ledger(settings))
        management = tasks.create_task(_management(settings, credentials, key))
    letters = () if settings.dead_letter.sink else [Finding("dead_letter", Status.SKIPPED, _not_set("DEAD_LETTER__SINK"))]
    return [
        key.result(),
        *way.result(),
        *answer.result(),
        *(sink.result() for sink in sinks),
        *letters,
        ledger.result(),
        management.result(),
    ]


async def _enter(credentials: CredentialsInForce, stack: AsyncExitStack) -> str:
    await stack.enter_async_context(credentials)
    until = instant(credentials.expires_at)
    return f"the access key {credentials().access_key_id}" + (f", until {until}" if until else "")


async def _way_to(endpoint: str) -> tuple[Finding, Finding]:
    setting = "BRIDGE_ROCKETMQ__ENDPOINT"
    name = await found("name", resolve(endpoint), setting=setting)
    return name, await _on(name, "connection", lambda: connect(endpoint), setting=setting)


async def _answer(
    settings: RunSettings,
    credentials: CredentialsInForce,
    key: asyncio.Task[Finding],
    way: asyncio.Task[tuple[Finding, Finding]],
) -> list[Finding]:
    name, connection = await way
    for ground in (name, connection, await key):
        if ground.status is not Status.OK:
            return [Finding(question, Status.UNKNOWN, f"see {ground.name}") for question in QUESTIONS]
    answer = await acknowledge_nothing(settings, credentials)
    return concluded(answer, settings.rocketmq, credentials().access_key_id)


def _sinks(settings: RunSettings) -> Iterator[Coroutine[None, None, Finding]]:
    """A look at each sink, of events and of dead letters."""
    ordered = settings.rocketmq.ordered
    for name in settings.sinks:
        variables = f"BRIDGE_{name}__…".upper()
        look = try_out(name, settings.of_sink(name), ordered=ordered, variables=variables)
        yield found(f"sink.{name}", look, setting=variables)
    if letters := settings.dead_letter.sink:
        variables = f"BRIDGE_DEAD_LETTER__{letters}__…".upper()
        look = try_out(letters, settings.of_dead_letters, ordered=False, variables=variables)
        yield found(f"dead_letter.{letters}", look, setting=variables)


async def _ledger(settings: RunSettings) -> Finding:
    if settings.ledger.redis_url is None:
        return Finding("ledger", Status.SKIPPED, _not_set("LEDGER__REDIS_URL"))
    return await found("ledger", use_ledger(settings), setting="BRIDGE_LEDGER__REDIS_URL")


async def _management(settings: RunSettings, credentials: CredentialsInForce, key: asyncio.Task[Finding]) -> Finding:
    if not settings.management.enabled:
        return Finding("management", Status.SKIPPED, _not_set("MANAGEMENT__ENABLED"))
    setting = "BRIDGE_MANAGEMENT__ENDPOINT"
    return await _on(await key, "management", lambda: ask_management(settings, credentials), setting=setting)


async def _on(ground: Finding, name: str, look: Callable[[], Look], *, setting: str) -> Finding:
    """What a look finds that makes sense on this ground alone."""
    if ground.status is Status.OK:
        return await found(name, look(), setting=setting)
    return Finding(name, Status.UNKNOWN, f"see {ground.name}")


def _not_set(variable: str) -> str:
    return f"BRIDGE_{variable} is not set"
