"""The command `bridge`."""

import argparse
import asyncio
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from bridge import __version__, sinks
from bridge.environment import PREFIX, Value, split_flags
from bridge.errors import BridgeError, FixSettingsError
from bridge.fast_loop import loop_factory
from bridge.loading import DEMO_DEFAULTS, boolean_or_not, in_one_line, load
from bridge.settings import EmulatorSettings, PublishSettings, RunSettings
from bridge.variables import is_secret, settings_of, shown
from bridge.watch import logs

DRAINED, CRASHED, WRONG_SETTINGS = 0, 1, 2
"""The exit codes (design.md 6)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; tells its exit code."""
    _prepare_streams()
    try:
        try:
            return _run_command(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone; Python flushes once more as it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CRASHED


def entry() -> NoReturn:
    """The command as a process of its own. It ends at once, and waits for no thread that still does."""
    try:
        code = main()
    except SystemExit as end:  # argparse has said why
        code = end.code if isinstance(end.code, int) else WRONG_SETTINGS
    logs.flush(1.0)
    sys.stderr.flush()
    os._exit(code)


def _run_command(arguments: Sequence[str]) -> int:
    # The settings are taken out first: argparse would take the value of a flag it doesn't know for the body of a message.
    flags, own = split_flags(arguments, boolean_or_not)
    options, unknown = _parser().parse_known_args(own)
    command: Callable[[argparse.Namespace, Sequence[str]], int] = options.command
    try:
        return command(options, [*flags, *unknown])
    except FixSettingsError as problem:
        _say(str(problem).splitlines())
        return WRONG_SETTINGS
    except BridgeError as problem:
        _say([str(problem)])
        return CRASHED
    except KeyboardInterrupt:  # before there was anything to drain
        return CRASHED


def _say(lines: Iterable[str]) -> None:
    logs.flush(1.0)  # what was logged before comes before, and not into the middle of a line
    sys.stderr.write("".join(f"bridge: {line}\n" for line in lines))


def _prepare_streams() -> None:
    """See to it that the standard streams are there, and take whatever is printed."""
    # Were one of the first three descriptors free, the next socket would get its number, and events be written into it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - stderr's number
        pass
    os.close(descriptor)
    if sys.stderr is None:  # it was closed when Python started
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as the process lives
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # under a locale without UTF-8, too
            stream.reconfigure(errors=errors)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bridge",
        description="Messages out of ApsaraMQ for RocketMQ (HTTP protocol) into a sink, acked only when it has confirmed.",
        epilog="Every setting is an environment variable BRIDGE_…, and a flag: BRIDGE_ROCKETMQ__TOPIC is --rocketmq.topic.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rocketmq-bridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], text: str, settings: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=settings,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    add("run", _run, "take messages to the sink until SIGTERM", _list_of(RunSettings))
    demo = add(
        "demo",
        _demo,
        "broker, publisher and bridge in one process, until Ctrl-C",
        _list_of(RunSettings, EmulatorSettings, defaults=DEMO_DEFAULTS, without=_THE_DEMOS_OWN),
    )
    demo.add_argument("--messages", type=_count, metavar="N", help="publish N messages, deliver them, and exit")
    check = add(
        "check",
        _check,
        "try out the settings of run; nothing is consumed or sent; exit code 1: something is wrong",
        _list_of(RunSettings),
    )
    check.add_argument("--json", action="store_true", help="print one JSON document instead of a line for each finding")
    add("emulator", _emulator, "a local ApsaraMQ for RocketMQ, until Ctrl-C", _list_of(EmulatorSettings))
    publish = add("publish", _publish, "publish messages, and print the id of each", _list_of(PublishSettings))
    publish.add_argument("body", nargs="?", help="the body; without it, each line of standard input is one")
    publish.add_argument("--tag", help="the tag of the messages")
    publish.add_argument("--keys", help="their key")
    publish.add_argument("--sharding-key", help="the shard within which an ordered topic keeps their order")
    publish.add_argument(
        "--deliver-at", type=int, metavar="MS", help="deliver at this instant, in milliseconds since the epoch"
    )
    publish.add_argument("--property", action="append", default=[], metavar="NAME=VALUE", help="a property; may be repeated")
    add("config", _config, "show the settings in force, and where each comes from; secrets are hidden")
    add("sinks", _sinks, "list the sinks that are installed, from where, and what can be set for each")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("should be a whole number from 1 on")
    return int(text)


_THE_DEMOS_OWN = re.compile(
    "BRIDGE_(ROCKETMQ__(ENDPOINT|INSTANCE_ID|TOPIC|GROUP_ID|TAG|CA_FILE|ACCESS_KEY_.*|SECURITY_TOKEN)|MANAGEMENT__(ENDPOINT|REGION))"
)
"""What the demo sets itself, as its broker is the emulator."""


def _list_of(
    *models: type[RunSettings | EmulatorSettings | PublishSettings],
    defaults: Mapping[str, Value] | None = None,
    without: re.Pattern[str] | None = None,
) -> str:
    fields = {name: field for model in models for name, field in settings_of(model).items()}
    if without:
        fields = {name: field for name, field in fields.items() if not without.fullmatch(name)}
    return "\n".join(["settings:", *_settings_lines(fields, defaults)]).replace("%", "%%")


def _settings_lines(fields: Mapping[str, FieldInfo], defaults: Mapping[str, Value] | None = None) -> Iterator[str]:
    for name, field in fields.items():
        default: object = defaults[name].text if defaults and name in defaults else field.default
        hidden = field.is_required() or is_secret(field) or default is None
        yield f"  {name}{'' if hidden else f' [{default}]'}\n      {in_one_line(field)}".rstrip()


def _loop(main: Coroutine[Any, Any, None]) -> None:
    """Run it. The loop is not closed: that would wait for the thread that asks a name server, however long that takes."""
    asyncio.Runner(loop_factory=loop_factory()).run(main)


# ---- commands --------------------------------------------------------------------------------------------------------


def _run(_: argparse.Namespace, flags: Sequence[str]) -> int:
    from bridge.service import Service  # noqa: PLC0415 - `bridge config` and wrong settings needn't wait for it

    settings = load(RunSettings, flags).settings
    logs.configure(level=settings.log.level, form=settings.log.format)

    async def run() -> None:
        service = Service(settings)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, service.drain)
        loop.add_signal_handler(signal.SIGINT, service.interrupt)
        await service.run()

    _loop(run())
    return DRAINED


