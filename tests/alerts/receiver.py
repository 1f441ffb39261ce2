"""A web address on loopback that takes messages as Apprise's json:// sends them, and signals of a dead man's switch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Receiver:
    """What has arrived, in order; with a status other than 200 nothing is taken."""

    port: int = 0
    status: int = 200
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def channel(self) -> str:
        """Return the Apprise URL of this receiver."""
        return f"json://127.0.0.1:{self.port}/hook-s3cret"

    @property
    def ping_url(self) -> str:
        """Return an address for a dead man's switch."""
        return f"http://127.0.0.1:{self.port}/ping-s3cret"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of Apprise: title, message, type."""
        return [json.loads(body) for path, body in self.requests if path.startswith("/hook")]

    @property
    def titles(self) -> list[str]:
        """Return the titles of the messages, without the program's name."""
        return [str(entry["title"]).removeprefix("ehpc-image-sync: ") for entry in self.messages]

    @property
    def signals(self) -> list[str]:
        """Return the paths of the signals, without the address."""
        return [path.removeprefix("/ping-s3cret") for path, _ in self.requests if path.startswith("/ping")]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Give a receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if receiver.status == 200:
                receiver.requests.append((self.path, body))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()
