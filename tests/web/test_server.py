"""The port: who cannot have it reads why, and it is free again at once."""

import errno
import http.client
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from urllib.parse import urlsplit

import pytest
import requests

from sync.errors import ConfigError
from sync.store.database import Database
from sync.web.app import PAGES_AT_ONCE, PAGES_WAITING, Source, create_app
from sync.web.extra import PACKAGES, require_extra
from sync.web.flight import Flight
from sync.web.server import Server
from tests.cli.program import CHECKOUT
from tests.web.stage import SHORTLY_AFTER, a_source, get, served

HEAVY = ("flask", "plotly", "prometheus_client", "waitress", "werkzeug")


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def server_of(source: Source, host: str = "127.0.0.1", port: int = 0) -> Server:
    return Server(create_app(source), host, port)


@pytest.fixture
def source(empty_file: Database) -> Source:
    """A source whose database is of no interest."""
    return a_source(empty_file)


def test_a_port_in_use_is_refused_before_anything_is_served(source: Source) -> None:
    with served(source) as url, pytest.raises(ConfigError) as caught:
        server_of(source, port=port_of(url))
    assert str(caught.value) == (
        f"http_listen: 127.0.0.1:{port_of(url)} cannot be used: {os.strerror(errno.EADDRINUSE)}; "
        "another program uses the port; choose another one, or end that program"
    )


def test_a_port_that_is_taken_but_not_served_yet_is_refused_too(source: Source) -> None:
    first = server_of(source)
    with pytest.raises(ConfigError, match="another program uses the port"):
        server_of(source, port=port_of(first.url))
    first.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused(source: Source, host: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^http_listen: .+; the address is not one of this machine; use 127\.0\.0\.1"
    ):
        server_of(source, host=host, port=9321)


def test_a_host_that_does_not_exist_is_refused(source: Source) -> None:
    with pytest.raises(ConfigError, match=r"^http_listen: there is no host 'x{70}': "):
        server_of(source, host="x" * 70, port=9321)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_port_of_privileged_users_is_refused(source: Source) -> None:
    with pytest.raises(ConfigError, match="choose one above"):
        server_of(source, port=1)


def test_a_name_of_this_machine_is_an_address(source: Source) -> None:
    server = server_of(source, host="localhost")
    server.start()
    assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):\d+", server.url)
    assert get(server.url, "/livez").status_code == 200
    server.close()


def test_ipv6_is_served_where_there_is_any(source: Source) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = server_of(source, host="::1")
    server.start()
    assert get(server.url, "/livez").status_code == 200
    server.close()


def test_closing_frees_the_port_at_once_though_clients_stay_connected(source: Source) -> None:
    with requests.Session() as session:
        server = server_of(source)
        server.start()
        assert session.get(f"{server.url}/livez", timeout=30).status_code == 200
        begun = time.monotonic()
        server.close()
        again = server_of(source, port=port_of(server.url))
        assert time.monotonic() - begun < 2
    again.start()
    assert get(again.url, "/livez").status_code == 200
    again.close()


def test_closing_does_not_wait_for_a_request_that_hangs(empty_file: Database) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def is_alive() -> bool:
        asked.set()
        return go_on.wait(30)

    server = server_of(a_source(empty_file, is_alive=is_alive))
    server.start()
    with socket.create_connection(("127.0.0.1", port_of(server.url))) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert asked.wait(30)
        begun = time.monotonic()
        server.close()
        assert time.monotonic() - begun < 3
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(server.url)))
        go_on.set()


def test_closing_twice_or_before_the_start_does_no_harm(source: Source) -> None:
    idle = server_of(source)
    idle.close()
    busy = server_of(source, port=port_of(idle.url))
    busy.start()
    busy.close()
    busy.close()


def test_closing_leaves_neither_threads_nor_files(source: Source) -> None:
    others = set(threading.enumerate())

    def threads() -> list[str]:
        ours = [entry.name for entry in threading.enumerate() if entry not in others]
        return [name for name in ours if name.startswith(("web-server", "waitress"))]

    for _ in range(3):
        server = server_of(source)
        server.start()
        assert get(server.url, "/livez").status_code == 200
        server.close()
    deadline = time.monotonic() + 5  # a thread leaves the list a moment after it has said that it ends
    while threads() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert threads() == []


def test_many_requests_at_once_do_not_fill_the_log(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), served(source) as url, ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: get(url, "/livez").status_code, range(60)))
    assert set(codes) == {200}
    assert [record for record in caplog.records if record.name.startswith(("waitress", "sync"))] == []


