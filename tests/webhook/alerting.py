"""A TLS server that tells why it ends a handshake, as OpenSSL does and asyncio's own server doesn't."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def refusing_certificates(context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a server for clients whose certificate `context` doesn't take; it answers with an alert, and nothing else."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                with connection, suppress(OSError):
                    _refuse(connection, context)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _refuse(connection: socket.socket, context: ssl.SSLContext) -> None:
    """Over memory, so that the socket is still ours when the handshake has failed, and can be closed in peace."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65_536))
        except ssl.SSLError:
            break
    connection.sendall(outgoing.read())
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65_536):
        pass
