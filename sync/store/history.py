"""Reads for people, dashboards and scripts: plain rows with the columns of the public views."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from sync.inventory import IMAGE_FIELDS, OPEN, Image, Target
from sync.store.schema import (
    WHOLE_TYPE,
    availability,
    coverage_gap,
    held_removal,
    image,
    image_changes,
    image_history,
    region_run,
    sync_runs,
    target,
)

Row = dict[str, Any]

AVAILABLE = "available"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty parts show everything. Instance types, image ids and tags may be globs."""

    region_ids: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """Matched against ImageId, OsTag and both display names."""
    kinds: tuple[str, ...] = ()


def list_images_at(connection: Connection, moment: datetime, wanted: Filter) -> list[Row]:
    """Return one row per region, instance type and image at a time: the columns of ``available_images`` and two more.

    ``state`` is ``available``, or ``unknown`` for what was known last of a target that was not observed at that
    time; ``observed_at`` is the last observation at or before it. An unknown target without images has one row
    without image. Sorted by region, instance type and image.
    """
    coverage = _coverage_at(connection, moment, wanted)
    rows = [
        {**row, "state": coverage[key][0], "observed_at": coverage[key][1]}
        for key, row in _intervals_at(connection, moment, wanted)
        if key in coverage
    ]
    with_images = {(row["region_id"], row["instance_type"], row["base_os_tag_filter"]) for row in rows}
    empty = dict.fromkeys((*IMAGE_FIELDS, "available_since", "from_baseline", "missing_since"))
    for state, observed_at, asked in coverage.values():
        place = {"region_id": asked.region_id, "instance_type": asked.instance_type}
        if state == UNKNOWN and (asked.region_id, asked.instance_type, asked.base_os_tag) not in with_images:
            tag = {"base_os_tag_filter": asked.base_os_tag}
            rows.append(place | empty | tag | {"state": state, "observed_at": observed_at})
    return sorted(rows, key=_place_of)


def _place_of(row: Row) -> tuple[str, ...]:
    names = ("region_id", "instance_type", "base_os_tag_filter", "os_tag", "image_id", "os_name")
    return tuple(str(row[name] or "") for name in names)


def _targets_wanted(wanted: Filter) -> list[ColumnElement[bool]]:
    return _matching(target.c.region_id, wanted.region_ids) + _matching(target.c.instance_type, wanted.instance_types)


def _images_wanted(columns: Any, wanted: Filter) -> list[ColumnElement[bool]]:
    names = ("image_id", "os_tag", "os_name", "os_name_en")
    either = [part for name in names for part in _matching(columns[name], wanted.images)]
    return [sa.or_(*either)] if either else []


def _matching(column: ColumnElement[str], patterns: Sequence[str]) -> list[ColumnElement[bool]]:
    """Return the condition that a column equals one of the patterns.

    With * and ? as wildcards letter case does not matter, as in what people remember of a name.
    """
    if not patterns:
        return []
    return [sa.or_(*(_like(column, pattern) for pattern in patterns))]


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern and "?" not in pattern:
        return column == pattern
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return column.ilike(escaped.replace("*", "%").replace("?", "_"), escape="!")


def _intervals_at(connection: Connection, moment: datetime, wanted: Filter) -> Iterator[tuple[int, Row]]:
    held, whole = held_removal.alias("held"), held_removal.alias("whole")
    of_image = sa.and_(held.c.target_id == availability.c.target_id, held.c.image_key == availability.c.image_key)
    of_type = sa.and_(whole.c.target_id == availability.c.target_id, whole.c.image_key == WHOLE_TYPE)
    joined = (
        availability.join(target, target.c.id == availability.c.target_id)
        .join(image, image.c.id == availability.c.image_key)
        .outerjoin(held, of_image)
        .outerjoin(whole, of_type)
    )
    missing_since = sa.func.coalesce(held.c.first_missed_at, whole.c.first_missed_at)
    columns = [
        target.c.region_id,
        target.c.instance_type,
        *(image.c[name] for name in IMAGE_FIELDS),
        availability.c.valid_from.label("available_since"),
        (availability.c.valid_from == target.c.first_observed_at).label("from_baseline"),
        sa.type_coerce(missing_since, held.c.first_missed_at.type).label("missing_since"),
        target.c.base_os_tag.label("base_os_tag_filter"),
    ]
    query = (
        sa.select(availability.c.target_id, *columns)
        .select_from(joined)
        .where(availability.c.valid_from <= moment, availability.c.valid_to > moment)
        .where(*_targets_wanted(wanted), *_images_wanted(image.c, wanted))
    )
    for row in connection.execute(query).mappings():
        entry = dict(row)
        key = entry.pop("target_id")
        if entry["missing_since"] is not None and entry["missing_since"] > moment:
            entry["missing_since"] = None
        yield key, entry


