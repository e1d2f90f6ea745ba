"""The way to the service, and what it thinks of us: each mistake is named with its cure, and nothing is consumed."""

import re
import ssl
from pathlib import Path

import pytest
import trustme

from bridge.check import acknowledging
from bridge.check.acknowledging import NO_HANDLE, Answer, concluded
from bridge.emulator.handles import parse_handle
from bridge.emulator.server import Emulator
from bridge.errors import FixSettingsError
from bridge.rocketmq.client import Patience
from bridge.settings import RocketMQ
from check.looking import GROUP, TOPIC, closed_port, looked, statuses
from rocketmq.servers import Line, answering, http, serving

BEYOND_CONNECTION = dict.fromkeys(("endpoint", "clock", "access_key", "topic", "permission", "group"), "unknown")
BEYOND_ENDPOINT = dict.fromkeys(("clock", "access_key", "topic", "permission", "group"), "unknown")
BEYOND_CLOCK = dict.fromkeys(("access_key", "topic", "permission", "group"), "unknown")
BEYOND_KEY = dict.fromkeys(("topic", "permission", "group"), "unknown")


# ---- nothing is consumed ---------------------------------------------------------------------------------------------


async def test_when_all_is_well_only_what_a_poll_would_tell_is_unknown(emulator: Emulator, tmp_path: Path) -> None:
    found = await looked(emulator, tmp_path)
    assert statuses(found) == {"group": "unknown"}
    assert "unknown until the first poll" in found["group"].text
    assert found["clock"].text == "this machine's clock is the service's, to a second"


async def test_messages_are_left_as_they_are_and_no_poll_is_made(emulator: Emulator, tmp_path: Path) -> None:
    for number in range(3):
        emulator.publish(TOPIC, f"message {number}")
    (leased,) = emulator.broker.consume(emulator.now(), TOPIC, GROUP)
    before = emulator.broker.group_ids(emulator.now(), TOPIC, GROUP)

    await looked(emulator, tmp_path)

    assert emulator.broker.group_ids(emulator.now(), TOPIC, GROUP) == before
    assert {call.kind: number for call, number in emulator.broker.calls.items()} == {"ack": 1}
    assert emulator.broker.ack(emulator.now(), TOPIC, GROUP, [leased.receipt_handle]) == []


async def test_a_group_does_not_come_into_being_by_a_check(emulator: Emulator, tmp_path: Path) -> None:
    emulator.publish(TOPIC, "message")
    await looked(emulator, tmp_path)
    (book,) = emulator.broker.books(emulator.now())
    assert book.groups == {}


def test_the_handle_that_is_acknowledged_was_never_issued_by_any_broker() -> None:
    assert parse_handle(NO_HANDLE) is None
    assert not re.match("(?i)[0-9a-f]{32}-", NO_HANDLE)  # how each begins (protocol.md 2.3)


# ---- the way there ---------------------------------------------------------------------------------------------------


async def test_a_name_that_does_not_resolve(emulator: Emulator, tmp_path: Path) -> None:
    found = await looked(emulator, tmp_path, rocketmq__endpoint="http://1.mqrest.nowhere.invalid")
    assert statuses(found) == {"name": "wrong", "connection": "unknown", **BEYOND_CONNECTION}
    assert re.search(r"1\.mqrest\.nowhere\.invalid does not resolve.*check BRIDGE_ROCKETMQ__ENDPOINT", found["name"].text)
    assert found["permission"].text == "see name"


async def test_a_port_that_nobody_listens_on(emulator: Emulator, tmp_path: Path) -> None:
    found = await looked(emulator, tmp_path, rocketmq__endpoint=f"http://127.0.0.1:{closed_port()}")
    assert statuses(found) == {"connection": "wrong", **BEYOND_CONNECTION}
    assert re.search("refused.*check BRIDGE_ROCKETMQ__ENDPOINT.*firewall", found["connection"].text)


