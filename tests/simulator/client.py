"""A client for the tests of the simulator: signs by hand, so that each part of a request can be wrong on purpose."""

import hashlib
import hmac
import http.client
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from sync.simulator.server import Simulator

NO_BODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body, parse_float=str, parse_int=str))

    @property
    def code(self) -> str:
        return str(self.json.get("Code", ""))


@dataclass(frozen=True, slots=True)
class Signer:
    """How a call is signed; ``skew`` moves its date."""

    access_key_id: str = "simulator-id"
    secret: str = "simulator-secret"
    token: str = ""
    nonce: str = ""
    skew: timedelta = timedelta()
    headers: dict[str, str] = field(default_factory=dict)
    version: str = "2018-04-12"

    def headers_of(self, method: str, host: str, action: str, query: str) -> dict[str, str]:
        headers = {
            "host": host,
            "x-acs-action": action,
            "x-acs-version": self.version,
            "x-acs-date": (datetime.now(UTC) + self.skew).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": self.nonce or uuid.uuid4().hex,
            "x-acs-content-sha256": NO_BODY,
        }
        if self.token:
            headers["x-acs-security-token"] = self.token
        signed = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join((method, "/", query, lines, signed, NO_BODY))
        text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        credential = f"ACS3-HMAC-SHA256 Credential={self.access_key_id},SignedHeaders={signed},Signature={signature}"
        return {**headers, "authorization": credential, **self.headers}


def query_of(parameters: dict[str, str]) -> str:
    return "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(parameters.items()))


def call(
    simulator: Simulator,
    action: str = "ListImages",
    signer: Signer | None = None,
    *,
    host: str = "",
    **parameters: str,
) -> Answer:
    """Return the answer to one signed call on a connection of its own; parameters are named as in the API."""
    query = query_of(parameters)
    headers = (signer or Signer()).headers_of("GET", host or simulator.host_and_port, action, query)
    return send(simulator, "GET", f"/?{query}" if query else "/", headers)


def send(simulator: Simulator, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=5)
    try:
        connection.request(method, target, body=body or None, headers=headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def control(simulator: Simulator, method: str, name: str, text: str = "", **headers: str) -> Answer:
    return send(simulator, method, f"/_simulator/{name}", headers, text.encode())