def _demo(options: argparse.Namespace, flags: Sequence[str]) -> int:
    from bridge.demo import demo  # noqa: PLC0415 - as above

    _loop(demo(flags, messages=options.messages))
    return DRAINED


def _check(options: argparse.Namespace, flags: Sequence[str]) -> int:
    from bridge.check import check  # noqa: PLC0415 - as above
    from bridge.check.findings import Finding, any_wrong, as_json, as_text  # noqa: PLC0415 - as above

    settings = load(RunSettings, flags).settings
    logs.configure(level=settings.log.level, form=settings.log.format)
    logging.disable()  # what is wrong is told once, and not by each library in its own way, too
    findings: list[Finding] = []

    async def run() -> None:
        findings.extend(await check(settings))

    _loop(run())
    print(as_json(findings) if options.json else as_text(findings))
    return CRASHED if any_wrong(findings) else DRAINED


def _emulator(_: argparse.Namespace, flags: Sequence[str]) -> int:
    from bridge.demo import emulator_for  # noqa: PLC0415 - as above

    settings = load(EmulatorSettings, flags).settings
    logs.configure(level=settings.log.level, form=settings.log.format)

    async def run() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with emulator_for(settings.emulator) as emulator:
            sys.stderr.write(f"the emulator listens on {emulator.url}\n")
            await ended.wait()

    _loop(run())
    return DRAINED


def _publish(options: argparse.Namespace, flags: Sequence[str]) -> int:
    from bridge.rocketmq.message import KEYS, SHARDING_KEY, START_DELIVER_TIME  # noqa: PLC0415 - as above
    from bridge.service import client_for  # noqa: PLC0415 - as above

    settings = load(PublishSettings, flags).settings
    logs.configure(level=settings.log.level, form=settings.log.format)
    endpoint = settings.rocketmq
    properties = {KEYS: options.keys, SHARDING_KEY: options.sharding_key}
    properties[START_DELIVER_TIME] = None if options.deliver_at is None else str(options.deliver_at)
    for pair in options.property:
        name, _, properties[name] = pair.partition("=")
    properties = {name: value for name, value in properties.items() if value is not None}
    bodies = [options.body] if options.body is not None else (text for line in sys.stdin if (text := line.rstrip("\n")))

    async def run() -> None:
        async with client_for(endpoint, max_connections=1) as client:
            for body in bodies:
                published = await client.publish(
                    endpoint.topic, body=body, instance=endpoint.instance_id, tag=options.tag, properties=properties
                )
                print(published.message_id, flush=True)

    _loop(run())
    return DRAINED


def _config(_: argparse.Namespace, flags: Sequence[str]) -> int:
    loaded = load(RunSettings, flags)
    for setting in shown(loaded.settings):
        value = loaded.values.get(setting.name)
        print(f"{setting.name}={setting.value}  # {value.given_by if value else 'default'}")
    return DRAINED


def _sinks(_: argparse.Namespace, flags: Sequence[str]) -> int:
    if flags:
        raise FixSettingsError("bridge sinks takes no settings: it lists them")
    for name, entry_point in sinks.installed().items():
        package = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else entry_point.value
        print(f"{name}  ({package})")
        try:
            model = sinks.find(name).Settings
        except FixSettingsError as problem:
            print(f"  {problem}")
            continue
        for line in _settings_lines(settings_of(model, f"{PREFIX}{name.upper()}__")):
            print(line)
    return DRAINED
