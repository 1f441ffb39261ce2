"""What the program tells systemd, read from a socket as systemd reads it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.systemd import Systemd


class Socket:
    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def read(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Socket]:
    opened = Socket(tmp_path)
    yield opened
    opened.socket.close()


def test_systemd_hears_of_every_state(listening: Socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": listening.path})
    systemd.ready()
    systemd.status("waiting\nfor 14:30")
    systemd.status("waiting for 14:30")
    systemd.reloading()
    systemd.stopping()
    words = listening.read()
    assert words[:2] == ["READY=1", "STATUS=waiting for 14:30"]
    assert words[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert words[3:] == ["STOPPING=1"]


def test_a_sign_of_life_is_given_as_often_as_the_watchdog_wants(listening: Socket) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": listening.path, "WATCHDOG_USEC": "60000000"})
    systemd.alive()
    systemd.alive()
    assert listening.read() == ["WATCHDOG=1"]
    systemd._alive_at -= 20
    systemd.alive()
    assert listening.read() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid() + 1)}]
)
def test_without_a_watchdog_of_ours_no_sign_of_life_is_given(listening: Socket, watchdog: dict[str, str]) -> None:
    Systemd({"NOTIFY_SOCKET": listening.path, **watchdog}).alive()
    assert listening.read() == []


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@abstract-and-not-there"])
def test_without_systemd_nothing_happens(address: str) -> None:
    Systemd({"NOTIFY_SOCKET": address}).ready()


def test_an_abstract_address_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0ehpc-test-{os.getpid()}")
        Systemd({"NOTIFY_SOCKET": f"@ehpc-test-{os.getpid()}"}).ready()
        assert listening.recv(100) == b"READY=1"
