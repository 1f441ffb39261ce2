"""ACS3-HMAC-SHA256, version 3 of Alibaba Cloud's request signature, for requests with an empty body.

Written from the description "V3 request body and signature mechanism" of Alibaba Cloud's documents; tested with
their worked example and against the signer of the official Python SDK.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from sync.ehpc.credentials import Credential

ALGORITHM = "ACS3-HMAC-SHA256"
EMPTY_BODY_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What is asked, before it is signed; ``query`` comes from ``canonical_query``, ``host`` holds a port if odd."""

    action: str
    host: str
    query: str
    method: str = "GET"
    version: str = "2018-04-12"


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Return the parameters sorted by name and percent-encoded after RFC 3986: to be sent as it is signed."""
    return "&".join(f"{quote(name, safe='~')}={quote(parameters[name], safe='~')}" for name in sorted(parameters))


def signed_headers(request: ApiRequest, credential: Credential, *, signed_at: datetime, nonce: str) -> dict[str, str]:
    """Return all headers that the request needs, the signature among them.

    ``nonce`` must differ in every request, and ``signed_at`` be at most 15 minutes off the server's clock.
    """
    headers = {
        "host": request.host,
        "x-acs-action": request.action,
        "x-acs-content-sha256": EMPTY_BODY_HASH,
        "x-acs-date": signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": request.version,
    }
    if credential.security_token:
        headers["x-acs-security-token"] = credential.security_token
    names = sorted(headers)
    canonical_headers = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    signed_names = ";".join(names)
    canonical = "\n".join((request.method, "/", request.query, canonical_headers, signed_names, EMPTY_BODY_HASH))
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(credential.access_key_secret.encode(), to_sign.encode(), "sha256").hex()
    headers["Authorization"] = (
        f"{ALGORITHM} Credential={credential.access_key_id},SignedHeaders={signed_names},Signature={signature}"
    )
    return headers
