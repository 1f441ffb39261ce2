"""Proving the history: a sound one has no violation, and whatever is damaged is named by the check that it concerns."""

import sqlite3

import pytest
import sqlalchemy as sa

from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.prune import prune
from sync.store.schema import (
    availability,
    change,
    coverage_gap,
    held_removal,
    image,
    metadata,
    region_run,
    run,
    target,
    views,
)
from sync.store.types import UtcTimestamp, to_text
from sync.store.verify import Check, verify, violations
from tests.cli.story import file_of
from tests.store.damages import DAMAGES, DAY, LONG_AGO, Damage, Found, inserting_gap
from tests.store.past import record_past


def found_after(database: Database, damage: Damage) -> Found:
    """Return what is found wrong after a damage, which is taken back."""
    with database.engine.connect() as connection:
        damage(connection)
        found = verify(connection).violations
        connection.rollback()
    return {(entry.check, entry.region_id, entry.instance_type, entry.image_id) for entry in found}


def test_every_damage_is_found_by_the_checks_that_it_concerns(database: Database) -> None:
    record_past(database)
    assert violations(database) == []
    for name, (damage, expected) in DAMAGES.items():
        assert (name, found_after(database, damage)) == (name, expected)
    assert violations(database) == []


def test_changes_that_are_not_in_the_order_of_recording_are_found(database: Database) -> None:
    record_past(database)
    ids = sa.select(change.c.id).order_by(change.c.id)
    with database.writing() as connection:
        first, second, *_ = connection.execute(ids).scalars().all()
        later = sa.select(sa.func.max(run.c.finished_at)).scalar_subquery()
        connection.execute(sa.update(change).where(change.c.id == first).values(recorded_at=later))
    (found,) = violations(database)
    assert (found.check, found.message.partition(" was")[0]) == ("changes", f"change {second}")
    assert found.message.endswith("before the change that it follows")


def test_a_gap_before_what_was_dropped_is_found(database: Database) -> None:
    _, began = record_past(database)
    prune(database, began[8], began[-1])
    found = found_after(database, inserting_gap("bb", "t.2", LONG_AGO, LONG_AGO + DAY))
    assert found == {("gaps", "bb", "t.2", "")}


def test_a_sound_history_says_how_much_was_examined(database: Database) -> None:
    record_past(database)
    with database.reading() as connection:
        verdict = verify(connection)
        counts = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (availability, change, coverage_gap, target, image, run, region_run, held_removal)
        }
    assert verdict.is_sound
    assert {result.check: result.examined_count for result in verdict.results} == {
        Check.TIMES: sum(isinstance(of.type, UtcTimestamp) for table in metadata.sorted_tables for of in table.c)
        if database.dialect_name == "sqlite"
        else 0,
        Check.VIEWS: len(views.tables),
        Check.INTERVALS: counts["availability"],
        Check.CHANGES: counts["change"],
        Check.DIGESTS: counts["target"] + counts["image"],
        Check.GAPS: counts["coverage_gap"],
        Check.RUNS: counts["run"] + counts["region_run"],
        Check.HELD: counts["held_removal"],
    }


def test_an_empty_history_is_sound(database: Database) -> None:
    lease = Lease(database)
    lease.acquire()
    lease.release()
    assert violations(database) == []


# What the servers refuse to store, SQLite stores when its checks are off.
UNCHECKED: dict[str, tuple[str, Found]] = {
    "an interval names no target": (
        "UPDATE availability SET target_id = 99 WHERE target_id = 2",
        {("intervals", "", "", ""), ("digests", "aa", "t.1", "")},
    ),
    "an interval names no image": (
        "UPDATE availability SET image_key = 77 WHERE target_id = 2",
        {("intervals", "aa", "t.1", "image 77"), ("digests", "aa", "t.1", "")},
    ),
    "an interval is empty": (
        "UPDATE availability SET valid_to = valid_from WHERE valid_to < '9999' AND target_id = 1",
        {("intervals", "aa", "t.1", "b"), ("changes", "aa", "t.1", "b")},
    ),
    "a change names no target": (
        "UPDATE change SET target_id = 99 WHERE kind = 'type_added' AND target_id = 13",
        {("changes", "", "", "")},
    ),
    "a change names no run": (
        "UPDATE change SET run_id = 99 WHERE kind = 'type_added' AND target_id = 13",
        {("runs", "", "", "")},
    ),
    "the gaps are gone": ("DELETE FROM coverage_gap", {("runs", "aa", "", ""), ("runs", "bb", "", "")}),
    "a gap begins before the first observation": (
        "UPDATE coverage_gap SET gap_from = '2000-01-01 00:00:00.000' WHERE target_id = 11",
        {("gaps", "bb", "u.1", "")},
    ),
    "a gap is empty": (
        "UPDATE coverage_gap SET gap_to = gap_from WHERE target_id = 11",
        {("gaps", "bb", "u.1", ""), ("runs", "bb", "", "")},
    ),
    "a gap names no run": ("UPDATE coverage_gap SET run_id = 99 WHERE target_id = 11", {("runs", "", "", "")}),
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_rows_that_name_what_is_not_there_are_found(sqlite_url: str, name: str) -> None:
    database = Database(sqlite_url)
    record_past(database)
    statement, expected = UNCHECKED[name]
    database.close()
    with sqlite3.connect(file_of(sqlite_url)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        assert connection.execute(statement).rowcount
    connection.close()
    found = {(entry.check, entry.region_id, entry.instance_type, entry.image_id) for entry in violations(database)}
    database.close()
    assert found == expected


@pytest.mark.parametrize("text", ["soon", "2026-11-27T05:43:36Z", "2026-11-27 05:43:36", "2026-13-41 00:00:00.000"])
def test_a_time_that_cannot_be_read_is_named_with_its_place(sqlite_url: str, text: str) -> None:
    database = Database(sqlite_url)
    record_past(database)
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE change SET recorded_at = :text WHERE id = 1"), {"text": text})
    (found,) = violations(database)
    sentence = f"change.recorded_at of id 1 is {text!r}, which is no time"
    assert (found.check, found.region_id in {"aa", "bb"}, found.message) == ("times", True, sentence)
    database.close()


@pytest.mark.parametrize("name", ["images", "image_history"])
def test_a_view_that_is_not_there_is_found(database: Database, name: str) -> None:
    record_past(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"DROP VIEW {name}"))
    (found,) = violations(database)
    assert (found.check, found.message.partition(";")[0]) == ("views", f"the view {name} is missing")


def test_a_view_with_other_columns_is_found(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    record_past(database)
    with database.writing() as connection:
        connection.execute(sa.text("DROP VIEW images"))
        connection.execute(sa.text("CREATE VIEW images AS SELECT 1 AS x"))
    (found,) = violations(database)
    assert "the view images has other columns" in found.message
    database.close()


def test_a_wrecked_history_is_told_by_its_first_thousand_violations(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    record_past(database)
    columns = "run_id, target_id, image_key, kind, detected_at, recorded_at"
    moment = to_text(LONG_AGO)
    values = ", ".join(f"(1, 1, 1, 'added', '{moment}', '{moment}')" for _ in range(1500))
    with database.writing() as connection:
        connection.execute(sa.text(f"INSERT INTO change ({columns}) VALUES {values}".replace(":", r"\:")))
    with database.reading() as connection:
        results = {result.check: result for result in verify(connection).results}
    assert results[Check.CHANGES].violation_count > 1500
    assert len(results[Check.CHANGES].violations) == 1000
    database.close()