async def test_the_tcp_endpoint_which_drops_whoever_speaks_http(emulator: Emulator, tmp_path: Path) -> None:
    async def drop(line: Line) -> None:
        await line.request()

    async with serving(drop) as server:
        found = await looked(emulator, tmp_path, rocketmq__endpoint=server.url)
    assert statuses(found) == {"endpoint": "wrong", **BEYOND_ENDPOINT}
    assert re.search("closed without an answer.*HTTP endpoint .*mqrest.*not the TCP one", found["endpoint"].text)


async def test_what_never_answers(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(line: Line) -> None:
        await line.reader.read()

    monkeypatch.setattr(acknowledging, "PATIENCE", Patience(write_silence=0.2))
    async with serving(say_nothing) as server:
        found = await looked(emulator, tmp_path, rocketmq__endpoint=server.url)
    assert statuses(found) == {"endpoint": "wrong", **BEYOND_ENDPOINT}
    assert re.search("no whole answer in time; is BRIDGE_ROCKETMQ__ENDPOINT", found["endpoint"].text)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (http(404, b"<html>nothing here</html>"), "404.*is the endpoint the service's HTTP one"),
        (http(204), "accepts an ack of a receipt handle that doesn't exist.*BRIDGE_ROCKETMQ__ENDPOINT"),
        (http(502, b"<html>bad gateway</html>"), "502.*check again in a minute"),
    ],
)
async def test_what_is_not_the_service(emulator: Emulator, tmp_path: Path, answer: bytes, says: str) -> None:
    async with answering(answer) as server:
        found = await looked(emulator, tmp_path, rocketmq__endpoint=server.url)
    assert statuses(found) == {"endpoint": "wrong", **BEYOND_ENDPOINT}
    assert re.search(says, found["endpoint"].text)


async def test_https_and_a_ca_of_ones_own(emulator: Emulator, tmp_path: Path) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    empty = tmp_path / "empty.pem"
    empty.touch()
    refusal = b"<Errors><Error><ErrorCode>ReceiptHandleError</ErrorCode><ReceiptHandle>x</ReceiptHandle></Error></Errors>"
    async with answering(http(404, refusal), tls=context) as server:
        stranger = await looked(emulator, tmp_path, rocketmq__endpoint=server.url)
        no_ca = await looked(emulator, tmp_path, rocketmq__endpoint=server.url, rocketmq__ca_file=str(empty))
        known = await looked(emulator, tmp_path, rocketmq__endpoint=server.url, rocketmq__ca_file=str(tmp_path / "ca.pem"))
    assert statuses(stranger) == statuses(no_ca) == {"endpoint": "wrong", **BEYOND_ENDPOINT}
    assert re.search("not trusted.*see BRIDGE_ROCKETMQ__CA_FILE", stranger["endpoint"].text)
    assert re.search("BRIDGE_ROCKETMQ__CA_FILE: .* holds no CA", no_ca["endpoint"].text)
    assert statuses(known) == {"group": "unknown"}


async def test_the_way_through_a_proxy_begins_at_the_proxy(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://us:open-sesame@127.0.0.1:{closed_port()}")
    found = await looked(emulator, tmp_path, rocketmq__endpoint="http://1.mqrest.nowhere.invalid")
    assert statuses(found) == {"connection": "wrong", **BEYOND_CONNECTION}
    assert "check HTTP_PROXY" in found["connection"].text
    assert "open-sesame" not in str(found)


# ---- what the service thinks of us -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "word"), [(20, "behind"), (-20, "ahead of")])
async def test_a_clock_20_minutes_off(emulator: Emulator, tmp_path: Path, minutes: int, word: str) -> None:
    emulator.faults.clock_offset_seconds = minutes * 60
    found = await looked(emulator, tmp_path)
    assert statuses(found) == {"clock": "wrong", **BEYOND_CLOCK}
    assert re.search(rf"clock is 1,(199|200|201) s {word} the service's, .* 15 minutes .* set the clock", found["clock"].text)


async def test_a_clock_14_minutes_off_will_do_and_is_told(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.clock_offset_seconds = 14 * 60
    found = await looked(emulator, tmp_path)
    assert statuses(found) == {"group": "unknown"}
    assert re.search("8(39|40|41) s behind the service's, and 15 minutes are allowed", found["clock"].text)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rocketmq__access_key_id": "SOMEBODY"}, "InvalidAccessKeyId"),
        ({"rocketmq__access_key_secret": "GUESSED"}, "SignatureDoesNotMatch"),
    ],
)
async def test_a_wrong_key_and_a_wrong_secret(emulator: Emulator, tmp_path: Path, changes: dict[str, str], code: str) -> None:
    found = await looked(emulator, tmp_path, **changes)
    assert statuses(found) == {"access_key": "wrong", **BEYOND_KEY}
    assert re.search(f"{code}.*; check BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET", found["access_key"].text)
    assert "GUESSED" not in str(found)


