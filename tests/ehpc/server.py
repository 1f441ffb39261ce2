"""A scripted HTTP server on loopback: it plays back raw answers, one for each request, and notes what was asked."""

import gzip
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

REQUEST_ID = "04F0F334-1335-436C-A1D7-6C044FE73368"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: the names of its headers in lower case."""

    target: str
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        """The parameters; none of ours occurs twice."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


Answer = bytes | Callable[[socket.socket], None]
"""Raw bytes of an answer, or what writes one itself; the connection is kept, unless the bytes say otherwise."""


@dataclass(slots=True)
class Script:
    """The answers to come, the last of which is repeated, and the requests so far."""

    answers: list[Answer]
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, request: Request) -> Answer:
        """Note the request and return its answer."""
        with self.lock:
            self.requests.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Serves a script; ``close`` joins everything."""

    daemon_threads = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.script = Script([answer()])
        self.closing = threading.Event()
        self.open_sockets: set[socket.socket] = set()
        self.connection_count = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """The endpoint to configure."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def play(self, *answers: Answer) -> Script:
        """Answer the next requests with these, and the rest with the last of them."""
        self.script = Script(list(answers))
        return self.script

    def close(self) -> None:
        """Cut the connections and join all threads."""
        self.closing.set()
        self.shutdown()
        self._thread.join()
        for one in list(self.open_sockets):
            cut(one)
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: ScriptedServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server.open_sockets.add(self.connection)
        self.server.connection_count += 1
        try:
            while (request := self._read()) is not None:
                reply = self.server.script.next(request)
                if callable(reply):
                    reply(self.connection)
                    return
                self.connection.sendall(reply)
                if b"connection: close" in reply.partition(b"\r\n\r\n")[0].lower():
                    return
        except OSError:
            return
        finally:
            self.server.open_sockets.discard(self.connection)

    def _read(self) -> Request | None:
        start = self.rfile.readline().decode()
        if not start:
            return None
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Request(start.split(" ")[1], headers)


def cut(one: socket.socket) -> None:
    """End a connection with a reset, whoever reads from it."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:  # the peer was faster
        return


def answer(body: bytes | None = None, status: int = 200, **headers: str) -> bytes:
    """Return a whole answer; an underscore in a header's name stands for a dash."""
    content = images_body() if body is None else body
    headers.setdefault("Content_Length", str(len(content)))
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def error(code: str, status: int = 400, message: str = "refused", **headers: str) -> bytes:
    """Return an answer with an error of the API."""
    body = {"RequestId": REQUEST_ID, "HostId": "ehpc", "Code": code, "Message": message}
    return answer(json.dumps(body).encode(), status, **headers)


def zipped(body: bytes) -> bytes:
    """Return an answer whose body is compressed."""
    return answer(gzip.compress(body), Content_Encoding="gzip")


def row(**fields: Any) -> dict[str, Any]:
    """Return a row of ListImages."""
    return {
        "ImageId": "m-1",
        "OsTag": "CentOS_7.2_64",
        "BaseOsTag": "CentOS_7.2_64",
        "Platform": "CentOS",
        "Version": "7.2",
        "Architecture": "x86_64",
        "OSName": "CentOS  7.2",
        "OSNameEn": "CentOS  7.2",
    } | fields


def images_body(*rows: dict[str, Any]) -> bytes:
    """Return the body of a ListImages answer; without rows, one with one row."""
    return json.dumps({"RequestId": REQUEST_ID, "OsTags": {"OsInfo": list(rows or (row(),))}}).encode()
