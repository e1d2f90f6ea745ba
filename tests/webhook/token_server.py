"""An OAuth2 authorisation server, and a receiver that takes its tokens while they live."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_plus

from aiohttp import web

from webhook.receiver import Received, Receiver, receiving

CLIENT, CLIENT_SECRET = "bridge:1", "p@ss wörd/+"


@dataclass
class TokenServer:
    """Gives tokens of so many seconds of life, each of which is taken for so long, or until `revoke`."""

    life: float
    expires_in: object
    url: str = ""
    receiver: Receiver = field(default_factory=Receiver)
    issued: int = 0
    rejected: int = 0
    requests: list[dict[str, list[str]]] = field(default_factory=list)
    alive: dict[str, float] = field(default_factory=dict)
    trouble: web.Response | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(self, received: Received) -> web.Response:
        form = parse_qs(received.body.decode())
        if "authorization" in received.headers:
            scheme, _, credentials = received.headers["authorization"].partition(" ")
            assert scheme == "Basic"
            user, _, password = b64decode(credentials).decode().partition(":")
            client = (unquote_plus(user), unquote_plus(password))
        else:
            client = (form["client_id"][0], form["client_secret"][0])
        await self.hold.wait()
        self.requests.append(form)
        if self.trouble:
            return web.json_response(status=self.trouble.status, text=self.trouble.text)
        if client != (CLIENT, CLIENT_SECRET) or form["grant_type"] != ["client_credentials"]:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.issued += 1
        token = f"token-{self.issued}"
        self.alive[token] = asyncio.get_running_loop().time() + self.life
        said = {"access_token": token, "token_type": "bearer", "expires_in": self.expires_in}
        return web.json_response({name: value for name, value in said.items() if value is not None})

    def take(self, received: Received) -> web.Response:
        scheme, _, token = received.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and self.alive.get(token, 0.0) > asyncio.get_running_loop().time():
            return web.Response(status=204)
        self.rejected += 1
        return web.Response(status=401)

    def revoke(self) -> None:
        self.alive.clear()


@asynccontextmanager
async def authorizing(life: float = 3600, expires_in: object = 3600) -> AsyncIterator[TokenServer]:
    async with receiving() as receiver, receiving() as tokens:
        server = TokenServer(life, expires_in, url=f"{tokens.url}/token", receiver=receiver)
        server.hold.set()
        tokens.answer = server.token
        receiver.answer = server.take
        yield server
