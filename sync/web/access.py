"""Who may look: reading only, under a name that is ours, and with the token where one is configured."""

import base64
import binascii
import hmac
import ipaddress
import re
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from sync.config import Settings

if TYPE_CHECKING:
    from flask import Request, Response

OPEN = frozenset({"monitoring.livez", "monitoring.healthz"})
"""The endpoints of probes, which know neither names nor tokens; /healthz tells reasons only to who may look."""

METHODS = ("GET", "HEAD")

CHALLENGE = 'Basic realm="ehpc-image-sync: any user, the token as password", charset="UTF-8"'

LOCKED = "give the token: as password of any user, or in the header Authorization: Bearer TOKEN\n"

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
"""A Host header as browsers and tools write it; nothing with a user, blanks or several names."""


class Gate:
    """Lets requests in or refuses them. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Begin to learn this machine's full name, in the background: a resolver that is away takes its time."""
        listening = settings.listen_address
        names = [socket.gethostname(), *settings.http_hosts, *([listening[0]] if listening else [])]
        self._token = (settings.http_token or "").encode()
        self.names = {_bare(name) for name in names}
        self.learning = threading.Thread(target=self._learn_full_name, name="web-name", daemon=True)
        self.learning.start()

    def refusal(self, request: "Request") -> "Response | None":
        """Return why a request is not answered; None where it is.

        Raises:
            MethodNotAllowed: it would do more than read.
        """
        from flask import Response
        from werkzeug.exceptions import MethodNotAllowed

        if request.method not in METHODS:
            raise MethodNotAllowed(valid_methods=METHODS)
        if request.endpoint in OPEN:
            return None
        if not self._knows_host(request):
            shown = ascii(request.environ.get("HTTP_HOST", "")[:100])
            return Response(
                f"this server does not answer under the name {shown}; use its IP address, "
                "or add the name to http_hosts in its configuration\n",
                421,
                mimetype="text/plain",
            )
        if not self._has_token(request):
            return Response(LOCKED, 401, {"WWW-Authenticate": CHALLENGE}, mimetype="text/plain")
        return None

    def lets_in(self, request: "Request") -> bool:
        """Return whether whoever asks may see everything."""
        return self._knows_host(request) and self._has_token(request)

    def _knows_host(self, request: "Request") -> bool:
        return is_own_host(request.environ.get("HTTP_HOST", ""), self.names)

    def _has_token(self, request: "Request") -> bool:
        given = _given_token(request.headers.get("Authorization", ""))
        return not self._token or hmac.compare_digest(given, self._token)

    def _learn_full_name(self) -> None:
        # Not getfqdn, which believes what the network says about addresses.
        with suppress(OSError, UnicodeError):
            (entry, *_) = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)
            self.names.add(_bare(entry[3]))


def is_own_host(header: str, names: Collection[str]) -> bool:
    """Return whether a Host header is one under which no foreign page can have sent a browser here.

    A page elsewhere can let a name of its own point to this machine (DNS rebinding) and then read all that is served.
    It cannot do so with an IP address, a name without dots or below ``localhost``, or this machine's own ``names``.
    """
    match = _HOST.fullmatch(header)
    name = _bare(match[1]) if match else ""
    if name.startswith("["):
        return _is_address(name[1:-1])
    return bool(name) and ("." not in name or name.endswith(".localhost") or name in names or _is_address(name))


def _bare(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _given_token(header: str) -> bytes:
    """Return the token of an Authorization header: that of a bearer, or the password of any user."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode()
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
