"""Credentials that change while the bridge runs: from files, and what holds them and looks after them."""

import asyncio
import itertools
import threading
from pathlib import Path

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import BridgeError, FixSettingsError, TryAgainError
from bridge.rocketmq.client import Client
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.credentials import in_force as module
from bridge.rocketmq.credentials.files import KeyFiles
from bridge.rocketmq.credentials.in_force import CredentialsInForce
from bridge.watch.facts import Component, Status
from rocketmq.calls import CALLS, Call, failure_of, until

KEY, SECRET, TOKEN = FILES = tuple(
    f"BRIDGE_ROCKETMQ__{name}" for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN")
)


def version(number: int, *, token: bool = True) -> Credentials:
    return Credentials(
        access_key_id=f"id-{number}", access_key_secret=f"secret-{number}", security_token=f"token-{number}" if token else None
    )


OLD, NEW = version(1), version(2)


def fields(credentials: Credentials) -> dict[str, str]:
    texts = (credentials.access_key_id, credentials.access_key_secret, credentials.security_token)
    return {name: text for name, text in zip(FILES, texts, strict=True) if text}


def write(folder: Path, credentials: Credentials) -> None:
    for name, text in fields(credentials).items():
        (folder / name).write_text(f"{text}\n")


def files_of(folder: Path, given: Credentials) -> KeyFiles:
    names = {"access_key_id": KEY, "access_key_secret": SECRET, "security_token": TOKEN}
    return KeyFiles({field: folder / name for field, name in names.items() if getattr(given, field)}, given)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_new_files_are_taken_when_two_looks_have_seen_them(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    files = files_of(tmp_path, OLD)
    assert files.look(refused=False) == OLD
    write(tmp_path, NEW)
    assert files.look(refused=False) == OLD
    assert files.look(refused=False) == NEW
    assert files.look(refused=False) == NEW


@pytest.mark.parametrize("order", list(itertools.permutations(FILES)))
def test_files_that_are_replaced_one_by_one_never_give_an_old_value_with_a_new_one(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    write(tmp_path, OLD)
    files = files_of(tmp_path, OLD)
    for name in order[:-1]:
        (tmp_path / name).write_text(fields(NEW)[name])
        assert files.look(refused=False) == OLD
        with pytest.raises(TryAgainError, match="not all files have changed") as raised:
            files.look(refused=False)
        for left in set(FILES) - set(order[: order.index(name) + 1]):
            assert str(tmp_path / left) in str(raised.value)
        assert "secret-" not in str(raised.value)
    (tmp_path / order[-1]).write_text(fields(NEW)[order[-1]])
    assert [files.look(refused=False) for _ in "12"] == [OLD, NEW]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("content", "why"), [(b"", "visible"), (b"two words", "visible"), (b"\xff\xfe", "visible"), (None, "No such file")]
)
def test_a_file_that_holds_no_key_leaves_the_old_ones_in_force(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    write(tmp_path, OLD)
    files = files_of(tmp_path, OLD)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    assert files.look(refused=False) == OLD
    with pytest.raises(TryAgainError) as raised:
        files.look(refused=False)
    assert str(tmp_path) in str(raised.value)
    assert why in str(raised.value) or name == TOKEN  # a token that has gone is none, and then the key should be another
    write(tmp_path, NEW)
    assert [files.look(refused=False) for _ in "12"] == [OLD, NEW]


def test_a_key_may_get_a_token_with_its_next_rotation_and_lose_it_with_another(tmp_path: Path) -> None:
    fixed = version(1, token=False)
    write(tmp_path, fixed)
    files = files_of(tmp_path, fixed)
    (tmp_path / TOKEN).write_text("\n")  # a place that is kept for one
    assert files.look(refused=False) == fixed
    write(tmp_path, NEW)
    assert [files.look(refused=False) for _ in "12"] == [fixed, NEW]
    (tmp_path / TOKEN).unlink()
    write(tmp_path, version(3, token=False))
    assert [files.look(refused=False) for _ in "12"] == [NEW, version(3, token=False)]


def test_what_stands_in_no_file_stays(tmp_path: Path) -> None:
    given = version(1, token=False)
    (tmp_path / SECRET).write_text("secret-2")
    files = KeyFiles({"access_key_secret": tmp_path / SECRET}, given)
    found = [files.look(refused=False) for _ in "12"][-1]
    assert found == Credentials(access_key_id="id-1", access_key_secret="secret-2")


def test_a_single_file_that_was_mended_is_taken_when_the_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    files = files_of(tmp_path, OLD)
    (tmp_path / SECRET).write_text("mended")
    assert files.look(refused=True).access_key_secret == "mended"
    (tmp_path / SECRET).write_text("")
    assert files.look(refused=True).access_key_secret == "mended"


def test_a_folder_that_is_swapped_while_it_is_read_never_gives_a_mixture(tmp_path: Path) -> None:
    """As Kubernetes does it: the files are links into a folder that is itself a link, and that one is replaced."""
    for name in FILES:
        (tmp_path / name).symlink_to(f"..data/{name}")

    def swap(number: int) -> None:
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}", version(number))
        (tmp_path / "..new").symlink_to(f"..{number}")
        (tmp_path / "..new").rename(tmp_path / "..data")

    swap(1)
    files = files_of(tmp_path, OLD)
    stop = threading.Event()

    def rotate() -> None:
        for number in itertools.count(2):
            if stop.wait(0.0003):
                return
            swap(number)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    seen: list[Credentials] = []
    try:
        while len(set(seen)) < 20:
            try:
                seen.append(files.look(refused=False))
            except TryAgainError:
                continue
    finally:
        stop.set()
        rotating.join()
    wrong = [found for found in seen if found != version(int(found.access_key_id.removeprefix("id-")))]
    assert wrong == []


# ---- what holds them -------------------------------------------------------------------------------------------------


class Scripted:
    """A place where a test puts credentials, or trouble."""

    def __init__(self, found: Credentials | BridgeError) -> None:
        self.found = found
        self.period = 0.01
        self.looks: list[bool] = []
        self.open = threading.Event()
        self.open.set()

    def look(self, *, refused: bool) -> Credentials:
        self.looks.append(refused)
        assert self.open.wait(10)
        if isinstance(self.found, Credentials):
            return self.found
        raise self.found


async def test_credentials_are_given_at_once_while_somebody_looks_for_new_ones() -> None:
    place = Scripted(NEW)
    place.open.clear()
    async with CredentialsInForce(OLD, place) as credentials:
        await until(lambda: len(place.looks) == 1)
        assert credentials() == OLD
        place.open.set()
        await until(lambda: credentials() == NEW)


async def test_what_cannot_be_renewed_stays_in_force_and_is_reported_and_tried_again() -> None:
    place = Scripted(TryAgainError("the place is gone"))
    async with CredentialsInForce(OLD, place) as credentials:
        component = credentials.component = Component("credentials")
        await until(lambda: len(place.looks) >= 3)
        assert credentials() == OLD
        assert (component.status, component.last_error) == (Status.FAILING, "the place is gone")
        place.found = NEW
        await until(lambda: component.ok)
        assert credentials() == NEW


async def test_the_start_waits_no_longer_when_the_bridge_is_to_end() -> None:
    place = Scripted(NEW)
    place.open.clear()
    credentials = CredentialsInForce(None, place)
    entering = asyncio.ensure_future(credentials.__aenter__())
    await until(lambda: len(place.looks) == 1)
    assert not entering.done()
    credentials.wait_no_longer()
    await asyncio.wait_for(entering, 5)
    place.open.set()
    await credentials.__aexit__(None, None, None)


async def test_the_start_waits_for_the_first_credentials() -> None:
    async with CredentialsInForce(None, Scripted(NEW)) as credentials:
        assert credentials() == NEW


async def test_without_credentials_anywhere_there_is_no_start() -> None:
    with pytest.raises(FixSettingsError, match="nowhere"):
        async with CredentialsInForce(None, Scripted(FixSettingsError("nowhere"))):
            pytest.fail("it started")


async def test_trouble_at_the_start_is_waited_out() -> None:
    place = Scripted(TryAgainError("no network"))
    async with CredentialsInForce(None, place) as credentials:
        with pytest.raises(TryAgainError, match="no network"):
            credentials()
        place.found = NEW
        await until(lambda: _has(credentials))
        assert credentials() == NEW


async def test_a_place_that_does_not_answer_holds_up_the_start_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.01)
    monkeypatch.setattr(module, "TOO_LONG_SECONDS", 0.01)
    place = Scripted(NEW)
    place.open.clear()
    async with CredentialsInForce(None, place) as credentials:
        with pytest.raises(TryAgainError, match="no credentials yet"):
            credentials()
        await until(lambda: "takes longer" in str(_problem(credentials)))
        place.open.set()
        await until(lambda: _has(credentials))
        assert place.looks[0] is False


