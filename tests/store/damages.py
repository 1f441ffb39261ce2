"""Damages to the history of tests.store.past, and what db verify must find of each."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from sync.inventory import OPEN, ChangeKind, RunStatus
from sync.store.schema import (
    availability,
    change,
    coverage_gap,
    held_removal,
    image,
    region_run,
    run,
    target,
)

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
