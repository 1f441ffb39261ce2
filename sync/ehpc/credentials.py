"""Where the access key comes from: Alibaba Cloud's official chain, imported only when a run needs it."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sync.errors import ConfigError

if TYPE_CHECKING:
    from alibabacloud_credentials.client import Client as ChainClient

logger = logging.getLogger(__name__)

REFRESH_EVERY_S = 600  # every new chain of the library leaves a thread behind, and a token that stays bad asks again

NOTHING_FOUND = (
    "no Alibaba Cloud credentials found: set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, "
    "or configure the Alibaba Cloud CLI (~/.aliyun/config.json), or give this ECS instance a RAM role"
)


@dataclass(frozen=True, slots=True)
class Credential:
    """One access key, with the token of a temporary one; the secrets never appear in its text."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)


CredentialSource = Callable[[], Credential]
"""Called anew for every attempt, by many threads: cheap after the first call."""


class RefreshableSource(Protocol):
    """A source that can be told that the credential it gave has expired."""

    def __call__(self) -> Credential:
        """Return the credential in force."""
        ...

    def refresh(self) -> None:
        """Forget what is cached, so that the next call fetches anew."""
        ...


class OfficialChain:
    """The chain of ``alibabacloud_credentials``: environment, OIDC, CLI profile, ini file, ECS RAM role, URI.

    The library reads the environment when it is first imported, which is at the first call.

    Attributes:
        provider_name: which link of the chain gave the credential, empty before the first call.
    """

    def __init__(self) -> None:
        self.provider_name = ""
        self._lock = threading.Lock()
        self._client: ChainClient | None = None
        self._last: Credential | None = None
        self._refresh_from_s = 0.0

    def __call__(self) -> Credential:
        """Return the credential in force.

        Raises:
            ConfigError: no link of the chain has a credential.
        """
        with self._lock:
            try:
                self._last = self._found()
            except ConfigError as error:
                if self._last is None:
                    raise
                # A metadata service that stumbles in the middle of a run must not end it: the last credential
                # is mostly still good, and if it is not, the API says so.
                logger.warning("the credentials could not be refreshed, the last ones are used: %s", error)
            return self._last

    def refresh(self) -> None:
        """Forget what the chain has cached, so that the next call fetches anew; at most once in a while."""
        with self._lock:
            if time.monotonic() >= self._refresh_from_s:
                self._client = None
                self._refresh_from_s = time.monotonic() + REFRESH_EVERY_S

    def _found(self) -> Credential:
        from alibabacloud_credentials.exceptions import CredentialException

        try:
            if self._client is None:
                self._client = _new_chain()
            # One call for the three values: taken one by one they may belong to two different tokens.
            model = self._client.get_credential()
        except (CredentialException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            # Its text is not shown: a link of the chain may quote its file or its answer.
            raise ConfigError(NOTHING_FOUND) from error
        if not model.access_key_id or not model.access_key_secret:
            raise ConfigError(NOTHING_FOUND)
        self.provider_name = str(model.provider_name or "")
        return Credential(model.access_key_id, model.access_key_secret, model.security_token or "")


def official_chain() -> OfficialChain:
    """Return the official chain; nothing is imported or looked up before its first call."""
    return OfficialChain()


def _new_chain() -> "ChainClient":
    from alibabacloud_credentials.client import Client as ChainClient

    chain = ChainClient()
    # The library prints through handlers of its own, with tracebacks of links that found nothing.
    theirs = logging.getLogger("credentials")
    for handler in tuple(theirs.handlers):
        theirs.removeHandler(handler)
    theirs.setLevel(logging.CRITICAL)
    return chain
