"""A migrated SQLite file to copy, because migrating for each test and each example would take most of the time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.store.database import Database
from sync.store.lease import Lease
from tests.job.judge import Judge


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty database with tables, which nobody writes to."""
    path = tmp_path_factory.mktemp("template") / "history.db"
    database = Database(f"sqlite:///{path}")
    lease = Lease(database)
    lease.acquire()
    lease.release()
    database.close()
    return path


@pytest.fixture
def judge(template: Path, tmp_path: Path) -> Iterator[Judge]:
    database = Database(f"sqlite:///{shutil.copy(template, tmp_path)}")
    yield Judge(database)
    database.close()
