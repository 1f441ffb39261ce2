"""The application on a port: waitress with few threads, which ends within a second or two."""

import errno
import ipaddress
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from sync.errors import ConfigError

if TYPE_CHECKING:
    from flask import Flask

THREADS = 32
"""More than there may be pages at work or waiting for their turn (``app``), so that they never keep probes waiting."""

CLOSE_S = 1  # for requests under way; a page is not worth more of the time in which the daemon must end

LIMITS = {
    "channel_timeout": 10,  # seconds that a silent connection stays open, with half of a request too
    "cleanup_interval": 5,  # seconds between two looks for such connections
    "connection_limit": 500,  # half of the files that a process may usually open
    "max_request_body_size": 64 * 1024,
    "max_request_header_size": 16 * 1024,
    "outbuf_overflow": 16 * 1024 * 1024,  # bytes; below it answers wait in memory, and the charts' script has 5 MB
}
"""Nobody has reason to send much, or to keep many connections open."""

REMEDIES = {
    errno.EADDRINUSE: "another program uses the port; choose another one, or end that program",
    errno.EADDRNOTAVAIL: "the address is not one of this machine; use 127.0.0.1, or 0.0.0.0 for all",
    errno.EACCES: "a user without privileges may not use ports below 1024; choose one above",
}


OPEN_TO_ALL = (
    "whoever reaches %s reads all of it without a token; make one with: openssl rand -hex 32, "
    "and put it into the variable EHPC_SYNC_HTTP_TOKEN or into a file that http_token_file names"
)


class Server:
    """Serves an application on a port from the moment of ``start`` until ``close``."""

    def __init__(self, app: "Flask", host: str, port: int, *, option: str = "http_listen") -> None:
        """Take the port; port 0 is any free one. ``option`` is what the user has set the address with.

        Raises:
            ConfigError: the port cannot be had.
        """
        from waitress.server import create_server  # type: ignore[import-untyped]

        listener = _listener(host, port, option)
        # It tells of every request that waits for a thread; that the others are busy is no news.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        logging.getLogger("waitress").setLevel(logging.WARNING)
        self._connections: dict[int, Any] = {}
        self._server = create_server(
            app,
            self._connections,
            sockets=[listener],
            threads=THREADS,
            ident=None,
            asyncore_use_poll=True,
            **LIMITS,
        )
        self._thread = threading.Thread(target=self._server.run, name="web-server", daemon=True)
        self.url = _url_of(listener)
        self.is_loopback = ipaddress.ip_address(listener.getsockname()[0]).is_loopback

    @property
    def local_url(self) -> str:
        """Return the URL for a browser on this machine: that of all addresses is no address of its own."""
        return self.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")

    def start(self) -> None:
        """Begin to answer, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Free the port, wait a moment for requests under way, and drop what is still open; may be called again."""
        trigger = self._server.trigger
        if self._thread.is_alive():
            trigger.pull_trigger(self._drop_connections)
            self._thread.join(CLOSE_S)
        else:
            self._drop_connections()
        self._server.task_dispatcher.shutdown(timeout=CLOSE_S)
        # Whoever is still at work would wake the loop by a file number that may be another file's by then.
        self._server.pull_trigger = _wake_nobody
        trigger.close()

    def _drop_connections(self) -> None:
        """Close the port and every connection, so that the loop finds nothing to wait for and ends."""
        trigger = self._server.trigger
        for connection in list(self._connections.values()):
            if connection is trigger:
                trigger.del_channel()
            elif connection is self._server:
                self._server.del_channel()
                self._server.socket.close()
            else:
                connection.close()


def _wake_nobody() -> None:
    """Do nothing: the loop has ended."""


def _listener(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that listens on the address; of a name's several addresses, on the first that can be had."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{option}: there is no host {host!r}: {error}; use 127.0.0.1, or 0.0.0.0 for all") from None
    refusal = OSError()
    for family, kind, protocol, _, address in sorted(found, key=lambda entry: entry[0] != socket.AF_INET):
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart the old port still rests
            listener.bind(address)
            listener.listen()
        except OSError as error:
            listener.close()
            refusal = error
            continue
        return listener
    remedy = REMEDIES.get(refusal.errno or 0, "choose another address")
    raise ConfigError(f"{option}: {shown} cannot be used: {refusal.strerror}; {remedy}") from None


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
