"""Reads for people, dashboards and scripts: plain rows with the columns of the public views."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from sync.inventory import IMAGE_FIELDS, OPEN, Image, Target
from sync.store.database import Database
from sync.store.filters import Filter, images_wanted, is_glob, matching, places_wanted, targets_wanted
from sync.store.known import IN_LIST
from sync.store.schema import (
    change,
    coverage_gap,
    held_removal,
    image,
    image_changes,
    image_history,
    observation_gaps,
    target,
)

Row = dict[str, Any]

PAGE_CHANGES = 10_000
"""Ids of one page of changes: some 10 MB as rows of Python."""


IdRange = tuple[int | None, int | None]
"""Changes with ids above the first number, up to the second; None for no bound."""


def list_changes(
    connection: Connection,
    wanted: Filter,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after_id: int | None = None,
) -> list[Row]:
    """Return rows of ``image_changes`` in the order of writing, recorded at or after ``since`` and before ``until``.

    ``after_id`` is the last change that the caller has seen.
    """
    pages = _pages_of_changes(connection, wanted, since, until, after_id)
    return [row for page in pages for row in _changes_within(connection, wanted, page)]


def stream_changes(
    database: Database,
    wanted: Filter,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after_id: int | None = None,
) -> Iterator[list[Row]]:
    """Yield the rows of ``list_changes`` page by page, none of them empty; whoever takes them may take his time.

    Each page is read in a transaction of its own, which has ended before the page is given: changes are only ever
    added behind the last one.
    """
    with database.reading() as connection:
        pages = _pages_of_changes(connection, wanted, since, until, after_id)
    for page in pages:
        with database.reading() as connection:
            rows = _changes_within(connection, wanted, page)
        if rows:
            yield rows


def _pages_of_changes(
    connection: Connection, wanted: Filter, since: datetime | None, until: datetime | None, after_id: int | None
) -> list[IdRange]:
    """Return the ids of each page of changes.

    One page where images or instance types are named: an index finds their changes, which are few, and a hundred
    ranges of ids would read all others too.
    """
    # By ids, which follow the order of recording: where both are at hand MariaDB reads the whole history.
    above = max(find_id_before(connection, since), after_id or 0) if since else after_id
    until_id = find_id_before(connection, until) if until else None
    names = (*wanted.images, *wanted.instance_types)
    if names and not any(map(is_glob, names)):
        return [(above, until_id)]
    first = max(find_first_change_id(connection) - 1, above or 0)
    last = find_last_change_id(connection) if until_id is None else until_id
    return [(start, min(start + PAGE_CHANGES, last)) for start in range(first, last, PAGE_CHANGES)]


def _changes_within(connection: Connection, wanted: Filter, ids: IdRange) -> list[Row]:
    columns = image_changes.c
    above, until = ids
    query = sa.select(image_changes).where(
        *places_wanted(columns, wanted),
        *matching(columns.kind, wanted.kinds),
        *_images_wanted(connection, columns, wanted),
        *([] if above is None else [columns.change_id > above]),
        *([] if until is None else [columns.change_id <= until]),
    )
    return rows_of(connection, query.order_by(columns.change_id))


def _images_wanted(connection: Connection, columns: Any, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on an image, with its ImageIds: they have an index, four names joined by OR have none."""
    conditions = images_wanted(columns, wanted)
    ids = {entry.image_id for entry in find_images(connection, wanted)} if conditions else set()
    return [columns.image_id.in_(sorted(ids)), *conditions] if conditions and len(ids) <= IN_LIST else conditions


def list_intervals(connection: Connection, wanted: Filter) -> list[Row]:
    """Return rows of ``image_history``, sorted by region, instance type, image and time."""
    columns = image_history.c
    conditions = (*places_wanted(columns, wanted), *_images_wanted(connection, columns, wanted))
    rows = rows_of(connection, sa.select(image_history).where(*conditions))
    return sorted(rows, key=lambda row: (_place_of(row), row["valid_from"]))


