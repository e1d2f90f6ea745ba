"""A sink, opened as `bridge run` opens it, and closed again; no event is sent."""

import asyncio
from contextlib import suppress

from pydantic import BaseModel

from bridge.environment import without_credentials
from bridge.errors import BridgeError, SinkDownError
from bridge.sinks import find
from bridge.sinks.http import Http, url_of
from bridge.sinks.webhook import WebhookSink
from bridge.sinks.webhook.settings import WebhookSettings
from bridge.sinks.webhook.tls import ReceiverTls

CLOSE_SECONDS = 3.0
"""How long a sink may take to close (`bridge.sinks`)."""
ASK_SECONDS = 5.0


async def try_out(name: str, settings: BaseModel, *, ordered: bool, variables: str) -> str:
    """Open the sink. Raises SinkDownError that names the `variables` by which it is set."""
    try:
        sink = find(name)(settings)
        if ordered:
            sink.keep_order()
        try:
            await sink.open()
            told = await _receiver(sink.settings) if isinstance(sink, WebhookSink) else ""
        finally:
            with suppress(Exception):  # that it won't close is not what is asked
                async with asyncio.timeout(CLOSE_SECONDS):
                    await sink.close()
    except BridgeError as problem:
        raise SinkDownError(f"{problem} (its settings: {variables})") from problem
    places = [without_credentials(str(getattr(settings, setting))) for setting in sink.destination]
    where = f"opened; events go to {', '.join(places)}" if places else "opened"
    return where + told


async def _receiver(settings: WebhookSettings) -> str:
    """Ask the receiver, which opening the sink doesn't, with a request that is safe by definition (RFC 9110, 9.2.1).

    It isn't told who we are, and any status will do: few receivers know OPTIONS. Raises SinkDownError and TryAgainError.
    """
    url = url_of(settings.url).with_user(None)
    http = Http(url, "URL", tls=ReceiverTls(settings).context, max_connections=1)
    try:
        answer = await http.exchange("OPTIONS", url, headers={}, timeout_seconds=min(ASK_SECONDS, settings.timeout_seconds))
    finally:
        await http.close()
    return f", which answers OPTIONS with {answer.status}; whether it takes events shows with the first"
