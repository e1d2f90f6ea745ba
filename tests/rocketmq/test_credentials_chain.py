"""The official library's chain against local servers that speak as what it calls does; no other address is ever asked."""

import asyncio
import importlib
import json
import ssl
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import trustme

from bridge.errors import BridgeError, FixSettingsError, MissingExtraError, TryAgainError
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.credentials.chain import Chain
from rocketmq.servers import Line, Server, answering, http, serving

# It has no types.
library: Any = importlib.import_module("alibabacloud_credentials.provider")
auth_constant: Any = importlib.import_module("alibabacloud_credentials.utils.auth_constant")
auth_util: Any = importlib.import_module("alibabacloud_credentials.utils.auth_util")

SECRETS = ("hidden-secret", "hidden-token", "hidden-jwt")
Configure = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Configure:
    """Sets variables as the library has read them when it was imported; without any, it finds nothing and asks nobody."""
    for name in vars(auth_util):
        if name.startswith("environment_"):
            monkeypatch.setattr(auth_util, name, None)
    for name in ("imds_v1_disabled", "cli_profile_disabled", "enable_vpc"):
        monkeypatch.setattr(auth_util, f"environment_{name}", "false")
    monkeypatch.setattr(auth_util, "environment_ecs_metadata_disabled", "true")
    monkeypatch.setattr(auth_constant, "HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("Tea.core.TeaCore._sessions", {})

    def configure(**variables: str) -> None:
        for name, text in variables.items():
            monkeypatch.setattr(auth_util, f"environment_{name}", text)

    return configure


async def look(chain: Chain, *, refused: bool = False) -> Credentials:
    return await asyncio.to_thread(chain.look, refused=refused)


async def trouble(chain: Chain) -> BridgeError:
    """What looking raises; that it tells no secret is part of each promise."""
    with pytest.raises(BridgeError) as raised:
        await look(chain)
    assert not any(secret in "".join(traceback.format_exception(raised.value)) for secret in SECRETS)
    return raised.value


def key(*, seconds: float = 7200, **more: str) -> dict[str, str]:
    """A temporary key as all of them write it."""
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return {
        "AccessKeyId": "STS.id",
        "AccessKeySecret": "hidden-secret",
        "SecurityToken": "hidden-token",
        "Expiration": expiration,
        **more,
    }


def answer(value: object, status: int = 200) -> bytes:
    return http(status, json.dumps(value).encode())


EXPECTED = Credentials(access_key_id="STS.id", access_key_secret="hidden-secret", security_token="hidden-token")


def is_expected(found: Credentials, *, seconds: float = 7200) -> None:
    assert (found.access_key_id, found.access_key_secret, found.security_token) == ("STS.id", "hidden-secret", "hidden-token")
    assert found.expires_at == pytest.approx(time.time() + seconds, abs=5)


# ---- where there is nothing ------------------------------------------------------------------------------------------


async def test_without_credentials_anywhere_the_mistake_says_what_could_be_set(configure: Configure) -> None:
    problem = await trouble(Chain())
    assert isinstance(problem, FixSettingsError)
    assert str(problem).startswith("BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET are not set, and the Alibaba Cloud")
    for name in ("environment: ", "ALIBABA_CLOUD_ROLE_ARN", "config.json", "credentials.ini", "ALIBABA_CLOUD_CREDENTIALS_URI"):
        assert name in str(problem)
    assert "\n" not in str(problem)


async def test_without_the_library_the_mistake_names_the_extra_and_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials.provider", None)
    problem = await trouble(Chain())
    assert isinstance(problem, MissingExtraError)
    assert "BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET" in str(problem)
    assert "pip install 'rocketmq-bridge[credentials]'" in str(problem)


async def test_the_order_is_that_of_the_librarys_own_chain(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(role_arn="r", oidc_provider_arn="p", oidc_token_file="f", credentials_uri="http://127.0.0.1:1/")
    configure(ecs_metadata_disabled="false")
    monkeypatch.setattr(auth_util, "enable_oidc_credential", True)
    asked: list[str] = []
    for name in library.__all__:

        def refuse(self: object) -> None:
            asked.append(type(self).__name__)
            raise ValueError("not here")

        if name != "DefaultCredentialsProvider":
            monkeypatch.setattr(getattr(library, name), "get_credentials", refuse)
    # the library's own starts a thread for the instance role, which would outlive the test
    monkeypatch.setattr("alibabacloud_credentials.provider.ecs_ram_role.BackgroundScheduler.start", lambda _: None)
    monkeypatch.setattr("alibabacloud_credentials.provider.ecs_ram_role.atexit.register", lambda *_, **__: None)
    with pytest.raises(Exception, match="unable to load"):
        library.DefaultCredentialsProvider().get_credentials()
    theirs, asked = asked, []
    await trouble(Chain())
    assert asked == theirs
    assert len(asked) == 6


# ---- environment and profiles ----------------------------------------------------------------------------------------


async def test_a_key_in_the_librarys_own_variables_is_taken(configure: Configure) -> None:
    configure(access_key_id="id", access_key_secret="hidden-secret")
    assert await look(Chain()) == Credentials(access_key_id="id", access_key_secret="hidden-secret")


async def test_a_key_that_is_replaced_in_a_profile_is_taken_when_the_old_one_is_refused(
    configure: Configure, tmp_path: Path
) -> None:
    file = tmp_path / ".alibabacloud" / "credentials.ini"
    file.parent.mkdir()
    content = "[default]\ntype = access_key\naccess_key_id = {}\naccess_key_secret = hidden-secret\n"
    file.write_text(content.format("old"))
    chain = Chain()
    assert (await look(chain)).access_key_id == "old"
    file.write_text(content.format("new"))
    assert (await look(chain)).access_key_id == "old"
    assert (await look(chain, refused=True)).access_key_id == "new"


# ---- a credentials URI -----------------------------------------------------------------------------------------------


async def test_a_temporary_key_is_asked_for_once_while_it_is_good(configure: Configure) -> None:
    async with answering(answer(key(Code="Success"))) as server:
        configure(credentials_uri=f"{server.url}/key?x=hidden-token")
        chain = Chain()
        is_expected(await look(chain))
        is_expected(await look(chain))
        assert len(server.requests) == 1


async def test_a_temporary_key_is_renewed_before_it_expires(configure: Configure) -> None:
    async with answering(
        answer(key(Code="Success", seconds=14 * 60)), answer(key(Code="Success", seconds=3600, AccessKeyId="STS.new"))
    ) as server:
        configure(credentials_uri=f"{server.url}/key")
        chain = Chain()
        is_expected(await look(chain), seconds=14 * 60)
        found = await look(chain)
        assert found.access_key_id == "STS.new"
        assert found.expires_at == pytest.approx(time.time() + 3600, abs=5)


async def test_a_key_that_is_refused_is_asked_for_anew(configure: Configure) -> None:
    async with answering(answer(key(Code="Success")), answer(key(Code="Success", AccessKeyId="STS.new"))) as server:
        configure(credentials_uri=f"{server.url}/key")
        chain = Chain()
        assert (await look(chain)).access_key_id == "STS.id"
        assert (await look(chain, refused=True)).access_key_id == "STS.new"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (answer({"Code": "Failed", "Message": "no role", "AccessKeySecret": "hidden-secret"}), FixSettingsError, "no role"),
        (answer({"Code": "Unauthorized", "Message": "go away"}, 403), FixSettingsError, "go away"),
        (answer({"Code": "ServiceUnavailable", "Message": "later"}, 503), TryAgainError, "later"),
        (answer({"Code": "Throttling", "Message": "slower"}, 429), TryAgainError, "slower"),
        (http(200, b"<html>hidden-secret"), FixSettingsError, "credentials URI"),
        (b"", TryAgainError, "no answer from 127.0.0.1 (ConnectionError)"),
    ],
)
async def test_what_goes_wrong_is_told_by_what_can_be_done_about_it(
    configure: Configure, capfd: pytest.CaptureFixture[str], said: bytes, kind: type[BridgeError], words: str
) -> None:
    async with answering(said) if said else serving(_hang_up) as server:
        configure(credentials_uri=f"{server.url}/key?token=hidden-token")
        problem = await trouble(Chain())
    assert type(problem) is kind
    assert words in str(problem)
    assert capfd.readouterr() == ("", "")  # the library has handlers of its own for its logs


