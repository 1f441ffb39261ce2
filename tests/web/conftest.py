"""The recorded story on each database."""

import shutil
from collections.abc import Iterator

import pytest

from sync.store.database import Database
from tests.cli.story import file_of, record_story
from tests.conftest import DIALECTS, Shelf


@pytest.fixture(params=DIALECTS)
def history_url(request: pytest.FixtureRequest, shelf: Shelf) -> str:
    """The recorded story, which all tests share; once for each database server."""
    return shelf.url_of(request.param, record_story)


@pytest.fixture
def history(history_url: str) -> Iterator[Database]:
    """The recorded story, to read only, as pages are served from it; once for each database server."""
    opened = Database(history_url, is_read_only=True)
    yield opened
    opened.close()


@pytest.fixture
def own_history(database: Database, database_url: str) -> Database:
    """The recorded story, to write into; once for each database server."""
    record_story(database_url)
    return database


@pytest.fixture
def file_history(shelf: Shelf, sqlite_url: str) -> Iterator[Database]:
    """The recorded story in an SQLite file, to write into, for what does not depend on the server."""
    shutil.copy(file_of(shelf.url_of("sqlite", record_story)), file_of(sqlite_url))
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def empty_file(sqlite_url: str) -> Iterator[Database]:
    """An SQLite database whose file does not exist yet."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()