def _problem(credentials: CredentialsInForce) -> BridgeError | None:
    try:
        credentials()
    except BridgeError as problem:
        return problem
    return None


def _has(credentials: CredentialsInForce) -> bool:
    return _problem(credentials) is None


async def test_many_refusals_make_us_look_once() -> None:
    place = Scripted(OLD)
    place.period = 3600
    async with CredentialsInForce(OLD, place) as credentials:
        assert await asyncio.gather(*[credentials.renew(OLD) for _ in range(8)]) == [False] * 8
        place.found = NEW
        assert not await credentials.renew(OLD)
        assert place.looks == [True]


async def test_a_refusal_finds_new_credentials_at_once_and_all_who_ask_get_them() -> None:
    place = Scripted(NEW)
    place.period = 3600
    async with CredentialsInForce(OLD, place) as credentials:
        assert await asyncio.gather(*[credentials.renew(OLD) for _ in range(8)]) == [True] * 8
        assert credentials() == NEW
        assert await credentials.renew(OLD)
        assert place.looks == [True]


async def test_fixed_credentials_are_never_renewed() -> None:
    async with CredentialsInForce(OLD) as credentials:
        assert not await credentials.renew(OLD)
        assert credentials() == OLD
        assert not credentials.can_change


# ---- the client ------------------------------------------------------------------------------------------------------


