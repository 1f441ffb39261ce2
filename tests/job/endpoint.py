"""An E-HPC endpoint on loopback that shares no code with the product: a catalogue, scripted faults and a log."""

import hashlib
import hmac
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

KEY_ID = "judge"
SECRET = "judge-secret"

ApiRow = Mapping[str, Any]
Place = tuple[str, str]
"""Region and instance type; the type is empty for the listing of a region, both are for ListRegions."""

DENIED = "denied"
FAULTS = {
    "unavailable": (503, "ServiceUnavailable"),
    DENIED: (407, "NotAuthorized"),
    "throttled": (400, "Throttling.User"),
}
"""Faults with a code of Alibaba Cloud; the others (html, reset, truncated, shape) get one of ours."""

OUR_CODES = {
    "html": "answer.unreadable",
    "shape": "answer.unreadable",
    "reset": "network.reset",
    "truncated": "network.reset",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what it got: the names or rows of the answer, or the fault."""

    place: Place
    base_os_tag: str
    arrived_at: datetime
    looked_at: datetime
    content: tuple[Any, ...] | None
    fault: str
    request_id: str


@dataclass(slots=True)
class Plot:
    """What goes wrong in one run, by place and number of the attempt there, counted from 0."""

    faults: dict[tuple[Place, int], str] = field(default_factory=dict)
    answers: dict[tuple[Place, int], list[ApiRow]] = field(default_factory=dict)
    """Single answers that are not what the catalogue holds."""
    events: dict[tuple[Place, int], Callable[[], None]] = field(default_factory=dict)
    """What happens once the endpoint has looked at its catalogue, before it answers."""
    denied_regions: frozenset[str] = frozenset()
    listings: dict[str, list[str]] = field(default_factory=dict)
    """What discovery says in place of the catalogue."""


class Endpoint(ThreadingHTTPServer):
    """Serves ``catalogue``, region to instance type to rows; used as a context manager."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, catalogue: dict[str, dict[str, list[ApiRow]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.catalogue = catalogue
        self.plot = Plot()
        self.attempts: list[Attempt] = []
        self.changed_at: dict[Place, list[datetime]] = {}
        self.lock = threading.RLock()
        self.nonces: set[str] = set()
        self._counts: dict[tuple[Place, str], int] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> "Endpoint":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        """The endpoint to configure."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, plot: Plot) -> None:
        """Start the log and the counts of attempts anew."""
        with self.lock:
            self.plot, self.attempts, self._counts = plot, [], {}

    def offer(self, place: Place, rows: list[ApiRow]) -> None:
        """Change what an instance type offers, now."""
        with self.lock:
            self.catalogue[place[0]][place[1]] = rows
            self.changed_at.setdefault(place, []).append(datetime.now(UTC))

    def withdraw(self, place: Place) -> list[ApiRow]:
        """Take an instance type out of the catalogue, now, and return what it offered."""
        with self.lock:
            self.changed_at.setdefault((place[0], ""), []).append(datetime.now(UTC))
            return self.catalogue[place[0]].pop(place[1])

    def true_until(self, attempt: Attempt, end: datetime) -> datetime:
        """Return when the catalogue first changed after an answer had been made; ``end`` if it has not."""
        changes = self.changed_at.get(attempt.place, ())
        return min((moment for moment in changes if moment >= attempt.looked_at), default=end)

    def count(self, place: Place, tag: str) -> int:
        """Return the number of the attempt and count it."""
        number = self._counts.get((place, tag), 0)
        self._counts[(place, tag)] = number + 1
        return number

    def look(self, place: Place, number: int) -> tuple[Any, ...]:
        """Return what the catalogue, or the plot in its place, says now."""
        region_id, instance_type = place
        if not region_id:
            return tuple(sorted(self.catalogue))
        types = self.catalogue.get(region_id, {})
        if not instance_type:
            return tuple(self.plot.listings.get(region_id, sorted(types)))
        return tuple(self.plot.answers.get((place, number), types.get(instance_type, [])))


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 3  # seconds: what a client leaves open must not keep the server's threads for long

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay quiet: the log is in ``attempts``."""

    def do_GET(self) -> None:
        """Answer one request."""
        arrived_at = datetime.now(UTC)
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        complaint = self._complaint()
        if complaint:
            self._send(400, {"Code": "SignatureDoesNotMatch", "Message": complaint, "RequestId": "none"})
            return
        action = self.headers["x-acs-action"]
        place = _place_of(action, query)
        tag = query.get("BaseOsTag", "")
        server = self.server
        with server.lock:
            number = server.count(place, tag)
            fault = server.plot.faults.get((place, number), "")
            if place[0] in server.plot.denied_regions and place[1]:
                fault = DENIED
            content = None if fault else server.look(place, number)
            request_id = f"{action}-{len(server.attempts)}-{arrived_at:%H%M%S%f}"
            attempt = Attempt(place, tag, arrived_at, datetime.now(UTC), content, fault, request_id)
            server.attempts.append(attempt)
        event = server.plot.events.get((place, number))
        if event:
            event()
        if fault:
            self._fail(fault, request_id)
        else:
            self._send(200, {"RequestId": request_id, **_body_of(action, content or ())})

    def _send(self, status: int, content: Mapping[str, Any], **headers: str) -> None:
        self._send_bytes(status, json.dumps(content).encode(), "application/json", **headers)

    def _send_bytes(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self._headers_buffer: list[bytes]
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()

    def _fail(self, fault: str, request_id: str) -> None:
        match fault:
            case "html":
                self._send_bytes(200, b"<html><body>please log in</body></html>", "text/html")
            case "shape":
                self._send(200, {"RequestId": request_id, "OsTags": "none today"})
            case "truncated":
                self._send_bytes(200, b'{"RequestId": "', "application/json", Content_Length="4000")
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            case _:
                status, code = FAULTS[fault]
                content = {"Code": code, "Message": fault, "RequestId": request_id}
                self._send(status, content, x_acs_retry_after="1")

    # --- signature

    def _complaint(self) -> str:
        """Return what is wrong with the request's ACS3 signature; empty if nothing is."""
        pattern = r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})"
        found = re.fullmatch(pattern, self.headers.get("Authorization", ""))
        if not found or found[1] != KEY_ID:
            return "no ACS3 authorization of ours"
        names = found[2].split(";")
        needed = {"host"} | {name.lower() for name in self.headers if name.lower().startswith("x-acs-")}
        if names != sorted(names) or not needed <= set(names):
            return f"signed headers are {names}"
        if not hmac.compare_digest(self._signature(names), found[3]):
            return "another signature was expected"
        return self._stale()

    def _signature(self, names: list[str]) -> str:
        parts = urlsplit(self.path)
        pairs = sorted(parse_qsl(parts.query, keep_blank_values=True))
        query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
        headers = "".join(f"{name}:{self.headers.get(name, '').strip()}\n" for name in names)
        payload = hashlib.sha256(b"").hexdigest()
        request = "\n".join(["GET", parts.path, query, headers, ";".join(names), payload])
        text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(request.encode()).hexdigest()
        return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _stale(self) -> str:
        """Return what is wrong with date, nonce, version and payload hash."""
        date = datetime.strptime(self.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%S%z")
        nonce = self.headers["x-acs-signature-nonce"]
        if abs(date - datetime.now(UTC)) > timedelta(minutes=15):
            return "the date is off"
        with self.server.lock:
            is_used = nonce in self.server.nonces
            self.server.nonces.add(nonce)
        is_right = self.headers["x-acs-content-sha256"] == hashlib.sha256(b"").hexdigest()
        is_right &= self.headers["x-acs-version"] == "2018-04-12"
        return "the nonce was used" if is_used else "" if is_right else "version or payload hash is wrong"


def _place_of(action: str, query: Mapping[str, str]) -> Place:
    if action == "ListRegions":
        return "", ""
    return query["RegionId"], "" if action == "ListAvailableEcsTypes" else query.get("InstanceType", "*")


def _body_of(action: str, content: tuple[Any, ...]) -> dict[str, Any]:
    if action == "ListRegions":
        return {"Regions": {"RegionInfo": [{"RegionId": name, "LocalName": name} for name in content]}}
    if action == "ListAvailableEcsTypes":
        types = [{"InstanceTypeId": name, "Status": "Available", "MemorySize": 0.5} for name in content]
        families = [{"InstanceTypeFamilyId": "all", "Types": {"TypesInfo": types}}]
        return {"InstanceTypeFamilies": {"InstanceTypeFamilyInfo": families}, "SupportSpotInstance": True}
    return {"OsTags": {"OsInfo": list(content)}}