class Hanging:
    """A clock at which pages hang from ``stop`` to ``go_on``."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()
        self.waiting = threading.Semaphore(0)
        self.stop, self.go_on = self._going.clear, self._going.set

    def __call__(self) -> datetime:
        """Return a time, sooner or later."""
        if not self._going.is_set():
            self.waiting.release()
            self._going.wait(30)
        return SHORTLY_AFTER


def test_slow_pages_leave_threads_for_probes_and_files(file_history: Database) -> None:
    clock = Hanging()
    with served(a_source(file_history, now=clock), wait_s=0.05) as url, ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        assert get(url, "/healthz").status_code == 200
        clock.stop()
        slow = [pool.submit(get, url, "/overview") for _ in range(PAGES_AT_ONCE)]
        assert all(clock.waiting.acquire(timeout=30) for _ in slow)
        refused = get(url, "/overview")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert refused.text == "too many pages are being made at the moment; try again in a few seconds\n"
        as_page = get(url, "/overview", Accept="text/html")
        assert (as_page.status_code, "<nav" in as_page.text, "few seconds" in as_page.text) == (503, True, True)
        assert [get(url, path).status_code for path in ("/livez", "/static/style.css")] == [200, 200]
        clock.go_on()
        assert [entry.result(30).status_code for entry in slow] == [200] * PAGES_AT_ONCE
        assert get(url, "/overview").status_code == 200


def test_pages_wait_for_their_turn(file_history: Database) -> None:
    count = PAGES_AT_ONCE + PAGES_WAITING
    clock = Hanging()
    with served(a_source(file_history, now=clock)) as url, ThreadPoolExecutor(count) as pool:
        assert get(url, "/healthz").status_code == 200
        clock.stop()
        asked = [pool.submit(get, url, "/search") for _ in range(count)]
        assert all(clock.waiting.acquire(timeout=30) for _ in range(PAGES_AT_ONCE))
        assert get(url, "/livez").status_code == 200
        clock.go_on()
        assert {entry.result(30).status_code for entry in asked} == {200}


def test_half_requests_do_not_shut_out_others(source: Source) -> None:
    with served(source) as url, ExitStack() as stack:
        for _ in range(150):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(url))))
            client.sendall(b"GET / HTTP/1.1\r\n")
        assert get(url, "/livez").status_code == 200


def test_pages_that_fail_give_their_turn_back(empty_file: Database) -> None:
    with served(a_source(empty_file)) as url:
        told = [get(url, path) for path in ("/overview", "/overview?x=1", "/overview.json") for _ in range(9)]
    assert {answer.headers.get("Retry-After") for answer in told} == {None}


@pytest.mark.parametrize(("host", "is_loopback"), [("127.0.0.1", True), ("127.0.0.9", True), ("0.0.0.0", False)])
def test_who_else_reaches_a_server_is_known(source: Source, host: str, is_loopback: bool) -> None:
    server = server_of(source, host=host)
    server.close()
    assert server.is_loopback is is_loopback
    assert urlsplit(server.local_url).hostname == (host if is_loopback else "127.0.0.1")


def test_what_is_no_request_gets_a_short_answer(source: Source) -> None:
    with served(source) as url:
        for request in (b"\x16\x03\x01 not HTTP\r\n\r\n", b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port_of(url))) as client:
                client.sendall(request)
                answer = http.client.HTTPResponse(client)
                answer.begin()
                assert answer.status in {400, 431, 414}
                assert b"Traceback" not in answer.read()
        assert get(url, "/livez").status_code == 200


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    require_extra("http_listen is set, but")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        require_extra("http_listen is set, but")
    assert str(caught.value) == (
        f"http_listen is set, but the package {package} is not installed; run: pip install 'ehpc-image-sync[web]'"
    )


def test_the_packages_are_those_that_the_extra_installs() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    names = [re.split("[<>=]", entry)[0].replace("-", "_") for entry in project["optional-dependencies"]["web"]]
    assert names == list(PACKAGES)


def test_what_the_daemon_imports_needs_no_package_of_the_extra() -> None:
    script = (
        "import sys, sync.cli.web, sync.web.access, sync.web.app, sync.web.extra, sync.web.metrics, sync.web.server; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_work_in_the_background_is_shared_by_all_who_ask_meanwhile() -> None:
    done: list[int] = []
    go_on = threading.Event()

    def work() -> int:
        go_on.wait(30)
        done.append(1)
        return len(done)

    flight = Flight("test", work)
    with pytest.raises(TimeoutError):
        flight.result(0.01)
    go_on.set()
    assert [flight.result(30) for _ in range(2)] == [1, 2]


def test_work_that_fails_is_told_to_whoever_asked() -> None:
    def work() -> int:
        raise ZeroDivisionError

    flight = Flight("test", work)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            flight.result(30)
