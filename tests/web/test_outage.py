"""A database that is away, broken, empty or of another version: answers come soon and say what is wrong."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync.errors import DatabaseError, SchemaVersionError
from sync.store.database import Database, require_history
from tests.cli.story import file_of, record_story
from tests.store.builders import execute
from tests.web.stage import Setting, a_source, get, health_of, scrape, served

OF_THE_PROCESS = {
    "ehpc_sync_build_info",
    "ehpc_sync_database_up",
    "ehpc_sync_healthy",
    "ehpc_sync_run_duration_seconds",
    "ehpc_sync_runs_total",
    "ehpc_sync_stale_after_seconds",
}

PASSWORD = "correct-horse"


class Refusing:
    """A server that closes every connection at once, or never answers any, and counts them."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.connections: list[socket.socket] = []
        self._is_silent = is_silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://user:{PASSWORD}@127.0.0.1:{self._listener.getsockname()[1]}/history"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            if not self._is_silent:
                connection.close()

    def close(self) -> None:
        """Close everything, as a server that ends."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self.connections:
            connection.close()


@contextmanager
def refusing(*, is_silent: bool = False) -> Iterator[tuple[Refusing, Database]]:
    """Give a server that is no database, and the database that somebody configured there."""
    server = Refusing(is_silent=is_silent)
    database = Database(server.url)
    yield server, database
    server.close()
    database.close()


@pytest.fixture(params=["garbage", "folder", "closed port"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that cannot be used."""
    file = tmp_path / "history.db"
    url = f"sqlite:///{file}"
    if request.param == "garbage":
        file.write_bytes(b"no database at all, but long enough to look like one " * 100)
    elif request.param == "folder":
        file.mkdir()
    else:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            url = f"postgresql://user:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}/history"
    database = Database(url)
    yield database
    database.close()


def test_a_database_that_is_away_is_told_and_the_rest_is_still_there(away: Database) -> None:
    with served(a_source(away)) as url:
        found = scrape(url)
    assert found.value("ehpc_sync_database_up") == 0
    assert found.value("ehpc_sync_healthy") == 0
    assert found.names == OF_THE_PROCESS
    assert any(name.startswith("process_") for name in found.helps)


def test_a_database_that_is_away_makes_unhealthy_with_its_own_sentence(away: Database) -> None:
    with pytest.raises(DatabaseError) as caught:
        require_history(away)
    with served(a_source(away)) as url:
        code, reasons = health_of(url)
        assert get(url, "/livez").status_code == 200
    assert (code, reasons) == (503, [str(caught.value)])
    assert PASSWORD not in reasons[0]


def test_an_outage_is_remembered_for_a_while_and_then_asked_about_again() -> None:
    clock = Setting()
    with refusing() as (server, database), served(a_source(database, now=clock)) as url:
        assert health_of(url)[0] == 503
        asked = len(server.connections)
        assert asked
        for _ in range(3):
            assert scrape(url).value("ehpc_sync_database_up") == 0
        assert len(server.connections) == asked
        clock.pass_by(5)
        assert health_of(url)[0] == 503
        assert len(server.connections) > asked
        clock.pass_by(-3600)  # a clock that is set back must not make the outage last
        asked = len(server.connections)
        assert health_of(url)[0] == 503
        assert len(server.connections) > asked


def test_a_database_that_is_back_is_healthy_again(sqlite_url: str) -> None:
    clock = Setting()
    database = Database(sqlite_url)
    file_of(sqlite_url).write_bytes(b"garbage " * 200)
    with served(a_source(database, now=clock)) as url:
        assert health_of(url)[0] == 503
        file_of(sqlite_url).unlink()
        record_story(sqlite_url)
        clock.pass_by(6)
        assert health_of(url) == (200, [])
        assert scrape(url).value("ehpc_sync_database_up") == 1
    database.close()


@pytest.mark.slow
def test_a_silent_database_lets_nobody_wait_long_and_only_the_first_ones_at_all() -> None:
    with refusing(is_silent=True) as (_, database), served(a_source(database)) as url:
        begun = time.monotonic()
        code, reasons = health_of(url)
        assert (code, time.monotonic() - begun < 7) == (503, True)
        assert "has not answered for 5 s" in reasons[0]
        assert PASSWORD not in reasons[0]
        begun = time.monotonic()
        assert scrape(url).value("ehpc_sync_database_up") == 0
        assert get(url, "/livez").status_code == 200
        assert time.monotonic() - begun < 2


def test_a_database_without_tables_is_up_and_has_nothing_to_rely_upon(database: Database) -> None:
    with pytest.raises(SchemaVersionError) as caught:
        require_history(database)
    with served(a_source(database)) as url:
        found = scrape(url)
        assert health_of(url) == (503, [str(caught.value)])
    assert (found.value("ehpc_sync_database_up"), found.value("ehpc_sync_healthy")) == (1, 0)
    assert found.names == OF_THE_PROCESS


def test_looking_creates_no_database_file(empty_file: Database, sqlite_url: str) -> None:
    with served(a_source(empty_file)) as url:
        scrape(url)
        health_of(url)
    assert not file_of(sqlite_url).exists()


@pytest.mark.parametrize(("revision", "remedy"), [("0001", "ehpc-image-sync db upgrade"), ("9999", "newer")])
def test_tables_of_another_version_are_told_with_the_remedy(own_history: Database, revision: str, remedy: str) -> None:
    execute(own_history, f"UPDATE alembic_version SET version_num = '{revision}'")
    with served(a_source(own_history)) as url:
        code, reasons = health_of(url)
        found = scrape(url)
    assert code == 503
    assert remedy in reasons[0]
    assert (found.value("ehpc_sync_database_up"), found.value("ehpc_sync_healthy")) == (1, 0)


def test_runs_that_are_lost_again_and_again_are_an_outage(file_history: Database) -> None:
    execute(file_history, "UPDATE run SET status = 'failed', error = 'no credentials'")
    with served(a_source(file_history)) as url:
        assert health_of(url) == (503, ["the last 4 runs observed nothing: no credentials"])
