"""Channels: one Apprise URL each, with a name that shows no secret."""

import difflib
import importlib
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sync.errors import ConfigError, SyncError
from sync.logs import redact
from sync.notify.message import MISSING_EXTRA, Text

SEND_TIMEOUT_S = 20  # for one message with all its attempts: well within the lease of telling


class ChannelError(SyncError):
    """A channel did not take a message; it will be told again."""


class Channel:
    """One place that messages go to.

    Attributes:
        name: what logs, metrics and the database call it: service and digest, without address and token. It stays
            the same as long as the place does.
    """

    def __init__(self, url: str, position: int = 1) -> None:
        """Read one Apprise URL, the ``position``-th of the configuration; nothing is sent.

        Raises:
            ConfigError: Apprise does not know it, or is not installed.
        """
        apprise = _apprise()
        self._sender = apprise.Apprise()
        if not self._sender.add(url):
            raise ConfigError(_refusal(url, position))
        plugin = next(iter(self._sender))
        self.name = f"{_scheme_of(url)}-{plugin.url_id()}"
        self._is_markdown = _wished_format(url, plugin.notify_format) == "markdown"

    def send(self, text: Text) -> None:
        """Send a message.

        Raises:
            ChannelError: the channel did not take it.
        """
        body, form = (text.markdown, "markdown") if self._is_markdown else (text.plain, "text")
        reasons: list[str] = []
        taken = self._sender.notify(
            body=body,
            title=text.title,
            notify_type=text.severity.value,
            body_format=form,
            timeout=SEND_TIMEOUT_S,
            log_level=logging.WARNING,
            log_callback=lambda entry, _: reasons.append(str(entry.message)),
        )
        if not taken:
            reason = redact(" ".join(reasons[:2])) or "it gave no reason"
            raise ChannelError(f"{self.name} did not take a message: {reason}")


def open_channels(urls: Sequence[str]) -> tuple[Channel, ...]:
    """Return the channels of Apprise URLs, each place once.

    Raises:
        ConfigError: Apprise does not know one of them, or is not installed.
    """
    channels = [Channel(url, position) for position, url in enumerate(urls, 1)]
    return tuple({channel.name: channel for channel in channels}.values())


def _apprise() -> Any:
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise ConfigError(MISSING_EXTRA.format(key="notify_urls", package=error.name, extra="notify")) from None
    # What it logs is collected where a message is sent, redacted and told once.
    theirs = logging.getLogger("apprise")
    theirs.propagate = False
    if not theirs.handlers:
        theirs.addHandler(logging.NullHandler())
    return apprise


def _wished_format(url: str, formats: str | Sequence[str]) -> str:
    """Return the format that the URL names, else the first of those that the service takes."""
    named = parse_qs(urlsplit(url).query).get("format")
    return named[0].lower() if named else formats if isinstance(formats, str) else formats[0]


def _scheme_of(url: str) -> str:
    return url.partition("://")[0].strip().lower()


def _refusal(url: str, position: int) -> str:
    manager: Any = importlib.import_module("apprise.manager_plugins")
    scheme, known = _scheme_of(url), sorted(str(name) for name in manager.NotificationManager().schemas())
    where = f"notify_urls: URL {position}"
    if "://" not in url or scheme not in known:
        nearest = difflib.get_close_matches(scheme, known, n=3, cutoff=0.5)
        hint = f"the nearest are {', '.join(f'{name}://' for name in nearest)}" if nearest else "such as dingtalk://"
        return f"{where} begins with nothing that Apprise knows; it needs a service, {hint}"
    return (
        f"{where} ({scheme}://…) lacks something that Apprise needs, or has too much; "
        f"https://github.com/caronc/apprise/wiki says how to write it"
    )