async def _hang_up(line: Line) -> None:
    await line.request()


# ---- an instance role ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def metadata(*keys: object) -> AsyncIterator[Server]:
    """An instance's metadata service, behind a proxy that leads there."""
    remaining = list(keys)

    async def behave(line: Line) -> None:
        while True:
            request = await line.request()
            server.requests.append(request)
            method, url, _ = request.partition(b"\r\n")[0].decode().split()
            assert urlsplit(url).netloc == "100.100.100.200"
            if method == "PUT":
                await line.send(http(200, b"metadata-token"))
            elif url.endswith("/security-credentials/"):
                await line.send(http(200, b"the-role"))
            else:
                assert url.endswith("/security-credentials/the-role")
                await line.send(answer(remaining.pop(0) if len(remaining) > 1 else remaining[0]))

    async with serving(behave) as server:
        yield server


async def test_an_instance_role_gives_its_key_and_starts_no_thread(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(ecs_metadata_disabled="false")
    async with metadata(key(Code="Success"), key(Code="Success", AccessKeyId="STS.new")) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        chain = Chain()
        is_expected(await look(chain))
        asked = len(server.requests)
        assert (await look(chain)).access_key_id == "STS.id"
        assert len(server.requests) == asked
        assert (await look(chain, refused=True)).access_key_id == "STS.new"
    assert not [thread for thread in threading.enumerate() if "APScheduler" in thread.name]


async def test_an_instance_role_that_a_profile_names_starts_its_thread_once(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library gives no way to end it, so a bridge whose key is refused again and again must not start another."""
    configure(ecs_metadata_disabled="false")
    file = tmp_path / ".alibabacloud" / "credentials.ini"
    file.parent.mkdir()
    file.write_text("[default]\ntype = ecs_ram_role\nrole_name = the-role\n")
    started: list[object] = []
    monkeypatch.setattr(
        "alibabacloud_credentials.provider.ecs_ram_role.BackgroundScheduler.start", lambda *it: started.append(it)
    )
    monkeypatch.setattr("alibabacloud_credentials.provider.ecs_ram_role.atexit.register", lambda *_, **__: None)
    async with metadata(key(Code="Success")) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        chain = Chain()
        for _ in range(3):
            assert (await look(chain, refused=True)).access_key_id == "STS.id"
    assert len(started) == 1


async def test_an_instance_role_that_cannot_be_renewed_is_trouble_although_the_library_hides_it(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(ecs_metadata_disabled="false")
    async with metadata(key(Code="Success")) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        ahead = 0.0
        chain = Chain(lambda: time.time() + ahead)
        is_expected(await look(chain))
    ahead = 7200 - 500
    assert isinstance(await trouble(chain), TryAgainError)


@pytest.mark.parametrize(("role", "kind"), [("", FixSettingsError), ("the-role", TryAgainError)])
async def test_no_answer_means_no_instance_unless_somebody_named_its_role(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, role: str, kind: type[BridgeError]
) -> None:
    configure(ecs_metadata_disabled="false", ecs_metadata=role)
    async with serving(_hang_up) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        assert type(await trouble(Chain())) is kind


# ---- a role in a cluster ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def token_service(*answers: bytes) -> AsyncIterator[list[dict[str, list[str]]]]:
    """STS over TLS, behind a proxy that leads there; tells what was asked."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("sts.aliyuncs.com").configure_cert(tls)
    asked: list[dict[str, list[str]]] = []
    remaining = list(answers)

    async def behave(line: Line) -> None:
        assert (await line.request()).startswith(b"CONNECT sts.aliyuncs.com:443 ")
        await line.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        await line.writer.start_tls(tls)
        while True:
            request = await line.request()
            asked.append(parse_qs(urlsplit(request.split()[1].decode()).query))
            await line.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    async with serving(behave) as server:
        with authority.cert_pem.tempfile() as path, pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", path)
            patch.setenv("HTTPS_PROXY", server.url)
            yield asked


@pytest.fixture
def oidc(configure: Configure, tmp_path: Path) -> Path:
    """A role in a cluster; gives the file with its token."""
    file = tmp_path / "token"
    file.write_text("hidden-jwt-1")
    configure(role_arn="acs:ram::1:role/r", oidc_provider_arn="acs:ram::1:oidc-provider/p", oidc_token_file=str(file))
    return file


async def test_a_role_in_a_cluster_is_assumed_with_the_token_that_its_file_holds_at_the_time(oidc: Path) -> None:
    short, long = (answer({"Credentials": key(seconds=seconds)}) for seconds in (600, 3600))
    async with token_service(short, long) as asked:
        chain = Chain()
        is_expected(await look(chain), seconds=600)
        oidc.write_text("hidden-jwt-2")  # noqa: ASYNC240 - a few bytes
        is_expected(await look(chain), seconds=3600)
        assert [call["OIDCToken"] for call in asked] == [["hidden-jwt-1"], ["hidden-jwt-2"]]
        assert asked[0]["Action"] == ["AssumeRoleWithOIDC"]


async def test_a_role_that_cannot_be_assumed_for_the_moment_is_waited_for_and_no_other_identity_taken(
    oidc: Path, configure: Configure
) -> None:
    async with answering(answer(key(Code="Success"))) as other:
        configure(credentials_uri=f"{other.url}/key")
        async with token_service(answer({"Code": "InternalError", "Message": "later"}, 500), answer({"Credentials": key()})):
            chain = Chain()
            problem = await trouble(chain)
            assert type(problem) is TryAgainError
            assert "InternalError later" in str(problem)
            is_expected(await look(chain))
        assert other.requests == []


async def test_a_service_that_cannot_be_reached_is_named_without_the_token(oidc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(_hang_up) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        problem = await trouble(Chain())
    assert type(problem) is TryAgainError
    assert str(problem) == "OIDC role: no answer from sts.aliyuncs.com (ConnectionError)"


async def test_a_role_whose_token_is_not_taken_is_a_mistake(oidc: Path) -> None:
    refusal = {"Code": "AuthenticationFail.OIDCToken.Expired", "Message": "This OIDC Token is expired"}
    async with token_service(answer(refusal, 400)):
        problem = await trouble(Chain())
    assert isinstance(problem, FixSettingsError)
    assert "AuthenticationFail.OIDCToken.Expired This OIDC Token is expired" in str(problem)
