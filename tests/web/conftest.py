"""The recorded story on each database."""

from collections.abc import Iterator

import pytest

from sync.store.database import Database
from tests.cli.story import record_story


@pytest.fixture
def history(database: Database, database_url: str) -> Database:
    """The recorded story; once for each database server."""
    record_story(database_url)
    return database


@pytest.fixture
def file_history(sqlite_url: str) -> Iterator[Database]:
    """The recorded story in an SQLite file, for what does not depend on the server."""
    record_story(sqlite_url)
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def empty_file(sqlite_url: str) -> Iterator[Database]:
    """An SQLite database whose file does not exist yet."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()
