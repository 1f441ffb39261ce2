"""The program, and an empty history on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.store.database import Database
from sync.store.lease import Lease
from tests.cli.program import Program


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder."""
    return Program(monkeypatch, tmp_path)


@pytest.fixture
def history(database: Database) -> Database:
    """An empty database with its tables; once for each database server."""
    return _migrated(database)


@pytest.fixture
def sqlite_history(sqlite_url: str) -> Iterator[Database]:
    """An empty SQLite database with its tables."""
    opened = Database(sqlite_url)
    yield _migrated(opened)
    opened.close()


def _migrated(database: Database) -> Database:
    lease = Lease(database)
    lease.acquire()
    lease.release()
    return database
