"""HTTP/1.1 as the simulator speaks it: one request read from a connection, one answer as bytes.

The parser of ``http.server`` builds an e-mail message for each request; that alone costs more than everything else
the simulator does for a call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from http.client import responses
from io import BufferedIOBase
from urllib.parse import parse_qsl

from sync.errors import SyncError

MAX_LINE_BYTES = 65_536  # the limit of http.server
MAX_HEADERS = 100  # the limit of http.client
MAX_BODY_BYTES = 1_048_576  # a signed call has a few hundred bytes; more is somebody's mistake
MAX_PARAMETERS = 200  # the API has five; keeps a hostile query cheap
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FORM = "application/x-www-form-urlencoded"


class MalformedRequestError(SyncError):
    """The bytes on the connection are no HTTP/1.1 request that the simulator reads; it answers 400 and hangs up."""


@dataclass(frozen=True)
class HttpRequest:
    """One request; header names are in lower case, repeated headers are joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    is_keep_alive: bool = True

    @cached_property
    def query_parameters(self) -> tuple[tuple[str, str], ...]:
        """Return the decoded pairs of the query, in their order."""
        return _pairs_of(self.query)

    @cached_property
    def form_parameters(self) -> tuple[tuple[str, str], ...]:
        """Return the decoded pairs of a form in the body, in their order."""
        if not self.body or not self.headers.get("content-type", "").lower().startswith(FORM):
            return ()
        return _pairs_of(self.body.decode("utf-8", "replace"))

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """Return all parameters by name; the query wins over the form."""
        return dict(self.form_parameters + self.query_parameters)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer before it is written: ``body`` is what the headers describe, compressed or not."""

    status: int
    body: bytes
    content_type: str = "application/json;charset=utf-8"
    is_gzip: bool = False
    headers: tuple[tuple[str, str], ...] = ()


def read_request(stream: BufferedIOBase) -> HttpRequest | None:
    """Return the next request of a connection; None when the client has hung up between two requests.

    Raises:
        MalformedRequestError: what came is not a request that can be read.
    """
    line = stream.readline(MAX_LINE_BYTES)
    if not line.strip():
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise MalformedRequestError(f"This is no HTTP/1.1 request line: {line[:80]!r}.")
    headers = _read_headers(stream)
    path, _, query = _without_authority(words[1]).partition("?")
    connection = headers.get("connection", "").lower()
    is_keep_alive = connection != "close" and (words[2] == "HTTP/1.1" or connection == "keep-alive")
    return HttpRequest(words[0], path, query, headers, _read_body(stream, headers), is_keep_alive)


def head_of(answer: HttpAnswer, *, now: datetime, body_length: int, is_keep_alive: bool) -> bytes:
    """Return the status line and the headers; ``body_length`` is what Content-Length claims, true or not."""
    lines = [
        f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}",
        f"Date: {http_date_of(now.replace(microsecond=0))}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {body_length}",
        f"Connection: {'keep-alive' if is_keep_alive else 'close'}",
    ]
    if answer.is_gzip:
        lines.append("Content-Encoding: gzip")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@lru_cache(maxsize=8)
def http_date_of(moment: datetime) -> str:
    """Return the moment as HTTP writes it, in GMT; independent of the locale."""
    utc = moment.astimezone(UTC)
    day = f"{DAYS[utc.weekday()]}, {utc.day:02} {MONTHS[utc.month - 1]} {utc.year}"
    return f"{day} {utc.hour:02}:{utc.minute:02}:{utc.second:02} GMT"


def _read_headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = stream.readline(MAX_LINE_BYTES)
        if line in {b"\r\n", b"\n"}:
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise MalformedRequestError(f"This is no header line: {line[:80]!r}.")
        key = name.lower()
        text = value.strip()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    raise MalformedRequestError(f"The request has more than {MAX_HEADERS} headers.")


def _read_body(stream: BufferedIOBase, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise MalformedRequestError("The simulator reads no chunked requests; send Content-Length.")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise MalformedRequestError(f"Content-Length {length[:20]} is no number up to {MAX_BODY_BYTES}.")
    body = stream.read(int(length)) if length != "0" else b""
    if len(body) < int(length):
        raise MalformedRequestError("The request ended inside its body.")
    return body


def _without_authority(target: str) -> str:
    """Return the request target without scheme and host, which clients of a proxy send."""
    if target.startswith("/"):
        return target
    _, _, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if rest else target


def _pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise MalformedRequestError(f"The parameters cannot be read: {error}.") from error
    return tuple(pairs)
