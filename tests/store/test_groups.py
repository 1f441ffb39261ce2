"""Changes run by run, from either end: every filter finds the runs that plain SQL finds, on every database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from sync.inventory import IMAGE_FIELDS, OPEN
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.groups import find_run_ids, find_run_ids_from, list_change_groups, list_changes_of_runs
from sync.store.lease import Lease
from sync.store.schema import change, image, run, target
from tests.conftest import DIALECTS, Shelf

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNS = 60
BUSY = ("cn-busy-1", "cn-busy-2", "cn-quiet")
TYPES = 150  # of each region; so many are not read by their index
IMAGES = 130
UNCOUNTED = 7
"""The run that was killed: it wrote what it did not count."""
LARGE = 30
"""The run that changed every image."""


def at(run_id: int) -> datetime:
    """Return when a run recorded its changes."""
    return NOON + timedelta(minutes=run_id)


def write_many_runs(database: Database) -> None:
    """Fill a fresh database with sixty runs."""
    make_tables(database)
    with database.writing() as connection:
        _write_history(connection)


def make_tables(database: Database) -> None:
    """Make the tables of a fresh database, as the first run does."""
    lease = Lease(database)
    lease.acquire()
    lease.release()


def _write_history(connection: Connection) -> None:
    """Write sixty runs with thirty thousand changes; what the rare filters find is among the first ones alone."""
    types = [(region, f"ecs.t{number:03}.large") for region in BUSY for number in range(TYPES)]
    connection.execute(insert(target), [_a_target(key, *place) for key, place in enumerate(types, 1)])
    connection.execute(insert(image), [_an_image(key) for key in range(1, IMAGES + 1)])
    changes = [entry for run_id in range(1, RUNS + 1) for entry in _changes_of(run_id)]
    connection.execute(insert(run), [_a_run(run_id, changes) for run_id in range(1, RUNS + 1)])
    connection.execute(insert(change), changes)


def _a_target(key: int, region_id: str, instance_type: str) -> dict[str, Any]:
    values = {"id": key, "region_id": region_id, "instance_type": instance_type, "base_os_tag": ""}
    return {**values, "first_observed_at": NOON, "retired_at": OPEN, "image_digest": ""}


def _an_image(key: int) -> dict[str, Any]:
    fields = dict.fromkeys(IMAGE_FIELDS, "") | {"image_id": f"m-{key:03}", "os_name_en": f"Linux {key % 3}"}
    return {"id": key, "fingerprint": f"{key:064}", "first_seen_at": NOON, **fields}


def _a_run(run_id: int, changes: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = [entry["kind"] for entry in changes if entry["run_id"] == run_id]
    names = ("added", "removed", "changed")
    counts = {f"images_{name}": 0 if run_id == UNCOUNTED else kinds.count(name) for name in names}
    status = "interrupted" if run_id == UNCOUNTED else "ok"
    return {
        "id": run_id,
        "started_at": at(run_id),
        "finished_at": at(run_id),
        "status": status,
        "trigger": "x",
    } | counts


def _changes_of(run_id: int) -> Iterator[dict[str, Any]]:
    """Yield what a run found: five images come and go in the busy regions, and now and then something rare."""
    for number in range(500):
        spread, half = (number, number // 128) if run_id == LARGE else (number // 100, number)
        key = (run_id * 5 + spread) % (IMAGES - 2) + 1
        yield _a_change(run_id, (number * 7 + run_id) % 300 + 1, key, "removed" if half % 2 else "added")
    rare: dict[int, list[tuple[int, int | None, str]]] = {
        2: [(1, IMAGES, "added")],
        3: [(1, 1, "changed")],
        4: [(2 * TYPES + 1, 2, "added")],
        5: [(3, None, "type_retired")],
        UNCOUNTED: [(4, 3, "changed")],
    }
    for place, image_key, kind in rare.get(run_id, []):
        yield _a_change(run_id, place, image_key, kind)


def _a_change(run_id: int, target_id: int, image_key: int | None, kind: str) -> dict[str, Any]:
    times = {"detected_at": at(run_id), "last_seen_at": at(run_id - 1), "recorded_at": at(run_id)}
    return {"run_id": run_id, "target_id": target_id, "image_key": image_key, "kind": kind, **times}


CASES: dict[str, tuple[Filter, tuple[datetime | None, ...], str]] = {
    "everything": (Filter(), (), "1 = 1"),
    "a busy region": (Filter(("cn-busy-1",)), (), "region_id = 'cn-busy-1'"),
    "a quiet region": (Filter(("cn-quiet",)), (), "region_id = 'cn-quiet'"),
    "some regions": (Filter(("*-QUIET", "x*")), (), "region_id = 'cn-quiet'"),
    "a type": (Filter((), ("ecs.t007.large",)), (), "instance_type = 'ecs.t007.large'"),
    "an image of long ago": (Filter(images=("m-130",)), (), "image_id = 'm-130'"),
    "most images": (Filter(images=("linux*",)), (), "image_id IS NOT NULL"),
    "no image": (Filter(images=("*nothing*",)), (), "1 = 0"),
    "a tag that none has": (Filter(os_tags=("CentOS*",)), (), "1 = 0"),
    "a common kind": (Filter(kinds=("removed",)), (), "kind = 'removed'"),
    "a rare kind": (Filter(kinds=("changed",)), (), "kind = 'changed'"),
    "retired types": (Filter(kinds=("type_retired", "type_added")), (), "kind = 'type_retired'"),
    "a kind of no change": (Filter(kinds=("type_added",)), (), "1 = 0"),
    "kinds of both sorts": (Filter(kinds=("changed", "type_retired")), (), "kind IN ('changed', 'type_retired')"),
    "a kind in a region": (Filter(("cn-quiet",), kinds=("added",)), (), "region_id = 'cn-quiet'"),
    "a type and an image": (Filter((), ("ecs.t000.large",), ("m-130",)), (), "image_id = 'm-130'"),
    "since": (Filter(), (at(50),), "run_id >= 50"),
    "until": (Filter(), (None, at(9)), "run_id < 9"),
    "between": (Filter(kinds=("changed",)), (at(4), at(9)), "kind = 'changed' AND run_id >= 4"),
    "before all": (Filter(), (None, at(0)), "1 = 0"),
    "after all": (Filter(), (at(RUNS + 1),), "1 = 0"),
}


def write_many_runs_into(url: str) -> None:
    """Fill an empty database with sixty runs."""
    opened = Database(url)
    write_many_runs(opened)
    opened.close()


@pytest.fixture(params=DIALECTS)
def past(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[Database]:
    """Sixty runs, to read; once for each database server."""
    opened = Database(shelf.url_of(request.param, write_many_runs_into), is_read_only=True)
    yield opened
    opened.close()


def runs_by_sql(connection: Connection, where: str) -> list[int]:
    """Return the runs that recorded such changes, the oldest first."""
    query = f"SELECT DISTINCT run_id FROM image_changes WHERE {where} ORDER BY run_id"
    return list(connection.execute(text(query)).scalars())


@pytest.mark.parametrize("limit", [7, 50])
def test_the_newest_runs_of_every_filter_are_those_that_sql_finds(past: Database, limit: int) -> None:
    with past.reading() as connection:
        found = {name: find_run_ids(connection, of, limit, period=period) for name, (of, period, _) in CASES.items()}
        expected = {name: runs_by_sql(connection, where)[::-1][:limit] for name, (_, _, where) in CASES.items()}
    assert found == expected


@pytest.mark.parametrize(("before", "limit"), [(6, 7), (58, 50)])
def test_the_runs_before_a_run_are_those_that_sql_finds(past: Database, before: int, limit: int) -> None:
    with past.reading() as connection:
        found = {
            name: find_run_ids(connection, of, limit, before=before, period=period)
            for name, (of, period, _) in CASES.items()
        }
        expected = {
            name: runs_by_sql(connection, f"{where} AND run_id < {before}")[::-1][:limit]
            for name, (_, _, where) in CASES.items()
        }
    assert found == expected


@pytest.mark.parametrize("limit", [7, 50])
def test_the_oldest_runs_from_a_run_on_are_those_that_sql_finds(past: Database, limit: int) -> None:
    with past.reading() as connection:
        found = {
            name: find_run_ids_from(connection, of, limit, 5, period=period) for name, (of, period, _) in CASES.items()
        }
        expected = {
            name: runs_by_sql(connection, f"{where} AND run_id >= 5")[:limit] for name, (_, _, where) in CASES.items()
        }
    assert found == expected


def test_a_history_without_changes_has_no_runs(database: Database) -> None:
    make_tables(database)
    with database.reading() as connection:
        for wanted, period, _ in CASES.values():
            assert find_run_ids(connection, wanted, 7, period=period) == []
            assert find_run_ids_from(connection, wanted, 7, 1, period=period) == []


def test_groups_count_what_sql_counts(past: Database) -> None:
    query = text(
        "SELECT run_id, region_id, kind, image_id, COUNT(DISTINCT instance_type) FROM image_changes"
        " WHERE run_id IN (5, 7, 30) AND region_id = 'cn-busy-1' GROUP BY run_id, region_id, kind, image_id"
    )
    with past.reading() as connection:
        groups = list_change_groups(connection, Filter(("cn-busy-1",)), [5, 7, 30])
        expected = {tuple(row) for row in connection.execute(query)}
    found = [(row["run_id"], row["region_id"], row["kind"], row["image_id"], row["instance_types"]) for row in groups]
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [row["run_id"] for row in groups] == sorted((row["run_id"] for row in groups), reverse=True)


def test_a_few_types_are_named_and_many_are_not(past: Database) -> None:
    with past.reading() as connection:
        groups = list_change_groups(connection, Filter(), [2, LARGE])
    assert all((len(row["few_types"]) == row["instance_types"]) is (row["instance_types"] <= 4) for row in groups)
    (rare,) = [row for row in groups if row["image_id"] == "m-130"]
    assert (rare["few_types"], rare["first_instance_type"]) == (["ecs.t000.large"], "ecs.t000.large")


def test_groups_of_a_period_leave_out_what_the_run_recorded_outside_of_it(database: Database) -> None:
    write_many_runs(database)
    with database.writing() as connection:
        connection.execute(
            insert(change), [{**_a_change(RUNS, 1, 1, "changed"), "recorded_at": at(RUNS) + timedelta(seconds=30)}]
        )
    with database.reading() as connection:
        period = (at(RUNS) + timedelta(seconds=1), None)
        groups = list_change_groups(connection, Filter(), [RUNS], period=period)
        rows = list_changes_of_runs(connection, Filter(), [RUNS], period=period)
    assert [row["kind"] for row in groups] == ["changed"]
    assert [row["kind"] for row in rows] == ["changed"]


def test_the_rows_of_runs_are_those_of_the_view_in_the_order_of_writing(past: Database) -> None:
    query = "SELECT change_id FROM image_changes WHERE run_id IN (2, 9) AND kind = 'added' ORDER BY change_id"
    with past.reading() as connection:
        rows = list_changes_of_runs(connection, Filter(kinds=("added",)), [9, 2])
        expected = list(connection.execute(text(query)).scalars())
    assert [row["change_id"] for row in rows] == expected
