"""Who is told: an HTTP server on loopback that takes the notifications of Apprise's ``json://`` and keeps them."""

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it arrived; ``is_refused`` ones were answered with an error, so they were never told."""

    arrived_at: datetime
    title: str
    message: str
    kind: str
    is_refused: bool = False

    @property
    def text(self) -> str:
        """Return title and message together."""
        return f"{self.title}\n{self.message}"


class Receiver:
    """Keeps what it is sent; while ``is_broken`` it answers 500 to everything."""

    def __init__(self) -> None:
        self.is_broken = False
        self._lock = threading.Lock()
        self._deliveries: list[Delivery] = []
        receiver = self

        class _Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                is_refused = receiver.is_broken
                receiver.take(body, is_refused=is_refused)
                self.send_response(500 if is_refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Return the channel's URL for ``notify_urls``."""
        return f"json://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def deliveries(self) -> list[Delivery]:
        """Return all messages so far in the order of their arrival."""
        with self._lock:
            return list(self._deliveries)

    def take(self, body: bytes, *, is_refused: bool) -> None:
        """Keep one message."""
        told = json.loads(body)
        delivery = Delivery(datetime.now(UTC), told["title"], told["message"], told["type"], is_refused)
        with self._lock:
            self._deliveries.append(delivery)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
