"""What hears of runs: notification channels, the dead man's switch, and the address of dashboard and metrics."""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from sync.check.result import CheckResult, State, failed, ok, skipped
from sync.config import MAKE_ONE, Settings, with_token
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
    """Try to take the address that the daemon would serve, and give it back; read the token that it would ask for."""
    if settings.listen_address is None:
        return skipped("http_listen", "not configured")
    from sync.web.extra import require_extra
    from sync.web.server import REMEDIES

    try:
        require_extra("http_listen is set, but")
    except ConfigError as error:
        return failed("http_listen", error, "install the extra web")
    try:
        has_token = bool(with_token(settings).http_token)
    except ConfigError as error:
        return failed("http_listen", error, "give the daemon's user a file with a token, or remove http_token_file")
    try:
        is_loopback = _try_address(*settings.listen_address)
    except OSError as error:
        return _unusable_address(str(settings.http_listen), error, REMEDIES.get(error.errno or 0, ""))
    free = f"{settings.http_listen} is free for the daemon"
    if has_token or is_loopback:
        return ok("http_listen", f"{free}, which asks for {'the' if has_token else 'no'} token")
    detail = f"{free}; whoever reaches it reads all of it without a token"
    return CheckResult("http_listen", State.WARNING, detail, f"set http_token_file, or keep to 127.0.0.1; {MAKE_ONE}")


def _try_address(host: str, port: int) -> bool:
    """Take an address for a moment, and return whether only this machine reaches it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def _unusable_address(address: str, error: OSError, remedy: str) -> CheckResult:
    if error.errno == errno.EADDRINUSE:
        detail = f"{address} is in use: by the running daemon, or by another program"
        return CheckResult("http_listen", State.WARNING, detail, "if no daemon runs here choose another port")
    detail = f"{address} cannot be used: {error.strerror}"
    return CheckResult("http_listen", State.FAILED, detail, remedy or "choose another address", ExitCode.USAGE)
