"""A server that speaks just enough of PostgreSQL's protocol to refuse every password."""

import socket
import struct
import threading
from io import BufferedRWPair
from typing import Self

ENCRYPTION_REQUESTS = frozenset({80877103, 80877104})  # SSLRequest and GSSENCRequest of the protocol
REFUSAL = b'SFATAL\0C28P01\0Mpassword authentication failed for user "reader"\0\0'


class RefusingServer:
    """A context manager; ``port`` is on 127.0.0.1."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                _refuse(stream)


def _refuse(stream: BufferedRWPair) -> None:
    while True:
        length, code = struct.unpack("!ii", stream.read(8))
        if code not in ENCRYPTION_REQUESTS:
            break
        stream.write(b"N")
        stream.flush()
    stream.read(length - 8)
    stream.write(_message(b"R", struct.pack("!i", 3)))
    stream.flush()
    _, length = struct.unpack("!ci", stream.read(5))
    stream.read(length - 4)
    stream.write(_message(b"E", REFUSAL))


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
