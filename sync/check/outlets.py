"""What hears of runs: notification channels, the dead man's switch, and the address of health and metrics."""

import errno
import importlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from sync.check.result import CheckResult, State, failed, ok, skipped
from sync.config import Settings
from sync.errors import ConfigError, ExitCode
from sync.notify.channels import Channel, ChannelError
from sync.notify.message import Message, Templates


def check_channels(settings: Settings, *, sends_test: bool) -> Iterator[CheckResult]:
    """Read templates and channels; only ``sends_test`` sends something."""
    if not settings.notify_urls:
        yield skipped("notifications", "no notify_urls are configured")
        return
    try:
        templates = Templates(settings.notify_template_dir)
    except ConfigError as error:
        yield failed("notifications", error, "correct the template, or remove notify_template_dir")
        return
    seen: set[str] = set()
    for position, url in enumerate(settings.notify_urls, 1):
        try:
            channel = Channel(url, position)
        except ConfigError as error:
            yield failed(f"notifications URL {position}", error, "correct the URL")
            continue
        if channel.name not in seen:
            seen.add(channel.name)
            yield _channel(channel, templates, sends_test=sends_test)


def _channel(channel: Channel, templates: Templates, *, sends_test: bool) -> CheckResult:
    name = f"notifications {channel.name}"
    if not sends_test:
        return skipped(name, "known to Apprise, not tried; --send-test sends a message")
    words = f"a test message from {socket.gethostname()}: this channel works; nothing has changed"
    try:
        channel.send(templates.text_of(Message(notes=(words,))))
    except ChannelError as error:
        remedy = "check its address, its token and the way there: firewall, proxy"
        return CheckResult(name, State.FAILED, str(error).removeprefix(f"{channel.name} "), remedy)
    return ok(name, "took a test message")


def check_ping(settings: Settings) -> CheckResult:
    """Tell which dead man's switch is configured, which hears nothing of this."""
    if settings.ping_url is None:
        return skipped("ping_url", "not configured")
    host = urlsplit(settings.ping_url).hostname
    return skipped("ping_url", f"at {host}; not tried, because a ping says that a run was made")


def check_listen(settings: Settings) -> CheckResult:
    """Try to take the address that the daemon would serve, and give it back."""
    if settings.listen_address is None:
        return skipped("http_listen", "not configured")
    from sync.web.extra import needing_extra
    from sync.web.server import REMEDIES

    try:
        with needing_extra():
            for package in ("flask", "prometheus_client", "waitress"):
                importlib.import_module(package)
    except ConfigError as error:
        return failed("http_listen", error, "install the extra web")
    try:
        _bind(*settings.listen_address)
    except OSError as error:
        return _unusable_address(str(settings.http_listen), error, REMEDIES.get(error.errno or 0, ""))
    return ok("http_listen", f"{settings.http_listen} is free for the daemon")


def _bind(host: str, port: int) -> None:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)


def _unusable_address(address: str, error: OSError, remedy: str) -> CheckResult:
    if error.errno == errno.EADDRINUSE:
        detail = f"{address} is in use: by the running daemon, or by another program"
        return CheckResult("http_listen", State.WARNING, detail, "if no daemon runs here choose another port")
    detail = f"{address} cannot be used: {error.strerror}"
    return CheckResult("http_listen", State.FAILED, detail, remedy or "choose another address", ExitCode.USAGE)