def _place_of(row: Row) -> tuple[str, ...]:
    names = ("region_id", "instance_type", "base_os_tag_filter", "os_tag", "image_id", "os_name")
    return tuple(str(row[name] or "") for name in names)


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
        .where(*matching(target.c.region_id, region_ids))
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
    # Not both from each row: of tens of thousands of targets an index gives the few hundred names at once.
    columns = (target.c.region_id, target.c.instance_type)
    regions, types = (frozenset(connection.execute(sa.select(name).distinct()).scalars()) for name in columns)
    return regions, types


def list_regions_of(connection: Connection, wanted: Filter) -> list[str]:
    """Return the regions that have targets of a filter, sorted."""
    query = sa.select(target.c.region_id).distinct().where(*targets_wanted(wanted))
    return sorted(connection.execute(query).scalars())


def find_image_names(connection: Connection) -> frozenset[str]:
    """Return every ImageId, OsTag and display name of the history."""
    columns = (image.c.image_id, image.c.os_tag, image.c.os_name, image.c.os_name_en)
    return frozenset(name for row in connection.execute(sa.select(*columns)) for name in row if name)


def find_images(connection: Connection, wanted: Filter) -> frozenset[Image]:
    """Return every image that the filter names, available or not."""
    columns = [image.c[name] for name in IMAGE_FIELDS]
    return frozenset(
        Image(*row) for row in connection.execute(sa.select(*columns).where(*images_wanted(image.c, wanted)))
    )


def find_os_tags(connection: Connection) -> frozenset[str]:
    """Return every OsTag of the history."""
    return frozenset(connection.execute(sa.select(image.c.os_tag).distinct()).scalars()) - {""}


def find_unknown_since(connection: Connection, wanted: Filter) -> dict[Target, datetime]:
    """Return since when those targets that are not observed at the moment have been unknown."""
    gap = coverage_gap.c
    columns = (target.c.region_id, target.c.instance_type, target.c.base_os_tag, gap.gap_from)
    query = (
        sa.select(*columns)
        .select_from(coverage_gap.join(target, target.c.id == gap.target_id))
        .where(gap.gap_to == OPEN, target.c.retired_at == OPEN, *targets_wanted(wanted))
    )
    return {Target(*row[:3]): row[3] for row in connection.execute(query)}


def has_targets(connection: Connection, wanted: Filter) -> bool:
    """Return whether any run has ever asked what the filter names."""
    return connection.execute(sa.select(target.c.id).where(*targets_wanted(wanted)).limit(1)).first() is not None


def list_gaps(connection: Connection, wanted: Filter) -> list[Row]:
    """Return rows of ``observation_gaps``, sorted by region, instance type and time."""
    columns = observation_gaps.c
    order = (columns.region_id, columns.instance_type, columns.base_os_tag_filter, columns.gap_from)
    return rows_of(connection, sa.select(observation_gaps).where(*places_wanted(columns, wanted)).order_by(*order))


def find_last_change_id(connection: Connection) -> int:
    """Return the id of the newest change; 0 before the first."""
    return connection.execute(sa.select(sa.func.max(change.c.id))).scalar() or 0


def find_first_change_id(connection: Connection) -> int:
    """Return the id of the oldest change that is kept; 1 before the first."""
    return connection.execute(sa.select(sa.func.min(change.c.id))).scalar() or 1


def find_id_before(connection: Connection, moment: datetime) -> int:
    """Return the id of the last change that was recorded before a time; 0 where there is none."""
    before = sa.select(sa.func.max(change.c.id)).where(change.c.recorded_at < moment)
    return connection.execute(before).scalar() or 0


def find_first_observation(connection: Connection) -> datetime | None:
    """Return the time of the first observation of all; None before the first run."""
    return connection.execute(sa.select(sa.func.min(target.c.first_observed_at))).scalar()


def rows_of(connection: Connection, query: Any) -> list[Row]:
    """Return the rows of a query as dictionaries."""
    return [dict(row) for row in connection.execute(query).mappings()]


def columns_of(view: Table, *more: str) -> tuple[str, ...]:
    """Return the columns of a view, and further ones, in the order that rows are shown."""
    return (*(column.name for column in view.columns), *more)
