"""HTTP over one requests session: deadlines, limits, TLS and proxies; no retries, redirects or meaning of answers.

Beside requests' timeouts, which limit the pause between two bytes, each answer has a deadline of twice its read
timeout: a peer that drips one byte a second would else hold a worker for hours.
"""

import http.client
import socket
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, NameResolutionError, ReadTimeoutError
from urllib3.exceptions import SSLError as Urllib3SSLError

from sync.ehpc.connections import Adapter
from sync.errors import CallError

MAX_BODY_BYTES = 32 * 1024 * 1024  # decompressed; the largest real answer is about 1 MiB
MAX_REGIONS = 200  # hosts whose connections are kept open; Alibaba Cloud has about 30 regions
_BLOCK_BYTES = 256 * 1024  # read at once: most answers are one block


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer, its body decompressed; the names of the headers are in any letter case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """One requests session for all workers; thread-safe."""

    def __init__(self, *, workers: int, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._adapter = Adapter(hosts=MAX_REGIONS, workers=workers)
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def get(self, scheme: str, host: str, query: str, headers: Mapping[str, str]) -> Reply:
        """Return the answer to ``GET /?query``.

        Raises:
            CallError: there is no whole answer; the code begins with ``network.`` or ``answer.``.
        """
        request = requests.PreparedRequest()
        request.method = "GET"
        request.url = f"{scheme}://{host}/?{query}"
        request.headers = CaseInsensitiveDict(headers)
        try:
            # Not Session.send: it reads the environment, walks redirects and keeps cookies, which costs more
            # than the request itself. The session keeps the connections.
            response = self._adapter.send(request, stream=True, timeout=self._timeouts)
            try:
                body = _whole_body(response.raw)
            finally:
                response.raw.close()  # of a body that was read to its end the connection lives on in the pool
        except (requests.RequestException, HTTPError, OSError, http.client.HTTPException) as error:
            raise _network_error(error, host) from error
        return Reply(response.status_code, response.headers, body)

    def abort(self) -> None:
        """Cut every connection, so that all calls in flight end now."""
        self._adapter.cut()

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


def _whole_body(raw: Any) -> bytes:
    encoding = raw.headers.get("content-encoding", "identity").strip().lower()
    blocks, size = [], 0
    while block := raw.read(_BLOCK_BYTES, decode_content=False):
        blocks.append(block)
        size += len(block)
        if size > MAX_BODY_BYTES:
            raise _too_large()
    body = b"".join(blocks)
    if encoding in {"identity", ""} or not body:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise CallError("answer.unreadable", f"the body is encoded as {encoding[:40]!r}, which was not asked for")
    return _gunzipped(body)


def _gunzipped(body: bytes) -> bytes:
    """Our own three calls of zlib: urllib3 takes a gzip body that was cut for a whole one."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise CallError("answer.unreadable", "the body is no gzip data") from error
    if len(text) > MAX_BODY_BYTES:
        raise _too_large()
    if not decompressor.eof:
        raise CallError("answer.unreadable", "the gzip body is cut short")
    return text


def _too_large() -> CallError:
    return CallError("answer.too_large", f"the body has more than {MAX_BODY_BYTES // 1024**2} MiB")


# --- errors


def _network_error(error: BaseException, host: str) -> CallError:
    causes = _causes_of(error)
    for code, kinds, text in _KINDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return CallError(code, text.format(host=host))
    return CallError("network.reset", f"the connection to {host} broke ({type(causes[-1]).__name__})")


def _causes_of(error: BaseException) -> list[BaseException]:
    """Return the error and what it wraps: as its argument, as urllib3's ``reason`` or as its cause."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found


_KINDS: tuple[tuple[str, tuple[type[BaseException], ...], str], ...] = (
    (
        "network.dns",
        (NameResolutionError, socket.gaierror, requests.exceptions.InvalidURL),
        "the host {host} has no address",
    ),
    (
        "network.tls",
        (ssl.SSLError, Urllib3SSLError, requests.exceptions.SSLError),
        "no trusted TLS connection to {host}",
    ),
    ("network.connect", (requests.exceptions.ConnectTimeout,), "no connection to {host} within the connect timeout"),
    (
        "network.timeout",
        (ReadTimeoutError, requests.exceptions.ReadTimeout, TimeoutError),
        "{host} did not answer in time",
    ),
    (
        "network.connect",
        (requests.exceptions.ProxyError, ConnectionRefusedError, requests.exceptions.InvalidProxyURL),
        "no connection to {host}",
    ),
    (
        "network.reset",
        (ConnectionResetError, BrokenPipeError, http.client.HTTPException),
        "{host} broke the connection off",
    ),
)
