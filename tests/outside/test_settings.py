import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge import cli
from bridge.environment import proxy_for, without_credentials
from bridge.errors import FixSettingsError
from bridge.loading import Loaded, load
from bridge.settings import EmulatorSettings, PublishSettings, RunSettings
from bridge.variables import is_secret, settings_of
from outside import plugin
from outside.command import bridge

REQUIRED = {
    "BRIDGE_ROCKETMQ__ENDPOINT": "http://1.mqrest.cn-hangzhou.aliyuncs.com",
    "BRIDGE_ROCKETMQ__TOPIC": "orders",
    "BRIDGE_ROCKETMQ__GROUP_ID": "GID_a",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "S3CRET",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory."""
    return tmp_path


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    return secrets


def loaded(folder: Path, more: Mapping[str, str] | None = None, flags: Sequence[str] = ()) -> Loaded[RunSettings]:
    return load(RunSettings, flags, environ={**REQUIRED, **(more or {})}, folder=folder)


def mistakes(folder: Path, more: Mapping[str, str] | None = None, flags: Sequence[str] = ()) -> list[str]:
    with pytest.raises(FixSettingsError) as raised:
        loaded(folder, more, flags)
    return str(raised.value).splitlines()


# ---- where values come from ------------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_environment_that_over_dotenv_and_that_over_a_secret(folder: Path, secrets: Path) -> None:
    environ = {"BRIDGE_SECRETS_DIR": str(secrets)}
    (secrets / "BRIDGE_EVENT__TYPE").write_text("from a secret\n")
    assert loaded(folder, environ).settings.event.type == "from a secret"
    (folder / ".env").write_text("BRIDGE_EVENT__TYPE=from .env\n")
    assert loaded(folder, environ).settings.event.type == "from .env"
    environ["BRIDGE_EVENT__TYPE"] = "from the environment"
    assert loaded(folder, environ).settings.event.type == "from the environment"
    assert loaded(folder, environ, ["--event.type", "from a flag"]).settings.event.type == "from a flag"


def test_each_value_is_taken_from_its_own_source(folder: Path, secrets: Path) -> None:
    (secrets / "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET").write_text("from-a-secret")
    (folder / ".env").write_text("BRIDGE_EVENT__TYPE=from .env\nBRIDGE_ROCKETMQ__ACCESS_KEY_SECRET=from-.env\n")
    environ = {
        "BRIDGE_SECRETS_DIR": str(secrets),
        "BRIDGE_LOG__LEVEL": "error",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "",
        "BRIDGE_EVENT__TYPE": "",
    }
    got = loaded(folder, environ, ["--log.format=json", "--event.type="])
    assert got.settings.rocketmq.access_key_secret == SecretStr("from-.env")
    assert (got.settings.event.type, got.settings.log.level, got.settings.log.format) == ("from .env", "error", "json")
    givers = {name: got.values[name].given_by for name in ("BRIDGE_EVENT__TYPE", "BRIDGE_LOG__LEVEL", "BRIDGE_LOG__FORMAT")}
    assert givers == {
        "BRIDGE_EVENT__TYPE": ".env",
        "BRIDGE_LOG__LEVEL": "the environment",
        "BRIDGE_LOG__FORMAT": "the flag --log.format",
    }


@pytest.mark.parametrize("source", ["flag", "environment", ".env"])
def test_the_folder_of_secrets_is_named_like_any_other_setting(folder: Path, secrets: Path, source: str) -> None:
    (secrets / "bridge_event__type").write_text("from a secret")
    if source == ".env":
        (folder / ".env").write_text(f"BRIDGE_SECRETS_DIR={secrets}\n")
    environ = {"BRIDGE_SECRETS_DIR": str(secrets)} if source == "environment" else {}
    flags = ["--secrets-dir", str(secrets)] if source == "flag" else []
    assert loaded(folder, environ, flags).settings.event.type == "from a secret"


def test_a_dotenv_that_an_editor_began_with_a_byte_order_mark_is_read_whole(folder: Path) -> None:
    (folder / ".env").write_text("\ufeffBRIDGE_EVENT__TYPE=first\n")
    assert loaded(folder).settings.event.type == "first"


def test_a_flag_may_stand_alone_for_true_and_its_value_may_look_like_a_flag(folder: Path) -> None:
    got = loaded(folder, flags=["--rocketmq.ordered", "--rocketmq.tag", "--x", "--rocketmq.access-key-secret", "--log.level"])
    assert (got.settings.rocketmq.ordered, got.settings.rocketmq.tag) == (True, "--x")
    assert got.settings.rocketmq.access_key_secret == SecretStr("--log.level")


def test_what_nobody_sets_has_the_documented_default(folder: Path) -> None:
    """The table of design.md 6."""
    rocketmq = {"ORDERED": False, "BATCH_SIZE": 16, "WAIT_SECONDS": 30, "MAX_POLLERS": 8}
    absent = {"INSTANCE_ID": None, "TAG": None, "CA_FILE": None, "SECURITY_TOKEN": None}
    expected: dict[str, Any] = {
        **{f"BRIDGE_ROCKETMQ__{name}": value for name, value in (rocketmq | absent).items()},
        "BRIDGE_SINK": "stdout",
        "BRIDGE_EVENT__ENVELOPE": "cloudevents",
        "BRIDGE_EVENT__TYPE": "com.aliyun.rocketmq.message",
        "BRIDGE_EVENT__SOURCE": None,
        "BRIDGE_EVENT__DATA": "auto",
        "BRIDGE_EVENT__STRICT_MD5": False,
        "BRIDGE_DELIVERY__LEASE_MARGIN_SECONDS": None,
        "BRIDGE_DELIVERY__MAX_BYTES": 16 * 1024 * 1024,
        "BRIDGE_HTTP__HOST": "0.0.0.0",  # noqa: S104 - a default, not a socket
        "BRIDGE_HTTP__PORT": 8080,
        "BRIDGE_LOG__LEVEL": "info",
        "BRIDGE_LOG__FORMAT": None,
        "BRIDGE_SHUTDOWN__GRACE_SECONDS": 45,
    }
    settings = loaded(folder).settings
    assert {name: _value(settings, name) for name in expected} == expected
    emulator = load(EmulatorSettings, environ={}, folder=folder).settings
    expected = {
        "BRIDGE_EMULATOR__PORT": 8088,
        "BRIDGE_EMULATOR__ACCESS_KEY_ID": "AKID",
        "BRIDGE_EMULATOR__TOPICS": None,
        "BRIDGE_EMULATOR__INVISIBLE_SECONDS": 300,
        "BRIDGE_EMULATOR__ORDERED_INVISIBLE_SECONDS": 60,
    }
    assert {name: _value(emulator, name) for name in expected} == expected
    assert emulator.emulator.access_key_secret.get_secret_value() == "SECRET"


def _value(settings: object, name: str) -> object:
    for level in name.removeprefix("BRIDGE_").lower().split("__"):
        settings = getattr(settings, level)
    return settings


# ---- mistakes --------------------------------------------------------------------------------------------------------


async def test_every_mistake_is_named_at_once_and_nothing_but_the_mistakes(folder: Path) -> None:
    """Through the command: exit code 2, a line for each, no stack trace."""
    wrong = {
        **REQUIRED,
        "BRIDGE_ROCKETMQ__TOPIC": "no spaces, please",
        "BRIDGE_ROCKETMQ__BATCH_SIZE": "17",
        "BRIDGE_SINK": "kafkaesque",
        "BRIDGE_ROCKETMQ__GROUP": "GID_a",
        "BRIDGE_HTTP__PORT": "http",
    }
    del wrong["BRIDGE_ROCKETMQ__ENDPOINT"]
    result = await bridge("run", "--log.format", "xml", folder=folder, settings=wrong)
    names = {line.removeprefix("bridge: ").split(":")[0].split(",")[0].split(" ")[0] for line in result.err.splitlines()}
    assert (result.code, result.out) == (2, "")
    assert names == {name for name in wrong if wrong[name] != REQUIRED.get(name)} | {
        "BRIDGE_ROCKETMQ__ENDPOINT",
        "BRIDGE_LOG__FORMAT",
    }
    assert "installed are: " in result.err
    assert "stdout" in result.err


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("BRIDGE_ROCKETMQ__ACCESS_KEY_SECERT", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"),
        ("BRIDGE_ROCKET_MQ__TOPIC", "BRIDGE_ROCKETMQ__TOPIC"),
        ("BRIDGE_SHUTDOWN__GRACE", "BRIDGE_SHUTDOWN__GRACE_SECONDS"),
        ("BRIDGE_EMULATOR__FAULTS__CUT_AFTR", "BRIDGE_EMULATOR__FAULTS__CUT_AFTER"),
    ],
)
def test_an_unknown_name_is_a_mistake_that_names_the_nearest_known_one(folder: Path, wrong: str, meant: str) -> None:
    (line,) = mistakes(folder, {wrong: "S0MEVALUE"})
    assert line.startswith(f"{wrong}, given by the environment, ")
    assert line.endswith(f"did you mean {meant}?")
    assert "S0MEVALUE" not in line
    (line,) = mistakes(folder, flags=["--" + wrong.removeprefix("BRIDGE_").replace("__", ".").lower(), "S0MEVALUE"])
    assert line.endswith(f"did you mean {meant}?")
    assert "S0MEVALUE" not in line


def test_a_flag_of_one_level_that_is_unknown_is_a_mistake_too(folder: Path) -> None:
    (line,) = mistakes(folder, flags=["--snik=kafka"])
    assert line == "BRIDGE_SNIK, given by the flag --snik, is no setting; did you mean BRIDGE_SINK?"


def test_what_kubernetes_injects_for_a_service_named_bridge_is_ignored(folder: Path) -> None:
    injected = {
        "BRIDGE_PORT": "tcp://10.0.0.1:8080",
        "BRIDGE_SERVICE_HOST": "10.0.0.1",
        "BRIDGE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "BRIDGE_HTTP_PORT": "tcp://10.0.0.2:80",
    }
    assert loaded(folder, injected).settings.model_dump() == loaded(folder).settings.model_dump()


def test_the_settings_of_another_command_are_no_mistake(folder: Path) -> None:
    load(PublishSettings, environ={**REQUIRED, "BRIDGE_EMULATOR__PORT": "1", "BRIDGE_HTTP__PORT": "1"}, folder=folder)


THEIR_SINK = """
from pydantic import BaseModel, SecretStr, field_validator
from bridge.sinks import CONFIRMED, Sink

class TheirSettings(BaseModel):
    url: str
    password: SecretStr | None = None
    headers: dict[str, SecretStr] | None = None

class TheSink(Sink):
    Settings = TheirSettings
    async def send(self, events, deadline):
        return [CONFIRMED] * len(events)
"""


@pytest.fixture
def their_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"theirs{os.getpid()}"
    monkeypatch.syspath_prepend(plugin.install(tmp_path / "site", name=name, code=THEIR_SINK))
    return name


def test_the_settings_of_a_sink_that_is_installed_and_not_chosen_are_no_mistake(folder: Path, their_sink: str) -> None:
    prefix = f"BRIDGE_{their_sink.upper()}__"
    given = {f"{prefix}URL": "x", f"{prefix}ANYTHING": "x"}
    assert loaded(folder, given).settings.model_dump() == loaded(folder).settings.model_dump()
    (line,) = mistakes(folder, {"BRIDGE_STDOUT__URL": "x"})
    assert line.startswith("BRIDGE_STDOUT__URL, given by the environment, is no setting")


def test_a_chosen_sink_reads_its_own_settings_and_hides_what_holds_a_secret(folder: Path, their_sink: str) -> None:
    prefix = f"BRIDGE_{their_sink.upper()}__"
    chosen = {"BRIDGE_SINK": their_sink}
    got = loaded(folder, {**chosen, f"{prefix}URL": "http://h", f"{prefix}PASSWORD": "S3CRET"}).settings
    assert _value(got.of_sink(their_sink), "URL") == "http://h"
    load(PublishSettings, environ={**REQUIRED, **chosen, f"{prefix}URL": "http://h"}, folder=folder)
    first, second = mistakes(folder, {**chosen, f"{prefix}HEADERS": "Authorization: S3CRET", f"{prefix}URL": ""})
    assert first.startswith(f"{prefix}URL is not set, and is required")
    assert second.startswith(f"{prefix}HEADERS: what is given, given by the environment: ")
    assert "S3CRET" not in second


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("1.mqrest.cn-hangzhou.aliyuncs.com", "should begin with http:// or https:// and name a host"),
        ("tcp://h", "should begin with http:// or https:// and name a host"),
        ("https://", "should begin with http:// or https:// and name a host"),
        ("http://a..b", "should name a host that can exist"),
        (f"http://{'a' * 64}.b", "should name a host that can exist"),
        ("http://é..com", "should name a host that can exist"),
        ("http://[::1]x", "should name a host that can exist"),
        ("http://h/topics", "without path, query or user"),
        ("http://h?", "without path, query or user"),
        ("http://h#", "without path, query or user"),
        ("http://h\n", "without path, query or user"),
        ("http://user:S3CRET@h", "without path, query or user"),
        ("http://:S3CRET@h", "without path, query or user"),
        ("user:S3CRET@h", "should begin with http:// or https://"),
        ("http://h:70000", "Port out of range"),
        ("http://[::1", "Invalid IPv6 URL"),
    ],
)
def test_an_endpoint_is_scheme_and_host_alone(folder: Path, endpoint: str, says: str) -> None:
    (line,) = mistakes(folder, {"BRIDGE_ROCKETMQ__ENDPOINT": endpoint})
    assert says in line
    assert "S3CRET" not in line


def test_a_slash_at_the_endpoints_end_does_no_harm(folder: Path) -> None:
    got = loaded(folder, {"BRIDGE_ROCKETMQ__ENDPOINT": "https://h:8443/"})
    assert got.settings.rocketmq.endpoint == "https://h:8443"


@pytest.mark.parametrize("name", ["BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET", "BRIDGE_ROCKETMQ__SECURITY_TOKEN"])
def test_a_key_that_can_stand_in_no_header_is_a_mistake(folder: Path, name: str) -> None:
    (line,) = mistakes(folder, {name: "two\nlines"})
    assert line.startswith(f"{name}: what is given, given by the environment: should be one word")


KAFKA = {"BRIDGE_SINK": "kafka", "BRIDGE_KAFKA__TOPIC": "orders", "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": "h:9092"}
OAUTHBEARER = {
    "BRIDGE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "BRIDGE_KAFKA__SASL_MECHANISM": "OAUTHBEARER",
    "BRIDGE_KAFKA__SASL_OAUTHBEARER_CLIENT_ID": "id",
    "BRIDGE_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": "secret",
}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BRIDGE_KAFKA__BOOTSTRAP_SERVERS", "h:abc", "should be host:port"),
        ("BRIDGE_KAFKA__BOOTSTRAP_SERVERS", "h:9092,h:99999", "should be host:port"),
        ("BRIDGE_KAFKA__BOOTSTRAP_SERVERS", "[::1", "should be host:port"),
        ("BRIDGE_KAFKA__REQUEST_TIMEOUT_MS", "9999999999", "should be less than"),
        ("BRIDGE_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "http://h:99999/", "a valid host and port"),
        ("BRIDGE_MANAGEMENT__ENDPOINT", "[::1", "Invalid IPv6 URL"),
        ("BRIDGE_DEAD_LETTER__SINK", " ", "should name a sink, or not be set"),
        ("BRIDGE_LEDGER__REDIS_URL", "redis://user:12#S3CRET@h:6379/0", "percent-encoded"),
    ],
)
def test_what_could_not_be_used_when_it_is_needed_is_a_mistake_at_the_start(
    folder: Path, name: str, value: str, says: str
) -> None:
    oauthbearer = OAUTHBEARER if "OAUTHBEARER" in name else {}
    (line,) = mistakes(folder, {**KAFKA, **oauthbearer, name: value})
    assert line.startswith(f"{name}: ")
    assert says in line
    assert "S3CRET" not in line


def test_the_name_of_the_sink_of_dead_letters_is_taken_without_blanks(folder: Path) -> None:
    given = {"BRIDGE_DEAD_LETTER__SINK": "webhook ", "BRIDGE_DEAD_LETTER__WEBHOOK__URL": "http://h/"}
    assert loaded(folder, given).settings.dead_letter.sink == "webhook"


def test_a_misspelt_setting_that_the_sink_of_dead_letters_would_take_over_is_a_mistake(folder: Path) -> None:
    letters = {"BRIDGE_DEAD_LETTER__SINK": "kafka", "BRIDGE_DEAD_LETTER__KAFKA__TOPIC": "letters"}
    given = {**KAFKA, **letters, "BRIDGE_SINK": "stdout"}
    loaded(folder, given)
    (line,) = mistakes(folder, {**given, "BRIDGE_KAFKA__COMPRESSOIN": "gzip"})
    assert line.endswith("did you mean BRIDGE_KAFKA__COMPRESSION?")


def test_an_overlong_request_line_is_named_with_the_other_mistakes(folder: Path) -> None:
    first, second = mistakes(folder, {"BRIDGE_ROCKETMQ__TAG": "||".join(["标签"] * 100), "BRIDGE_HTTP__PORT": "x"})
    assert first.startswith("BRIDGE_ROCKETMQ__TAG: ")
    assert "the service takes 1,024" in first
    assert second.startswith("BRIDGE_HTTP__PORT: 'x'")


@pytest.mark.parametrize("path", ["nowhere.pem", "a" * 5_000, "."])
def test_a_ca_file_that_is_none_is_a_mistake(folder: Path, path: str) -> None:
    (line,) = mistakes(folder, {"BRIDGE_ROCKETMQ__CA_FILE": path})
    assert "should be the path of a file" in line


async def test_a_ca_file_without_a_certificate_is_a_mistake(folder: Path) -> None:
    (folder / "ca.pem").write_text("no certificate")
    environ = {**REQUIRED, "BRIDGE_ROCKETMQ__CA_FILE": "ca.pem", "BRIDGE_HTTP__PORT": "0", "BRIDGE_HTTP__HOST": "127.0.0.1"}
    result = await bridge("run", folder=folder, settings=environ)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("bridge: BRIDGE_ROCKETMQ__CA_FILE: 'ca.pem' holds no CA in PEM")


def test_what_cannot_be_read_is_named_with_the_other_mistakes(folder: Path, secrets: Path) -> None:
    (folder / ".env").write_bytes(b"BRIDGE_EVENT__TYPE=\xff")
    (secrets / "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET").write_bytes(b"\xff\xfe")
    (secrets / "BRIDGE_ROCKETMQ__SECURITY_TOKEN").write_bytes(b"x" * 70_000)
    (secrets / "BRIDGE_EVENT__TYPE").symlink_to(secrets / "BRIDGE_EVENT__SOURCE")
    (secrets / "unrelated").write_bytes(b"\xff")
    lines = mistakes(folder, {"BRIDGE_SECRETS_DIR": str(secrets), "BRIDGE_HTTP__PORT": "x"})
    assert [line.split(": ")[0] for line in lines] == [
        "reading .env",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET",
        "BRIDGE_ROCKETMQ__SECURITY_TOKEN",
        "BRIDGE_HTTP__PORT",
    ]
    assert "xff" not in "".join(lines)


def test_a_secret_that_may_not_be_read_is_a_mistake(folder: Path, secrets: Path) -> None:
    secret = secrets / "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"
    secret.write_text("S3CRET")
    really_open = Path.open

    def deny(path: Path, *arguments: Any, **options: Any) -> Any:  # the tests may run as root, who may read everything
        if path == secret:
            raise PermissionError(13, "Permission denied")
        return really_open(path, *arguments, **options)

    with patch.object(Path, "open", deny):
        lines = mistakes(folder, {"BRIDGE_SECRETS_DIR": str(secrets)})
    assert lines == [f"{secret.name}: reading the file {str(secret)!r}: Permission denied"]


def test_a_folder_of_secrets_that_was_named_and_is_not_there_is_a_mistake(folder: Path) -> None:
    (line,) = mistakes(folder, {"BRIDGE_SECRETS_DIR": str(folder / "nowhere")})
    assert line == f"BRIDGE_SECRETS_DIR: there is no folder {str(folder / 'nowhere')!r}"


def test_a_word_that_belongs_to_no_flag_is_a_mistake_and_is_not_repeated(folder: Path) -> None:
    (line,) = mistakes(folder, flags=["--rocketmq.access-key-secret", "S3", "CRET"])
    assert "belongs to no flag" in line
    assert "CRET" not in line
    (line,) = mistakes(folder, flags=["-rocketmq.access-key-secret=S3CRET"])
    assert line.startswith("-rocketmq.access-key-secret is no flag; ")
    assert "S3CRET" not in line
    (line,) = mistakes(folder, flags=["--rocketmq.access-key-secret"])
    assert "the flag --rocketmq.access-key-secret has no value" in line


# ---- secrets ---------------------------------------------------------------------------------------------------------


def printed(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """What a command prints, on stdout and stderr, and its exit code."""
    text = StringIO()
    with patch.dict(os.environ, environ, clear=True), redirect_stdout(text), redirect_stderr(text):
        return cli.main(arguments), text.getvalue()


_SECRET = st.one_of(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)


@settings(max_examples=60)
@given(secret=_SECRET, command=st.sampled_from(["config", "run"]), way=st.sampled_from(["flag", "environment", "file"]))
@example(secret="--help", command="config", way="flag")
@example(secret="@ignored\n", command="run", way="flag")
def test_what_is_printed_does_not_depend_on_a_secret(
    tmp_path_factory: pytest.TempPathFactory, secret: str, command: str, way: str
) -> None:
    """So nothing of it can be in there, whatever its characters."""
    name = "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"
    folder = tmp_path_factory.getbasetemp() / "any-secret"
    folder.mkdir(exist_ok=True)
    if way == "file":
        secret = secret.strip()
    assume(secret)
    valid = secret.isascii() and secret.isprintable() and " " not in secret

    def output(text: str) -> tuple[int, str]:
        environ = {**REQUIRED, "BRIDGE_SECRETS_DIR": str(folder)}
        del environ[name]
        (folder / name).write_bytes(text.encode() if way == "file" else b"")
        if way == "environment":
            environ[name] = text
        flags = ["--rocketmq.access-key-secret", text] if way == "flag" else []
        # `run` is kept from running by another setting that is wrong
        wrong = ["--rocketmq.batch-size=0"] if command == "run" else []
        return printed([command, *flags, *wrong], environ)

    code, text = output(secret)
    assert (code, text) == output("valid" if valid else "not valid")
    assert code == (2 if command == "run" or not valid else 0)


def test_no_repr_shows_a_secret(folder: Path) -> None:
    got = loaded(folder, {"BRIDGE_ROCKETMQ__SECURITY_TOKEN": "T0KEN"})
    shown = f"{got!r} {got.settings!r} {got.settings} {got.values} {got.settings.model_dump()}"
    assert "S3CRET" not in shown
    assert "T0KEN" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h:1/path", "https://h:1/path"),
        ("https://h/path?token=S3CRET", "https://h/path?…"),
        ("https://h/path#token=S3CRET", "https://h/path?…"),
        ("redis://user:S3CRET@h/0", "redis://…@h/0"),
        ("redis://user:S3/CR@ET@h/0", "redis://…@h/0"),
        ("redis://user:S3?CRET@h/0", "redis://…@…"),
        ("https://h/?mail=S3@CRET", "https://…@…"),
        ("user:S3CRET@h", "…@h"),
        ("a mail to x@y", "a mail to x@y"),
        ("what? #1", "what? #1"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_a_url_is_shown_without_user_information_and_query(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_config_shows_what_is_in_force_and_where_it_comes_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / ".env").write_text("BRIDGE_LOG__LEVEL=error\n")
    source = {"BRIDGE_EVENT__SOURCE": "https://user:S3CRET@h/?key=S3CRET"}
    code, text = printed(["config", "--rocketmq.tag", "TagA||TagB"], {**REQUIRED, **source})
    lines = text.splitlines()
    assert code == 0
    assert len(lines) == len(settings_of(RunSettings))
    assert "BRIDGE_ROCKETMQ__TAG=TagA||TagB  # the flag --rocketmq.tag" in lines
    assert "BRIDGE_LOG__LEVEL=error  # .env" in lines
    assert "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET=********  # the environment" in lines
    assert "BRIDGE_EVENT__SOURCE=https://…@h/?…  # the environment" in lines
    assert "BRIDGE_HTTP__PORT=8080  # default" in lines
    assert "S3CRET" not in text


def test_config_says_of_what_dead_letters_take_over_whose_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    letters = {"BRIDGE_DEAD_LETTER__SINK": "kafka", "BRIDGE_DEAD_LETTER__KAFKA__TOPIC": "letters"}
    _, text = printed(["config"], {**REQUIRED, **letters, "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": "k:9092"})
    taken_over = "BRIDGE_DEAD_LETTER__KAFKA__BOOTSTRAP_SERVERS=k:9092  # BRIDGE_KAFKA__BOOTSTRAP_SERVERS, the environment"
    assert taken_over in text.splitlines()


# ---- any environment at all ------------------------------------------------------------------------------------------

_KNOWN = {name: is_secret(about) for model in (RunSettings, EmulatorSettings) for name, about in settings_of(model).items()}
_TEXT = st.one_of(
    st.text(max_size=50),
    st.sampled_from(
        ["0", "-1", "1e309", "nan", "inf", "true", "stdout", "run", "9" * 5_000, "{}", "[", "\0", "\udcff", "a" * 5_000]
    ),
    st.from_regex(r"\A\d{1,400}(\.\d+)?([KMGTPE]i?B|s)?\Z"),
    st.from_regex(r"\Ahttps?://[^/]{0,20}(/.*)?\Z"),
)
_NAME = st.one_of(
    st.sampled_from(sorted(_KNOWN)),
    st.builds("BRIDGE_{}__{}".format, st.text(max_size=8), st.text(max_size=8)),
    st.sampled_from(sorted(_KNOWN)).map(str.lower),
    st.sampled_from(["BRIDGE_", "BRIDGE___", "BRIDGE_SECRETS_DIR", "BRIDGE_ROCKETMQ", "BRIDGE_SINK__X"]),
)


def _recognisable(environ: Mapping[str, str]) -> dict[str, str]:
    """A secret isn't just what messages say anyhow."""
    return {name: f"{text}hunter2" if _KNOWN.get(name.upper()) else text for name, text in environ.items()}


@settings(max_examples=200)
@given(
    environ=st.dictionaries(_NAME, _TEXT, max_size=6).map(_recognisable),
    flags=st.lists(st.one_of(_TEXT, st.builds("--{}={}".format, st.text(max_size=8), _TEXT)), max_size=3),
    model=st.sampled_from([RunSettings, EmulatorSettings]),
)
def test_any_environment_either_loads_or_is_explained(
    tmp_path_factory: pytest.TempPathFactory,
    environ: dict[str, str],
    flags: list[str],
    model: type[RunSettings] | type[EmulatorSettings],
) -> None:
    try:
        got = load(model, flags, environ={**REQUIRED, **environ}, folder=tmp_path_factory.getbasetemp())
    except FixSettingsError:
        return
    assert isinstance(got.settings, model)


# ---- proxies ---------------------------------------------------------------------------------------------------------


def test_the_usual_proxy_variables_are_honoured() -> None:
    environ = {"https_proxy": "http://proxy:3128", "HTTP_PROXY": "proxy:3129", "NO_PROXY": "10.0.0.1,.internal"}
    with patch.dict(os.environ, environ, clear=True):
        assert proxy_for("https://1.mqrest.cn-hangzhou.aliyuncs.com") == "http://proxy:3128"
        assert proxy_for("http://1.mqrest.cn-hangzhou.aliyuncs.com") == "http://proxy:3129"
        assert proxy_for("http://10.0.0.1:8080") is None
        assert proxy_for("https://mq.internal") is None
    with patch.dict(os.environ, {}, clear=True):
        assert proxy_for("https://1.mqrest.cn-hangzhou.aliyuncs.com") is None


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8088", "http://localhost:8088", "http://[::1]:8088"])
def test_this_machine_is_not_reached_through_a_proxy(endpoint: str) -> None:
    with patch.dict(os.environ, {"HTTP_PROXY": "http://proxy:3128"}, clear=True):
        assert proxy_for(endpoint) is None


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("socks5://user:S3CRET@proxy", "'socks5://…@proxy' is no http:// or https:// proxy"),
        ("http://user:S3CRET@", "'http://…@' "),
        ("http://proxy:port", "'http://proxy:port' can't be read"),
        ("http://proxy:99999", "'http://proxy:99999' can't be read"),
        ("http://user:S3/CRET@proxy:3128", "'http://…@proxy:3128' can't be read"),
        ("http://user:S3CRET密@proxy:3128", "'http://…@proxy:3128' can't be read"),
        ("http://user:S3CRET℀@proxy:3128", "'http://…@proxy:3128' can't be read"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_mistake_without_its_password(proxy: str, shown: str) -> None:
    with patch.dict(os.environ, {"HTTPS_PROXY": proxy}, clear=True), pytest.raises(FixSettingsError) as raised:
        proxy_for("https://h")
    assert str(raised.value).startswith(f"HTTPS_PROXY: {shown}")
    assert "CRET" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
