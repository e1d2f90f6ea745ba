"""Who may call the management API (protocol.md 8.1)."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from bridge.emulator import acs3
from bridge.emulator.errors import ManagementError
from bridge.emulator.server import Emulator
from management.official_sdk import GROUP, METHODS, call, client

TARGET = "/?GroupId=GID_a&InstanceId=MQ_INST_1"
DATE = "2026-11-21T19:22:54Z"
SIGNATURE = "382f100c4fca96c5fa1d8dd199f53d6a2402918d8208fd98e988fcecfb3fa7dc"
SIGNED = {
    "accept": "application/json",
    "host": "ons.cn-hangzhou.aliyuncs.com",
    "user-agent": "ua/1",
    "x-acs-action": "OnsConsumerGetConnection",
    "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
    "x-acs-credentials-provider": "static_ak",
    "x-acs-date": DATE,
    "x-acs-signature-nonce": "0123456789abcdef0123456789abcdef",
    "x-acs-version": "2019-02-14",
}


def authorization(*, signature: str = SIGNATURE, key_id: str = "AKID", signed: str = ";".join(SIGNED)) -> str:
    return f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed},Signature={signature}"


def authorize(target: str = TARGET, *, minutes: float = 0, body: bytes = b"", **changes: str | None) -> None:
    """Verify the vector, with some headers changed, so many minutes after it was signed."""
    headers: dict[str, Any] = {**SIGNED, "authorization": authorization()}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    now = datetime.strptime(DATE, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() + minutes * 60
    acs3.authorize(
        "POST",
        target,
        {name: value for name, value in headers.items() if value is not None},
        body,
        now=round(now * 1000),
        access_key_id="AKID",
        access_key_secret="SECRET",
    )


def test_the_vector_of_the_protocol_verifies() -> None:
    canonical = acs3.canonical_request("POST", TARGET, SIGNED, SIGNED["x-acs-content-sha256"])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    assert hashed == "f19e4f02bfb9d7e87ef8c3b0ddeda2da14619829c08b24fb7911ee5cb940ebcf"
    assert acs3.sign(canonical, "SECRET") == SIGNATURE
    authorize()


@pytest.mark.parametrize(
    "target",
    ["/?InstanceId=MQ_INST_1&GroupId=GID_a", "/?GroupId=GID%5Fa&InstanceId=MQ_INST_1"],
)
def test_the_query_is_signed_whatever_its_order_and_encoding(target: str) -> None:
    authorize(target)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target": "/?GroupId=GID_b&InstanceId=MQ_INST_1"}, "SignatureDoesNotMatch"),
        ({"target": "/?GroupId=GID_a"}, "SignatureDoesNotMatch"),
        ({"body": b"x"}, "SignatureDoesNotMatch"),
        ({"accept": "text/xml"}, "SignatureDoesNotMatch"),
        ({"x_acs_action": "OnsConsumerAccumulate"}, "SignatureDoesNotMatch"),
        ({"authorization": authorization(signature="0" * 64)}, "SignatureDoesNotMatch"),
        ({"authorization": authorization(key_id="OTHER")}, "InvalidAccessKeyId.NotFound"),
        ({"authorization": None}, "IncompleteSignature"),
        ({"authorization": "acs AKID:c2lnbmF0dXJl"}, "IncompleteSignature"),
        ({"authorization": authorization(signed="accept;host")}, "IncompleteSignature"),
        ({"authorization": authorization(signed=";".join([*SIGNED, "x-acs-gone"]))}, "IncompleteSignature"),
        ({"x_acs_security_token": "added by somebody"}, "IncompleteSignature"),
        ({"x_acs_date": "Sat, 21 Nov 2026 19:22:54 GMT"}, "InvalidTimeStamp.Format"),
        ({"minutes": 16}, "InvalidTimeStamp.Expired"),
        ({"minutes": -16}, "InvalidTimeStamp.Expired"),
    ],
)
def test_what_was_not_signed_like_that_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ManagementError) as refused:
        authorize(**changes)
    assert refused.value.code == code


@pytest.mark.parametrize("minutes", [14, -14])
def test_clocks_may_differ_a_little(minutes: float) -> None:
    authorize(minutes=minutes)


@pytest.mark.parametrize("operation", METHODS)
@pytest.mark.parametrize("sync", [False, True])
async def test_the_official_sdk_is_understood_whatever_stands_in_its_query(
    emulator: Emulator, operation: str, *, sync: bool
) -> None:
    """Sync and async methods encode spaces and slashes differently (protocol.md 8.1)."""
    emulator.faults.management_answers = {operation: {}}
    instance = "a/b c+d~e*f%2F=&ü"
    assert await call(client(emulator), operation, sync=sync, instance_id=instance)
    assert emulator.management.calls == {operation: 1}


async def test_a_security_token_is_part_of_what_is_signed(emulator: Emulator) -> None:
    emulator.faults.management_answers = {"OnsConsumerAccumulate": {}}
    assert await call(client(emulator, security_token="tok/+= en"), "OnsConsumerAccumulate")


@pytest.mark.parametrize(
    ("config", "code", "status"),
    [
        ({"access_key_secret": "WRONG"}, "SignatureDoesNotMatch", 400),
        ({"access_key_id": "OTHER"}, "InvalidAccessKeyId.NotFound", 404),
        ({"signature_algorithm": "v2"}, "IncompleteSignature", 400),
    ],
)
async def test_the_sdk_learns_why_it_is_refused(emulator: Emulator, config: dict[str, str], code: str, status: int) -> None:
    with pytest.raises(Exception, match=code) as refused:
        await call(client(emulator, **config), "OnsConsumerGetConnection")
    assert (getattr(refused.value, "code", None), getattr(refused.value, "status_code", None)) == (code, status)
    assert not emulator.management.calls


async def test_another_key_takes_the_place_of_the_old_one_here_too(emulator: Emulator) -> None:
    emulator.access_key.key_id, emulator.access_key.secret = "NEW", "NEWSECRET"
    emulator.faults.management_answers = {"OnsConsumerAccumulate": {}}
    assert await call(client(emulator, access_key_id="NEW", access_key_secret="NEWSECRET"), "OnsConsumerAccumulate")


@pytest.mark.parametrize("query", [f"Action=OnsConsumerGetConnection&GroupId={GROUP}&Signature=x", "Action=OnsConsumerStatus"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_older_form_of_rpc_requests_is_refused_with_words(emulator: Emulator, method: str, query: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, f"{emulator.url}/?{query}") as response:
        answer = await response.json()
    assert (response.status, answer["Code"]) == (400, "IncompleteSignature")
    assert "ACS3-HMAC-SHA256" in answer["Message"]
    assert answer["RequestId"] == response.headers["x-acs-request-id"]
