"""Takes from the source whatever it has, as fast as it can: `python -m bench.drain PORT TOPIC`. This is how fast the source is.

Sockets and fixed bytes: every connection polls and acks in turn, and of an answer only the size is looked at.
"""

import socket
import sys

CONNECTIONS = 8

_BUFFER = bytearray(1 << 20)


def _exchange(connections: list[socket.socket], request: bytes) -> None:
    """Ask on all connections, then read all answers."""
    for connection in connections:
        connection.sendall(request)
    for connection in connections:
        size = connection.recv_into(_BUFFER)
        end = _BUFFER.find(b"\r\n\r\n", 0, size) + 4
        for line in bytes(_BUFFER[:end]).split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                left = end + int(line[16:]) - size
                while left:
                    left -= connection.recv_into(_BUFFER, min(left, len(_BUFFER)))


def main(port: int, topic: str) -> None:
    """For ever."""
    target = b"/topics/%s/messages?consumer=GID_bench" % topic.encode()
    handles = b"<ReceiptHandle>1E057D5E6EAD42A579937046FE17AAAA-MTI5NzE0MzQ2NzUz</ReceiptHandle>" * 16
    poll = b"GET %s&numOfMessages=16 HTTP/1.1\r\n\r\n" % target
    ack = b"DELETE %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (target, len(handles), handles)
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    while True:
        _exchange(connections, poll)
        _exchange(connections, ack)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
