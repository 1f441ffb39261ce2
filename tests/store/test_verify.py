"""Proving the history: a sound one has no violation, and whatever is damaged is named by the check that it concerns."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Table

from sync.inventory import OPEN, ChangeKind, RunStatus
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
from tests.store.past import record_past

DAY = timedelta(days=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

Damage = Callable[[Connection], object]
Found = set[tuple[str, str, str, str]]
"""Check, region, instance type, image."""


def target_of(region: str, instance_type: str, tag: str = "") -> Any:
    of = target.c
    place = (of.region_id == region, of.instance_type == instance_type, of.base_os_tag == tag)
    return sa.select(of.id).where(*place).scalar_subquery()


def image_of(name: str) -> Any:
    return sa.select(sa.func.min(image.c.id)).where(image.c.image_id == name).scalar_subquery()


def interval(region: str, instance_type: str, name: str, *, is_open: bool, tag: str = "") -> tuple[Any, ...]:
    of = availability.c
    end = of.valid_to == OPEN if is_open else of.valid_to < OPEN
    return of.target_id == target_of(region, instance_type, tag), of.image_key == image_of(name), end


def setting(table: Table, *where: Any, **values: Any) -> Damage:
    """Return the damage of changing rows, of which there must be some."""

    def damage(connection: Connection) -> None:
        assert connection.execute(sa.update(table).where(*where).values(**values)).rowcount

    return damage


def deleting(table: Table, *where: Any) -> Damage:
    def damage(connection: Connection) -> None:
        assert connection.execute(sa.delete(table).where(*where)).rowcount

    return damage


def inserting_gap(region: str, instance_type: str, gap_from: datetime, gap_to: datetime) -> Damage:
    values = {"error_code": "x", "message": "", "request_id": "", "run_id": 1, "gap_from": gap_from, "gap_to": gap_to}
    return lambda connection: connection.execute(
        sa.insert(coverage_gap).values(target_id=target_of(region, instance_type), **values)
    )


def inserting_interval(region: str, instance_type: str, name: str, tag: str) -> Damage:
    values = {"target_id": target_of(region, instance_type, tag), "image_key": image_of(name)}
    return lambda connection: connection.execute(
        sa.insert(availability).values(**values, valid_from=LONG_AGO + 2500 * DAY, valid_to=OPEN)
    )


def doubling_change(connection: Connection) -> None:
    row = connection.execute(sa.select(change).where(change.c.kind == ChangeKind.REMOVED)).mappings().first()
    assert row
    connection.execute(sa.insert(change).values(**{name: row[name] for name in row if name != "id"}))


def two_running(connection: Connection) -> None:
    connection.execute(sa.update(run).where(run.c.id <= 2).values(status=RunStatus.RUNNING))


def ending_gap(connection: Connection) -> None:
    """End a gap a moment before the run that ended it began to look."""
    of = coverage_gap.c
    ended = (of.target_id == target_of("bb", "t.2"), of.gap_to < OPEN)
    gap_from, gap_to = connection.execute(sa.select(of.gap_from, of.gap_to).where(*ended)).first() or (None, None)
    runs = region_run.c
    looked = sa.select(sa.func.max(runs.started_at)).where(runs.region_id == "bb", runs.started_at <= gap_to)
    begun = connection.execute(looked).scalar()
    assert begun
    assert gap_from < begun
    earlier = begun - timedelta(milliseconds=1)
    connection.execute(sa.update(coverage_gap).where(*ended, of.gap_to == gap_to).values(gap_to=earlier))


added_d = (change.c.kind == ChangeKind.ADDED, change.c.image_key == image_of("d"))
removed_b = (change.c.kind == ChangeKind.REMOVED, change.c.target_id == target_of("aa", "t.1"))
retired = (change.c.kind == ChangeKind.TYPE_RETIRED, change.c.target_id == target_of("bb", "u.1"))
removed_of_held_limit = (
    change.c.kind == ChangeKind.REMOVED,
    change.c.target_id == target_of("bb", "t.1"),
    change.c.image_key == image_of("a"),
)
launched = (change.c.kind == ChangeKind.TYPE_ADDED, change.c.target_id == target_of("aa", "u.1"))
held_b = (held_removal.c.image_key == image_of("b"), held_removal.c.target_id == target_of("bb", "t.2"))
begin_of_held_b = (
    sa.select(availability.c.valid_from).where(*interval("bb", "t.2", "b", is_open=True)).scalar_subquery()
)


def retired_time(column: str) -> Any:
    return sa.select(change.c[column]).where(*retired).scalar_subquery()


of_t2 = target.c.id == target_of("aa", "t.2")
in_run_2 = (region_run.c.run_id == 2, region_run.c.region_id == "aa")
ended_b = interval("aa", "t.1", "b", is_open=False)
opened_f = interval("aa", "t.1", "f", is_open=True)

DAMAGES: dict[str, tuple[Damage, Found]] = {
    "an added change is lost": (
        deleting(change, *added_d),
        {("changes", "aa", "t.1", "d"), ("runs", "aa", "", ""), ("runs", "", "", "")},
    ),
    "a removed change is lost": (
        deleting(change, *removed_b),
        {("changes", "aa", "t.1", "b"), ("runs", "aa", "", ""), ("runs", "", "", "")},
    ),
    "a retirement is lost": (
        deleting(change, *retired),
        {("changes", "bb", "u.1", name) for name in ("", "a", "b", "c")},
    ),
    "a change is told twice": (
        doubling_change,
        {("changes", "aa", "t.1", "b"), ("changes", "aa", "t.1", ""), ("runs", "aa", "", ""), ("runs", "", "", "")},
    ),
    "a change is recorded too early": (
        setting(change, *added_d, recorded_at=LONG_AGO),
        {("changes", "aa", "t.1", "d")},
    ),
    "a change is dated to another day": (
        setting(change, *removed_b, detected_at=change.c.last_seen_at),
        {("changes", "aa", "t.1", "b")},
    ),
    "a change is of another image": (
        setting(change, *added_d, image_key=image_of("f")),
        {("changes", "aa", "t.1", "d"), ("changes", "aa", "t.1", "f")},
    ),
    "a change is of no known kind": (
        setting(change, *added_d, kind="odd"),
        {("changes", "aa", "t.1", "d"), ("runs", "aa", "", ""), ("runs", "", "", "")},
    ),
    "an end is shifted": (
        setting(availability, *ended_b, valid_to=LONG_AGO + 3000 * DAY),
        {("changes", "aa", "t.1", "b")},
    ),
    "a beginning is shifted": (
        setting(availability, *opened_f, valid_from=LONG_AGO + 3000 * DAY),
        {("changes", "aa", "t.1", "f")},
    ),
    "an interval is open again": (
        setting(availability, *ended_b, valid_to=OPEN),
        {("changes", "aa", "t.1", "b"), ("digests", "aa", "t.1", "")},
    ),
    "an interval is lost": (
        deleting(availability, *opened_f),
        {("changes", "aa", "t.1", "f"), ("digests", "aa", "t.1", "")},
    ),
    "an interval runs into the next": (
        setting(availability, *interval("aa", "u.1", "b", is_open=False), valid_to=LONG_AGO + 3000 * DAY),
        {("intervals", "aa", "u.1", "b"), ("changes", "aa", "u.1", "b"), ("changes", "aa", "u.1", "z")},
    ),
    "an interval is older than its target": (
        setting(availability, *opened_f, valid_from=LONG_AGO),
        {("intervals", "aa", "t.1", "f"), ("changes", "aa", "t.1", "f")},
    ),
    "a retired type has an image": (
        setting(target, of_t2, retired_at=LONG_AGO),
        {("intervals", "aa", "t.2", name) for name in ("a", "b", "c")} | {("changes", "aa", "t.2", "")},
    ),
    "a digest is that of others": (setting(target, of_t2, image_digest="0" * 64), {("digests", "aa", "t.2", "")}),
    "a fingerprint is that of others": (
        setting(image, image.c.image_id == "d", fingerprint="0" * 64),
        {("digests", "", "", "d")},
    ),
    "two gaps overlap": (
        inserting_gap("bb", "t.2", LONG_AGO + 2330 * DAY, LONG_AGO + 3000 * DAY),
        {("gaps", "bb", "t.2", "")},
    ),
    "a gap of a retired type is open": (inserting_gap("bb", "u.1", LONG_AGO, OPEN), {("gaps", "bb", "u.1", "")}),
    "an unobserved target has no gap": (setting(target, of_t2, asked_at=None), {("gaps", "aa", "t.2", "")}),
    "a region run has another figure": (
        setting(region_run, *in_run_2, images_added=9),
        {("runs", "aa", "", ""), ("runs", "", "", "")},
    ),
    "a run has another figure": (setting(run, run.c.id == 2, targets_ok=99), {("runs", "", "", "")}),
    "two runs are running": (two_running, {("runs", "", "", "")}),
    "an old run is running": (
        setting(run, run.c.id == 2, status=RunStatus.RUNNING, finished_at=None),
        {("runs", "", "", "")},
    ),
    "a run is ok though targets failed": (
        setting(run, run.c.targets_failed > 0, status=RunStatus.OK),
        {("runs", "", "", "")},
    ),
    "a region run outlives its run": (
        setting(region_run, *in_run_2, finished_at=LONG_AGO + 9000 * DAY),
        {("runs", "aa", "", "")},
    ),
    "a gap ends though nobody looked": (ending_gap, {("gaps", "bb", "t.2", "")}),
    "a run has no known status": (setting(run, run.c.id == 2, status="odd"), {("runs", "", "", "")}),
    "a run ends before it begins": (
        setting(run, run.c.id == 2, finished_at=LONG_AGO),
        {("runs", "", "", ""), ("runs", "aa", "", ""), ("runs", "bb", "", "")},
    ),
    "a region run goes on in a run that has ended": (
        setting(region_run, *in_run_2, status=RunStatus.RUNNING),
        {("runs", "aa", "", "")},
    ),
    "all region runs of a run are lost": (
        deleting(region_run, region_run.c.run_id == 1),
        {("runs", "", "", "")},
    ),
    "a region run begins before its run": (
        setting(region_run, *in_run_2, started_at=LONG_AGO),
        {("runs", "aa", "", "")},
    ),
    "a run that ended has no end": (setting(run, run.c.id == 2, finished_at=None), {("runs", "", "", "")}),
    "a region run that ended has no end": (
        setting(region_run, *in_run_2, finished_at=None),
        {("runs", "aa", "", "")},
    ),
    "a change was last seen after it was detected": (
        setting(change, *removed_b, last_seen_at=LONG_AGO + 9000 * DAY),
        {("changes", "aa", "t.1", "b")},
    ),
    "a removal names no image": (
        setting(change, *removed_of_held_limit, image_key=None),
        {("changes", "bb", "t.1", ""), ("changes", "bb", "t.1", "a")},
    ),
    "a launch names an image": (
        setting(change, *launched, image_key=image_of("b")),
        {("changes", "aa", "u.1", "b")},
    ),
    "a target with a tag loses an image without a change": (
        setting(availability, *interval("bb", "t.1", "a", is_open=True, tag="tag"), valid_to=LONG_AGO + 2500 * DAY),
        {("changes", "bb", "t.1", "a"), ("digests", "bb", "t.1", "")},
    ),
    "a target with a tag has an image without a change": (
        inserting_interval("bb", "t.1", "f", "tag"),
        {("changes", "bb", "t.1", "f"), ("digests", "bb", "t.1", "")},
    ),
    "an interval ends after its type went": (
        setting(availability, *interval("bb", "u.1", "a", is_open=False), valid_to=retired_time("recorded_at")),
        {("changes", "bb", "u.1", "a")},
    ),
    "an interval outlives its type": (
        setting(availability, *interval("bb", "u.1", "a", is_open=False), valid_to=LONG_AGO + 3000 * DAY),
        {("changes", "bb", "u.1", "a")},
    ),
    "what is held was missed before it came": (
        setting(held_removal, *held_b, first_missed_at=begin_of_held_b, last_seen_at=None),
        {("held removals", "bb", "t.2", "b")},
    ),
    "what is held was seen after it was missed": (
        setting(held_removal, *held_b, last_seen_at=LONG_AGO + 3000 * DAY),
        {("held removals", "bb", "t.2", "b")},
    ),
    "what is held is not available": (
        setting(held_removal, held_removal.c.image_key == image_of("b"), image_key=image_of("d")),
        {("held removals", "bb", "t.2", "d")},
    ),
    "what is held was never missed": (
        setting(held_removal, held_removal.c.image_key == image_of("b"), last_missed_at=LONG_AGO),
        {("held removals", "bb", "t.2", "b")},
    ),
}


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
