"""The dead man's switch: a web address that is told when a run starts, ends and fails, as Healthchecks.io takes it."""

import logging
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

import requests

from sync.logs import redact

logger = logging.getLogger(__name__)

TIMEOUT_S = 10  # to connect and between bytes; a switch that answers later does not delay the run any longer
MAX_BODY = 10_000  # characters; what Healthchecks.io keeps of a body at least


class Signal(StrEnum):
    """What the switch is told; the value is appended to the path of its address."""

    START = "/start"
    OK = ""
    FAIL = "/fail"


class DeadMansSwitch:
    """Tells one address; failing to do so is a warning and nothing more."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    def tell(self, signal: Signal, text: str = "") -> None:
        """Send one signal with a text for people; does nothing without an address."""
        if self._url is None:
            return
        parts = urlsplit(self._url)
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + signal.value))
        try:
            answer = requests.post(url, data=text[:MAX_BODY].encode(), timeout=TIMEOUT_S)
            answer.raise_for_status()
        except requests.RequestException as error:
            # The path is the secret of such an address: only its host is named.
            logger.warning("ping_url at %s was not reached: %s", parts.hostname, _reason(error))


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"it answered with the status {error.response.status_code}"
    return redact(type(error).__name__)