async def test_an_unknown_topic_leaves_the_permission_unknown(emulator: Emulator, tmp_path: Path) -> None:
    found = await looked(emulator, tmp_path, rocketmq__topic="another")
    assert statuses(found) == {"topic": "wrong", "permission": "unknown", "group": "unknown"}
    assert re.search("TopicNotExist.*check BRIDGE_ROCKETMQ__TOPIC", found["topic"].text)


async def test_a_missing_permission_leaves_the_topic_unknown(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.ack_denied = True
    found = await looked(emulator, tmp_path)
    assert statuses(found) == {"topic": "unknown", "permission": "wrong", "group": "unknown"}
    assert re.search("AccessDenied.*grant this RAM user mq:SUB", found["permission"].text)


async def test_a_missing_permission_to_poll_shows_with_the_first_poll_alone(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.consume_denied = True
    assert statuses(await looked(emulator, tmp_path)) == {"group": "unknown"}


@pytest.mark.parametrize(("fault", "says"), [("internal_error", "InternalError"), ("throttled", "QpsLimitExceeded")])
async def test_trouble_of_the_service_is_no_mistake_of_the_settings(
    emulator: Emulator, tmp_path: Path, fault: str, says: str
) -> None:
    setattr(emulator.faults, fault, 1.0)
    found = await looked(emulator, tmp_path)
    assert statuses(found) == {"endpoint": "wrong", **BEYOND_ENDPOINT}
    assert re.search(f"{says}.*check again in a minute", found["endpoint"].text)


# ---- what an answer tells, where the emulator never gives it ---------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "clock_ahead", "wrong"),
    [
        ("SignatureDoesNotMatch", 1200.0, {"clock": "wrong", **BEYOND_CLOCK}),  # it saw the other mistake first
        ("TimeExpired", None, {"clock": "wrong", **BEYOND_CLOCK}),
        ("SubscriptionNotExist", 0.0, {"topic": "unknown", "permission": "unknown", "group": "wrong"}),
        ("InstanceNotExist", 0.0, {"topic": "wrong", "permission": "unknown", "group": "unknown"}),
        ("SomethingNew", 1200.0, {"endpoint": "wrong", **BEYOND_ENDPOINT}),
    ],
)
def test_what_is_blamed(code: str, clock_ahead: float | None, wrong: dict[str, str]) -> None:
    subscribed = RocketMQ(endpoint="http://127.0.0.1", topic=TOPIC, group_id=GROUP)
    answer = Answer(FixSettingsError(f"the service says {code}", code=code), clock_ahead)
    assert statuses({one.name: one for one in concluded(answer, subscribed, "AKID")}) == wrong


def test_a_service_that_tells_no_date_has_nothing_against_ours() -> None:
    subscribed = RocketMQ(endpoint="http://127.0.0.1", topic=TOPIC, group_id=GROUP)
    found = {one.name: one for one in concluded(Answer(), subscribed, "AKID")}
    assert statuses(found) == {"group": "unknown"}
    assert "nothing against it" in found["clock"].text
