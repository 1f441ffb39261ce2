"""The three words that systemd understands from a service: ready, alive, and what it does (sd_notify(3))."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

ALIVE_SHARE = 3  # signs of life within one watchdog interval: two may get lost


class Systemd:
    """Tells systemd where it asks to be told (Type=notify, WatchdogSec=); does nothing elsewhere. Never fails."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._alive_every_s = _watchdog_s(environment) / ALIVE_SHARE
        self._alive_at = 0.0
        self._status = ""

    def ready(self) -> None:
        """Tell that the service is up, or up again after a reload."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that the configuration is read again; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the service is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Tell in one line what the service does; told again only when it changes."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Tell that the service is not stuck, as often as its watchdog wants; cheap enough to be called always."""
        if self._alive_every_s and time.monotonic() - self._alive_at >= self._alive_every_s:
            self._alive_at = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of Linux's abstract names.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), address)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return the watchdog's interval in seconds; 0 where there is none or it is another process's."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    is_mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1_000_000 if microseconds.isdigit() and is_mine else 0
