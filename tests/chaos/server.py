"""The database of the chaos: a PostgreSQL of its own that is restarted, or an SQLite file that somebody else locks."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine, create_engine, exc, make_url, text

from tests.conftest import _binary, _run_as, _server_folder, _unprivileged_user


class Server(Protocol):
    """A database that can be away for a while."""

    url: str
    """What the program is configured with."""

    def stop(self) -> None:
        """Take the database away."""

    def start(self) -> None:
        """Bring it back."""

    def is_write_locked(self) -> bool:
        """Return whether somebody is inside a write transaction that keeps all others from writing."""


class SqliteServer:
    """An SQLite file; while it is stopped another connection holds its write lock, as a backup or an editor would."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "history.db"
        self.url = f"sqlite:///{self._file}"
        self._intruder: sqlite3.Connection | None = None

    def stop(self) -> None:
        """Take the write lock; readers go on, as SQLite's write-ahead log promises."""
        self._intruder = sqlite3.connect(self._file, timeout=20, isolation_level=None, check_same_thread=False)
        self._intruder.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        """Give the lock back."""
        if self._intruder:
            self._intruder.execute("ROLLBACK")
            self._intruder.close()
        self._intruder = None

    def is_write_locked(self) -> bool:
        """Return whether a short wait for the write lock is in vain."""
        with contextlib.closing(sqlite3.connect(self._file, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
        return False


class PostgresqlServer:
    """A PostgreSQL in a folder of its own; a stop is an immediate one, which cuts all connections as a crash does."""

    def __init__(self, folder: Path, user: str) -> None:
        self._pg_ctl, self._user, self._folder = _binary("pg_ctl"), user, folder
        self._data = str(folder / "data")
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        initial = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        _run_as(user, _binary("initdb"), "-D", self._data, *initial)

    def stop(self) -> None:
        """Stop without saying goodbye."""
        _run_as(self._user, self._pg_ctl, "-D", self._data, "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off"
        log = str(self._folder / "log")
        _run_as(self._user, self._pg_ctl, "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def is_write_locked(self) -> bool:
        """Return whether a transaction holds the lease's row, which every write transaction updates first."""
        engine = engine_of(self.url)
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT name FROM lease WHERE name = 'run' FOR UPDATE NOWAIT"))
        except exc.OperationalError:
            return True
        finally:
            engine.dispose()
        return False


@contextlib.contextmanager
def started_server(kind: str, folder: Path) -> Iterator[Server]:
    """Give a running database of its own; ``kind`` is sqlite or postgresql.

    Raises pytest's outcome where PostgreSQL is not installed: skipped, or failed in CI.
    """
    if kind == "sqlite":
        yield SqliteServer(folder)
        return
    user = _unprivileged_user()
    with _server_folder(user) as own:
        server = PostgresqlServer(own, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def engine_of(url: str) -> Engine:
    """Return connections whose statements are transactions of their own; those that a restart cut are made anew."""
    chosen = make_url(url)
    if chosen.get_backend_name() == "postgresql":
        chosen = chosen.set(drivername="postgresql+psycopg")
    return create_engine(chosen, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
