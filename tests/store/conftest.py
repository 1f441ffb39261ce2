"""A migrated history with an open run, on each database."""

from collections.abc import Iterator

import pytest

from sync.store.database import Database
from tests.store.builders import Writer, writer_of


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    """An open run in a fresh history; once for each database server."""
    with writer_of(database) as opened:
        yield opened
