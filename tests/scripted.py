"""A server that answers as it was told, word by word, for what no real one can be made to do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Reply:
    """What is sent for a request. ``rest`` follows once ``gate`` is set.

    ``is_early``: before the request's body is read. ``is_last``: then the connection is closed.
    """

    data: bytes
    rest: bytes = b""
    is_early: bool = False
    is_last: bool = False
    gate: threading.Event = field(default_factory=threading.Event)


def ok(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """An answer with a body."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", 'ETag: "e"', *lines, "", ""])
    return head.encode() + body


@dataclass
class Scripted:
    """``requests`` are those that came, heads with bodies; ``connections`` how many there were."""

    port: int
    replies: list[Reply]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def serve(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            rest = b""
            while self.replies:
                while b"\r\n\r\n" not in rest:
                    data = stream.recv(1 << 16)
                    if not data:
                        return
                    rest += data
                head, _, rest = rest.partition(b"\r\n\r\n")
                reply = self.replies.pop(0)
                size = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line[:15] == b"content-length:"
                    ),
                    0,
                )
                while len(rest) < size and not reply.is_early:
                    rest += stream.recv(1 << 16)
                self.requests.append(head + b"\r\n\r\n" + rest[:size])
                rest = rest[size:]
                stream.sendall(reply.data)
                if reply.rest:
                    reply.gate.wait(30)
                    stream.sendall(reply.rest)
                if reply.is_last:
                    return


@contextlib.contextmanager
def scripted(*replies: Reply | bytes, tls: str = "") -> Iterator[Scripted]:
    """A running server. ``tls`` is a file with its certificate and key."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
    listening = socket.create_server(("127.0.0.1", 0))
    steps = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
    server = Scripted(listening.getsockname()[1], steps)

    def one(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            server.serve(context.wrap_socket(stream, server_side=True) if context else stream)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listening.accept()
                server.connections += 1
                threading.Thread(target=one, args=(stream,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        for step in steps:
            step.gate.set()
        listening.close()
