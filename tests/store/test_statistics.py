"""The planner's statistics: refreshed after a large run, not after a small one, and never a failure."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

import sync.run
from sync.config import Settings
from sync.inventory import utc_now
from sync.run import RunRequest, RunResult, refresh_after, run_once
from sync.store.copy import copy_history
from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.prune import prune
from sync.store.statistics import refresh_statistics
from tests.conftest import DIALECTS
from tests.job.fake import FakeClient, Script, Ticker, rows
from tests.store.builders import execute

HANGZHOU = Settings(regions=("cn-hangzhou",))
OFFERS = {("cn-hangzhou", name, ""): [rows("a", "b")] for name in ("ecs.c7.large", "ecs.g7.large")}
SCRIPT = Script(OFFERS, {"cn-hangzhou": [frozenset({"ecs.c7.large", "ecs.g7.large"})]})

KNOWN = {
    "sqlite": "SELECT 1 FROM sqlite_stat1 WHERE tbl = 'availability' AND stat LIKE '4 %'",
    "postgresql": "SELECT 1 FROM pg_class WHERE relname = 'availability' AND reltuples = 4 AND relallvisible = 1",
    "mysql": "SELECT 1 FROM mysql.innodb_table_stats "
    "WHERE database_name = DATABASE() AND table_name = 'availability' AND n_rows = 4",
}
"""Finds a row when the planner knows of the four intervals that a run over SCRIPT opens."""


def make_run(database: Database) -> RunResult:
    client: Any = FakeClient(SCRIPT, Ticker())
    return run_once(HANGZHOU, database, client, RunRequest("test"), interrupt=threading.Event(), now=Ticker())


def is_known(database: Database) -> bool:
    with database.reading() as connection:
        return connection.execute(text(KNOWN[database.dialect_name])).first() is not None


@pytest.fixture
def gathered(database: Database) -> list[str]:
    """The statements that gather statistics from now on."""
    seen: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        if "ANALYZE" in statement:
            seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    return seen


def test_pruning_lets_the_planner_know_what_is_left(database: Database) -> None:
    make_run(database)
    with database.writing() as connection:
        image_key, target_id = connection.execute(text("SELECT image_key, target_id FROM availability LIMIT 1")).one()
        past = "'2020-01-01 00:00:00.000'", "'2020-01-02 00:00:00.000'"
        columns = "(target_id, valid_to, image_key, valid_from)"
        for year in range(2000, 2010):
            since, until = (moment.replace("2020", str(year)) for moment in past)
            values = f"({target_id}, {until}, {image_key}, {since})".replace(":", r"\:")
            connection.execute(text(f"INSERT INTO availability {columns} VALUES {values}"))
        connection.execute(text("UPDATE target SET first_observed_at = '2000-01-01 00\\:00\\:00.000'"))
    assert prune(database, utc_now(), utc_now()).interval_count == 10
    assert is_known(database)


def test_a_copy_lets_the_planner_know_the_tables(database: Database, tmp_path: Path) -> None:
    make_run(database)
    copied = Database(f"sqlite:///{tmp_path / 'copy.db'}")
    copy_history(database, copied)
    assert is_known(copied)
    copied.close()


def test_a_large_first_run_lets_the_planner_know_the_tables(database: Database) -> None:
    refresh_after(database, make_run(database), large_write=4)
    assert is_known(database)


def test_a_run_below_the_threshold_gathers_nothing(database: Database, gathered: list[str]) -> None:
    refresh_after(database, make_run(database), large_write=5)
    assert gathered == []


def test_every_run_is_measured_against_the_threshold(
    database: Database, gathered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync.run, "LARGE_WRITE", 4)
    make_run(database)
    assert is_known(database)
    gathered.clear()
    make_run(database)
    assert gathered == []


def test_a_database_that_refuses_is_logged_and_fails_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    refresh_statistics(database)
    (record,) = caplog.records
    assert "statistics were not refreshed" in record.getMessage()
    assert record.levelname == "WARNING"


def test_statistics_can_be_refreshed_again_and_again(database: Database) -> None:
    make_run(database)
    refresh_statistics(database)
    refresh_statistics(database)
    assert is_known(database)


@pytest.fixture
def reader_of_postgresql(postgresql_url: str) -> Iterator[Database]:
    """A user of PostgreSQL who owns no table."""
    owner = Database(postgresql_url)
    lease = Lease(owner)
    lease.acquire()
    lease.release()
    name = owner.engine.url.database
    execute(owner, f"CREATE ROLE {name} LOGIN")
    execute(owner, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    other = Database(owner.engine.url.set(username=name).render_as_string(hide_password=False))
    yield other
    other.close()
    execute(owner, f"DROP OWNED BY {name}")
    execute(owner, f"DROP ROLE {name}")
    owner.close()


def test_a_user_of_postgresql_who_owns_no_table_is_told_so(
    reader_of_postgresql: Database, caplog: pytest.LogCaptureFixture
) -> None:
    refresh_statistics(reader_of_postgresql)
    (record,) = caplog.records
    assert "vacuum" in record.getMessage()


def test_every_database_is_covered() -> None:
    assert set(KNOWN) == {"mysql" if name == "mariadb" else name for name in DIALECTS}
