"""The connections under the requests session: deadlines per answer, one TLS context, proxies looked up once."""

import http.client
import io
import os
import ssl
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

from sync.ehpc.endpoint import is_loopback
from sync.errors import ConfigError

DEADLINE_READ_TIMEOUTS = 2  # an answer may take twice its read timeout, however steadily its bytes drip


class _DeadlineStream(io.RawIOBase):
    """The bytes of one answer: each read may take what is left of the answer's time."""

    def __init__(self, sock: Any, timeout_s: float) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._timeout_s = timeout_s
        self._ends_at = time.monotonic() + DEADLINE_READ_TIMEOUTS * timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took longer than twice the read timeout")
        if left_s < self._timeout_s:
            self._sock.settimeout(left_s)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _DeadlineSocket:
    """What http.client needs of a socket to read an answer from it."""

    def __init__(self, sock: Any, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineStream(self._sock, self._timeout_s))


def _timed_answer(connection: Any, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    connection.live.check()
    # At this point ``timeout`` is the read timeout, or the connect timeout while a proxy builds its tunnel.
    stream: Any = _DeadlineSocket(sock, connection.timeout)
    return http.client.HTTPResponse(stream, *args, **kwargs)


class _HttpConnection(HTTPConnection):
    response_class: Any = _timed_answer


class _HttpsConnection(HTTPSConnection):
    response_class: Any = _timed_answer


class _LiveConnections:
    """The connections that exist, so that they can be cut from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_cut = False

    def add(self, connection: Any) -> Any:
        connection.live = self
        with self._lock:
            self._connections.add(connection)
        return connection

    def check(self) -> None:
        """Refuse to wait on a connection that had no socket yet when the others were cut."""
        if self._is_cut:
            raise ConnectionAbortedError("the run was asked to stop")

    def cut(self) -> None:
        self._is_cut = True
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            sock = connection.sock
            if isinstance(sock, socket):
                try:
                    # Not the method of a TLS socket: that one changes what the reading thread is using.
                    socket.shutdown(sock, SHUT_RDWR)
                except OSError:  # it is closed already
                    continue


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection

    def __init__(self, *args: Any, live: _LiveConnections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._live = live

    def _new_conn(self) -> Any:
        return self._live.add(super()._new_conn())


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection

    def __init__(self, *args: Any, live: _LiveConnections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._live = live

    def _new_conn(self) -> Any:
        return self._live.add(super()._new_conn())


class Adapter(HTTPAdapter):
    """requests' adapter with the pools of this module; it never reads the environment twice for a host."""

    def __init__(self, *, hosts: int, workers: int) -> None:
        self._live = _LiveConnections()
        self._lock = threading.Lock()
        self._pools: dict[str, Any] = {}
        self._tls: ssl.SSLContext | None = None
        super().__init__(pool_connections=hosts, pool_maxsize=workers)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """Return the pool of the request's host."""
        origin = request.url[: _length_of_origin(request.url)]
        pool = self._pools.get(origin)
        if pool is None:
            with self._lock:
                pool = self._pools.setdefault(origin, self._new_pool(origin))
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: every connection uses the one TLS context, which always verifies."""

    def request_url(self, request: Any, proxies: Any) -> str:
        """Return path and query: no proxy ever gets a plain http request."""
        return str(request.url[_length_of_origin(request.url) :])

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Return status, headers and raw body only: cookies and encodings cost a tenth of a whole call."""
        response = requests.Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response

    def close(self) -> None:
        """Close the idle connections; urllib3 2 leaves those of a pool that is only forgotten to the collector."""
        for pool in self._pools.values():
            pool.close()
        super().close()

    def cut(self) -> None:
        """End every exchange on every connection."""
        self._live.cut()

    def _new_pool(self, origin: str) -> Any:
        parts = urlsplit(origin)
        manager: Any = self.poolmanager
        kwargs: dict[str, Any] = {}
        if parts.scheme == "https":
            kwargs["ssl_context"] = self._tls = self._tls or _tls_context()
        # A simulator on this machine must not be asked through the proxy that leads to the internet.
        proxies = {} if is_loopback(parts.hostname or "") else get_environ_proxies(origin)
        proxy = select_proxy(origin, proxies)
        if proxy:
            manager = self._proxy_manager(proxy if "://" in proxy else f"http://{proxy}")
        manager.pool_classes_by_scheme = {
            "http": partial(_HttpPool, live=self._live),
            "https": partial(_HttpsPool, live=self._live),
        }
        return manager.connection_from_host(parts.hostname, parts.port, scheme=parts.scheme, pool_kwargs=kwargs or None)

    def _proxy_manager(self, proxy: str) -> Any:
        try:
            return self.proxy_manager_for(proxy)
        except (requests.exceptions.InvalidSchema, ValueError) as error:
            raise ConfigError("HTTPS_PROXY is not a proxy that can be used: write http://host:port") from error


def _length_of_origin(url: str) -> int:
    return url.index("/", len("https://"))


def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections; a context per connection would load the bundle each time (30 ms)."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.check_hostname = True
    try:
        is_folder = Path(bundle).is_dir()
        context.load_verify_locations(None if is_folder else bundle, bundle if is_folder else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the CA bundle {bundle} cannot be read: check REQUESTS_CA_BUNDLE") from error
    return context
