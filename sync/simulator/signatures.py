"""Verifies signatures as Alibaba Cloud's gateway does: version 3 (ACS3-HMAC-SHA256) and version 1 (HMAC-SHA1).

Written from the documents and shared with no client, so that it is a second opinion on whoever signs.
"""

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from urllib.parse import quote

from sync.simulator.refusals import RefusalError
from sync.simulator.wire import HttpRequest

ALGORITHM = "ACS3-HMAC-SHA256"
MAX_CLOCK_OFFSET = timedelta(minutes=15)  # documented by Alibaba Cloud
MAX_NONCES = 200_000  # some 40 MB; at 1,500 calls/s the last two minutes, enough to catch a replay
DATE_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
NEEDED_HEADERS = (
    "x-acs-action",
    "x-acs-version",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-content-sha256",
)
NEEDED_PARAMETERS = ("Timestamp", "SignatureNonce", "SignatureMethod", "SignatureVersion", "Signature")


@dataclass(frozen=True, slots=True)
class Account:
    """Who may call: one access key, with or without an STS token, and what its RAM policy denies."""

    access_key_id: str = "simulator-id"
    access_key_secret: str = field(default="simulator-secret", repr=False)
    security_token: str = field(default="", repr=False)
    """Demanded of every call where not empty; where empty, a call with a token is refused."""
    expired_token: str = field(default="", repr=False)
    """A token that was good once: answered with InvalidSecurityToken.Expired."""
    denied_actions: tuple[str, ...] = ()
    """Globs of RAM actions (``ehpc:ListImages``, ``ehpc:*``) that the account must not call."""
    denial_code: str = "NotAuthorized"
    """``NotAuthorized`` (HTTP 407) or ``Forbidden.RAM`` (HTTP 403)."""

    def denies(self, action: str) -> bool:
        """Return whether the RAM policy denies an API action."""
        return any(fnmatchcase(f"ehpc:{action}", glob) for glob in self.denied_actions)


