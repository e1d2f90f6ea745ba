"""The least that a consumer in Python can do: aiohttp's GET and DELETE on uvloop, and nothing in between.

`python -m bench.floor ENDPOINT TOPIC POLLERS [--real-handles]`. Nothing is signed, parsed or sent on. The handles are
always the same ones, which the source doesn't mind, unless it is to tell when each message was acked.
"""

import asyncio
import re
import sys
from itertools import repeat

import aiohttp
import uvloop
from yarl import URL

MAX_MESSAGES = 16

_HANDLE = re.compile(rb"<ReceiptHandle>[^<]+</ReceiptHandle>")
_HANDLES = b"<ReceiptHandle>1E057D5E6EAD42A579937046FE17AAAA-MTI5NzE0MzQ2NzUzODI4MTc3OTQ6MTU3MTc0MzIwMjQ2Mw==</ReceiptHandle>"


async def consume(session: aiohttp.ClientSession, endpoint: str, topic: str, *, real_handles: bool) -> None:
    """Poll and ack for ever."""
    path = f"{endpoint}/topics/{topic}/messages?ns=MQ_INST_1&consumer=GID_bench"
    poll = URL(f"{path}&numOfMessages={MAX_MESSAGES}&waitseconds=30", encoded=True)
    ack = URL(path, encoded=True)
    always = b"".join(repeat(_HANDLES, MAX_MESSAGES))
    while True:
        async with session.get(poll) as response:
            answer = await response.read()
        if response.status != 200:  # noqa: PLR2004 - protocol.md 2.5
            continue
        handles = b"".join(_HANDLE.findall(answer)) if real_handles else always
        async with session.delete(ack, data=b"<ReceiptHandles>" + handles + b"</ReceiptHandles>") as response:
            await response.read()


async def main(endpoint: str, topic: str, pollers: int, *, real_handles: bool) -> None:
    """Consume with so many at once."""
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        await asyncio.gather(*(consume(session, endpoint, topic, real_handles=real_handles) for _ in range(pollers)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), real_handles="--real-handles" in sys.argv[4:]))