@CALLS
async def test_a_call_whose_key_is_refused_is_made_once_more_with_another(emulator: Emulator, call: Call) -> None:
    emulator.access_key.key_id, emulator.access_key.secret = "id-2", "secret-2"
    place = Scripted(NEW)
    place.period = 3600
    async with (
        CredentialsInForce(OLD, place) as credentials,
        Client(emulator.url, credentials, max_connections=1, renew=credentials.renew) as client,
    ):
        await call(client)
    assert place.looks == [True]


@CALLS
async def test_a_call_whose_key_is_refused_fails_when_there_is_no_other(emulator: Emulator, call: Call) -> None:
    place = Scripted(TryAgainError("no network"))
    async with (
        CredentialsInForce(OLD, place) as credentials,
        Client(emulator.url, credentials, max_connections=1, renew=credentials.renew) as client,
    ):
        problem = await failure_of(call(client))
    assert isinstance(problem, FixSettingsError)
    assert problem.code == "InvalidAccessKeyId"
    assert "secret-1" not in str(problem)
    assert "token-1" not in str(problem)


async def test_a_call_without_any_credentials_fails_with_the_reason(emulator: Emulator) -> None:
    async with (
        CredentialsInForce(None, Scripted(TryAgainError("no network"))) as credentials,
        Client(emulator.url, credentials, max_connections=1, renew=credentials.renew) as client,
    ):
        with pytest.raises(TryAgainError, match="no network"):
            await client.publish("topicA", body="a")
    assert emulator.broker.calls.total() == 0