class NonceMemory:
    """Remembers the nonces of accepted signatures; thread-safe; forgets the oldest beyond ``MAX_NONCES``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nonces: dict[str, None] = {}

    def accept(self, nonce: str) -> None:
        """Remember a nonce, or raise RefusalError when it was used before."""
        with self._lock:
            if nonce in self._nonces:
                raise RefusalError("SignatureNonceUsed")
            self._nonces[nonce] = None
            if len(self._nonces) > MAX_NONCES:
                del self._nonces[next(iter(self._nonces))]


def verify_signature(request: HttpRequest, account: Account, nonces: NonceMemory, now: datetime) -> str:
    """Return the version of the request's valid signature, ``v3`` or ``v1``.

    Raises:
        RefusalError: the signature, key, token, date or nonce is not acceptable; nothing was remembered.
    """
    if request.headers.get("authorization", "").startswith(ALGORITHM):
        _verify_v3(request, account, now)
        nonces.accept(request.headers["x-acs-signature-nonce"])
        return "v3"
    if "Signature" in request.parameters:
        _verify_v1(request, account, now)
        nonces.accept(request.parameters["SignatureNonce"])
        return "v1"
    raise RefusalError(
        "IncompleteSignature", "The request carries neither an ACS3 Authorization header nor a Signature."
    )


def _verify_v3(request: HttpRequest, account: Account, now: datetime) -> None:
    parts = _authorization_parts_of(request.headers["authorization"])
    signed = parts["SignedHeaders"].split(";")
    _demand_signed(request, signed)
    if parts["Credential"] != account.access_key_id:
        raise RefusalError("InvalidAccessKeyId.NotFound")
    _check_date(request.headers["x-acs-date"], now)
    if hashlib.sha256(request.body).hexdigest() != request.headers["x-acs-content-sha256"]:
        raise RefusalError("SignatureDoesNotMatch", "x-acs-content-sha256 is not the hash of the body that came.")
    canonical = _canonical_request_of(request, signed)
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    expected = hmac.new(account.access_key_secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), parts["Signature"].encode()):
        raise _mismatch(to_sign, canonical)
    _check_token(request.headers.get("x-acs-security-token", ""), account)


def _authorization_parts_of(authorization: str) -> dict[str, str]:
    pairs = authorization.removeprefix(ALGORITHM).strip().split(",")
    parts = {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}
    missing = {"Credential", "SignedHeaders", "Signature"} - set(parts)
    if missing:
        raise RefusalError("IncompleteSignature", f"The Authorization header lacks {', '.join(sorted(missing))}.")
    return parts


def _demand_signed(request: HttpRequest, signed: list[str]) -> None:
    for name in NEEDED_HEADERS:
        if not request.headers.get(name):
            raise RefusalError(f"Missing{name}", f"The header {name} is mandatory for this action.")
    demanded = {name for name in request.headers if name.startswith("x-acs-")} | {"host"}
    unsigned = sorted(demanded - set(signed)) or sorted(set(signed) - set(request.headers))
    if unsigned:
        raise RefusalError("IncompleteSignature", f"Signed and sent headers differ: {', '.join(unsigned)}.")


def _canonical_request_of(request: HttpRequest, signed: list[str]) -> str:
    headers = "".join(f"{name}:{request.headers[name]}\n" for name in sorted(signed))
    return "\n".join(
        (
            request.method,
            quote(request.path, safe="/-_.~%"),
            _canonical_query_of(request.query_parameters),
            headers,
            ";".join(sorted(signed)),
            request.headers["x-acs-content-sha256"],
        )
    )


def _verify_v1(request: HttpRequest, account: Account, now: datetime) -> None:
    given = request.parameters
    for name in NEEDED_PARAMETERS:
        if not given.get(name):
            raise RefusalError(f"Missing{name}", f"The parameter {name} is mandatory for this action.")
    if given["SignatureMethod"] != "HMAC-SHA1" or given["SignatureVersion"] != "1.0":
        raise RefusalError("InvalidSignatureMethod", "The simulator verifies HMAC-SHA1, version 1.0, and ACS3.")
    if given.get("AccessKeyId") != account.access_key_id:
        raise RefusalError("InvalidAccessKeyId.NotFound")
    _check_date(given["Timestamp"], now)
    canonical = _canonical_query_of((name, value) for name, value in given.items() if name != "Signature")
    to_sign = f"{request.method}&%2F&{_encoded(canonical)}"
    key = f"{account.access_key_secret}&".encode()
    expected = base64.b64encode(hmac.new(key, to_sign.encode(), hashlib.sha1).digest())
    if not hmac.compare_digest(expected, given["Signature"].encode()):
        raise _mismatch(to_sign, canonical)
    _check_token(given.get("SecurityToken", ""), account)


def _canonical_query_of(pairs: Iterable[tuple[str, str]]) -> str:
    encoded = sorted([(_encoded(name), _encoded(value)) for name, value in pairs])
    return "&".join([f"{name}={value}" for name, value in encoded])


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _check_date(text: str, now: datetime) -> None:
    if not DATE_PATTERN.fullmatch(text):
        raise RefusalError("InvalidTimeStamp.Format")
    try:
        signed_at = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusalError("InvalidTimeStamp.Format") from error
    if abs(now - signed_at) > MAX_CLOCK_OFFSET:
        raise RefusalError("InvalidTimeStamp.Expired")


def _check_token(token: str, account: Account) -> None:
    if token == account.security_token:
        return
    if not token:
        raise RefusalError("MissingSecurityToken")
    is_expired = token == account.expired_token
    raise RefusalError("InvalidSecurityToken.Expired" if is_expired else "InvalidSecurityToken.MismatchWithAccessKey")


def _mismatch(to_sign: str, canonical: str) -> RefusalError:
    text = "Specified signature is not matched with our calculation. "
    return RefusalError(
        "SignatureDoesNotMatch", f"{text}server StringToSign is [{to_sign}], server CanonicalRequest is [{canonical}]"
    )