def _coverage_at(
    connection: Connection, moment: datetime, wanted: Filter
) -> dict[int, tuple[str, datetime | None, Target]]:
    """Return for each target whether it was observed at a time, and its last observation at or before it.

    Retired targets are left out once they are retired: they are known to be gone.
    """
    gap = coverage_gap
    in_gap = sa.and_(gap.c.target_id == target.c.id, gap.c.gap_from < moment, gap.c.gap_to > moment)
    columns = (target.c.id, target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    query = (
        sa.select(*columns, target.c.first_observed_at, gap.c.gap_from)
        .select_from(target.outerjoin(gap, in_gap))
        .where(sa.or_(target.c.retired_at > moment, target.c.retired_at == OPEN))
        .where(*_targets_wanted(wanted))
    )
    rows = connection.execute(query).all()
    runs = _complete_runs_until(connection, moment)
    seen = _written_until(connection, moment, wanted)
    found: dict[int, tuple[str, datetime | None, Target]] = {}
    for row in rows:
        asked = Target(*row[1:4])
        first = row.first_observed_at
        if first is None or first > moment:
            found[row.id] = (UNKNOWN, None, asked)
        elif row.gap_from is not None:
            found[row.id] = (UNKNOWN, row.gap_from, asked)
        else:
            known = [entry for entry in (first, seen.get(row.id), runs.get(asked.region_id)) if entry]
            found[row.id] = (AVAILABLE, max(known), asked)
    return found


def _complete_runs_until(connection: Connection, moment: datetime) -> dict[str, datetime]:
    query = (
        sa.select(region_run.c.region_id, sa.func.max(region_run.c.started_at))
        .where(region_run.c.is_complete == sa.true(), region_run.c.started_at <= moment)
        .group_by(region_run.c.region_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _written_until(connection: Connection, moment: datetime, wanted: Filter) -> dict[int, datetime]:
    """Return per target the last time at or before ``moment`` that an observation left in gaps or target rows."""
    gaps = (
        sa.select(coverage_gap.c.target_id, sa.func.max(coverage_gap.c.gap_to))
        .where(coverage_gap.c.gap_to <= moment)
        .group_by(coverage_gap.c.target_id)
    )
    found: dict[int, datetime] = {row[0]: row[1] for row in connection.execute(gaps)}
    written = sa.select(target.c.id, target.c.observed_at).where(
        target.c.observed_at <= moment, *_targets_wanted(wanted)
    )
    for key, observed_at in connection.execute(written):
        found[key] = max(observed_at, found.get(key, observed_at))
    return found


def list_changes(
    connection: Connection, wanted: Filter, *, since: datetime | None = None, until: datetime | None = None
) -> list[Row]:
    """Return rows of ``image_changes`` in the order of writing, recorded at or after ``since`` and before ``until``."""
    columns = image_changes.c
    query = sa.select(image_changes).where(
        *_matching(columns.region_id, wanted.region_ids),
        *_matching(columns.instance_type, wanted.instance_types),
        *_matching(columns.kind, wanted.kinds),
        *_images_wanted(columns, wanted),
    )
    if since:
        query = query.where(columns.recorded_at >= since)
    if until:
        query = query.where(columns.recorded_at < until)
    return _rows(connection, query.order_by(columns.change_id))


def list_run_changes(connection: Connection, run_id: int) -> list[Row]:
    """Return the changes that one run recorded, in the order of writing."""
    query = sa.select(image_changes).where(image_changes.c.run_id == run_id)
    return _rows(connection, query.order_by(image_changes.c.change_id))


def list_intervals(connection: Connection, wanted: Filter) -> list[Row]:
    """Return rows of ``image_history``, sorted by region, instance type, image and time."""
    columns = image_history.c
    query = sa.select(image_history).where(
        *_matching(columns.region_id, wanted.region_ids),
        *_matching(columns.instance_type, wanted.instance_types),
        *_images_wanted(columns, wanted),
    )
    rows = _rows(connection, query)
    return sorted(rows, key=lambda row: (_place_of(row), row["valid_from"]))


def list_runs(connection: Connection, limit: int) -> list[Row]:
    """Return the last ``limit`` rows of ``sync_runs``, the newest first."""
    return _rows(connection, sa.select(sync_runs).order_by(sync_runs.c.run_id.desc()).limit(limit))


def list_held(connection: Connection, region_ids: Sequence[str] = ()) -> list[tuple[Target, Image | None, Row]]:
    """Return the held removals with how long they have been missing, sorted by target and image.

    Image None is an instance type that discovery no longer lists.
    """
    held = held_removal.c
    joined = held_removal.join(target, target.c.id == held.target_id).outerjoin(image, image.c.id == held.image_key)
    columns = (held.first_missed_at, held.last_missed_at, held.last_seen_at, held.missed_runs)
    query = (
        sa.select(target, *(image.c[name].label(f"image_{name}") for name in IMAGE_FIELDS), *columns)
        .select_from(joined)
        .where(*_matching(target.c.region_id, region_ids))
    )
    found = []
    for row in connection.execute(query).mappings():
        asked = Target(row["region_id"], row["instance_type"], row["base_os_tag"])
        values = [row[f"image_{name}"] for name in IMAGE_FIELDS]
        missing = None if values[0] is None else Image(*values)
        entry: Row = {
            "kind": "type_retired" if missing is None else "removed",
            "region_id": asked.region_id,
            "instance_type": asked.instance_type,
            **dict(zip(IMAGE_FIELDS, values, strict=True)),
            "base_os_tag_filter": asked.base_os_tag,
            **{column.name: row[column.name] for column in columns},
        }
        found.append((asked, missing, entry))
    return sorted(found, key=lambda entry: (entry[0], entry[1] is not None, _place_of(entry[2])))


def find_known_names(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """Return all regions and all instance types of the history."""
    rows = connection.execute(sa.select(target.c.region_id, target.c.instance_type)).all()
    return frozenset(row[0] for row in rows), frozenset(row[1] for row in rows)


def find_image_names(connection: Connection) -> frozenset[str]:
    """Return every ImageId, OsTag and display name of the history."""
    columns = (image.c.image_id, image.c.os_tag, image.c.os_name, image.c.os_name_en)
    return frozenset(name for row in connection.execute(sa.select(*columns)) for name in row if name)


def find_first_observation(connection: Connection) -> datetime | None:
    """Return the time of the first observation of all; None before the first run."""
    return connection.execute(sa.select(sa.func.min(target.c.first_observed_at))).scalar()


@dataclass(frozen=True, slots=True)
class RunTimes:
    """The beginnings of all runs, to tell which run a recorded time belongs to."""

    started_at: tuple[datetime, ...]

    def run_start_of(self, moment: datetime | None) -> datetime | None:
        """Return the beginning of the run in which something was observed; the moment itself before the first."""
        if moment is None:
            return None
        index = bisect_right(self.started_at, moment)
        return self.started_at[index - 1] if index else moment


def find_run_times(connection: Connection) -> RunTimes:
    """Return when each run began."""
    query = sa.select(sync_runs.c.started_at).order_by(sync_runs.c.started_at)
    return RunTimes(tuple(connection.execute(query).scalars()))


def _rows(connection: Connection, query: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def columns_of(view: Table, *more: str) -> tuple[str, ...]:
    """Return the columns of a view, and further ones, in the order that rows are shown."""
    return (*(column.name for column in view.columns), *more)
