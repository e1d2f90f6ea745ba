"""Who the bridge says it is: basic, bearer, a token in a file, OAuth2 client credentials."""

import os
from base64 import b64encode
from pathlib import Path

import pytest
from aiohttp import web

from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED
from bridge.testing import make_event
from webhook.receiver import Answer, Received, Receiver, opened, send


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


async def test_a_user_and_a_password_are_basic_authentication(receiver: Receiver) -> None:
    async with opened(receiver.url, auth_username="ünal", auth_password="pa:ss") as sink:
        await send(sink, make_event())
    assert receiver.last.headers["authorization"] == basic("ünal:pa:ss")


async def test_user_information_in_the_url_is_basic_authentication(receiver: Receiver) -> None:
    async with opened(receiver.url.replace("http://", "http://me:p%40ss@")) as sink:
        await send(sink, make_event())
    assert receiver.last.headers["authorization"] == basic("me:p@ss")
    assert "me:" not in receiver.last.headers["host"]


async def test_a_token_is_a_bearer_token(receiver: Receiver) -> None:
    async with opened(receiver.url, auth_token="abc") as sink:
        await send(sink, make_event())
    assert receiver.last.headers["authorization"] == "Bearer abc"


async def test_a_token_in_a_file_is_read_again_when_the_file_changes(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with opened(receiver.url, auth_token_file=str(token)) as sink:
        await send(sink, make_event())
        token.write_text("second\n")
        await send(sink, make_event())
        other = tmp_path / "other"
        other.write_text("third!")
        other.replace(token)  # as secrets are renewed in Kubernetes: by another file under the same name
        await send(sink, make_event())
    assert [request.headers["authorization"] for request in receiver.requests] == [
        "Bearer first",
        "Bearer second",
        "Bearer third!",
    ]


async def test_a_file_that_changed_unseen_is_read_again_after_a_401(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    about = token.stat()
    receiver.answer = accepting("new")
    async with opened(receiver.url, auth_token_file=token) as sink:
        with pytest.raises(SinkDownError, match="401"):
            await send(sink, make_event())
        assert len(receiver.requests) == 1  # there was no other token to try
        token.write_text("new")
        os.utime(token, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert await send(sink, make_event()) == [CONFIRMED]


async def test_a_file_that_is_gone_is_trouble_until_it_is_there_again(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    async with opened(receiver.url, auth_token_file=token) as sink:
        for spoil in (token.unlink, lambda: token.write_text("two words"), lambda: token.write_text("")):
            spoil()
            with pytest.raises(SinkDownError, match="AUTH_TOKEN_FILE") as caught:
                await send(sink, make_event())
            assert "two words" not in str(caught.value)
        token.write_text("one")
        assert await send(sink, make_event()) == [CONFIRMED]


def accepting(*tokens: str) -> Answer:
    def answer(received: Received) -> web.Response:
        known = received.headers.get("authorization") in [f"Bearer {token}" for token in tokens]
        return web.Response(status=204 if known else 401)

    return answer
