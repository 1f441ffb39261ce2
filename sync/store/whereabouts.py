"""Where images are at the moment, and where an instance type stands: for pages about one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from sync.inventory import OPEN, ChangeKind
from sync.store.filters import Filter, images_wanted, places_wanted, targets_wanted
from sync.store.history import Row, rows_of
from sync.store.known import IN_LIST
from sync.store.schema import (
    WHOLE_TYPE,
    availability,
    change,
    coverage_gap,
    held_removal,
    image,
    target,
    target_status,
)


@dataclass(frozen=True, slots=True)
class Presence:
    """How many instance types of a region have any of some images; all of them have or had one of these."""

    region_id: str
    available_types: int
    """Observed with it."""
    unknown_types: int
    """Not observed at the moment, and known last to have it."""
    missing_types: int
    """Those of both that miss one of these images, while its removal is held."""
    all_types: int
    """How many instance types the region has."""
    available_since: datetime
    """When the first of those that have it got it; where none has it, when the first of all did."""
    from_baseline: bool
    """Whether that was a first observation: it may have been there before."""
    available_until: datetime | None
    """When the last type lost it; None while any has it."""


PRESENCE_COLUMNS = tuple(entry.name for entry in fields(Presence))


def list_presences(connection: Connection, wanted: Filter) -> list[Presence]:
    """Return one entry for each region that has or had any of the images, sorted."""
    counts = _count_types(connection, wanted)
    keys = _image_keys(connection, wanted)
    missing = _count_missing(connection, wanted, keys)
    found = [
        Presence(
            row.region_id,
            row.types - row.unknown_types,
            row.unknown_types,
            missing.get(row.region_id, 0),
            counts.get(row.region_id, 0),
            row.since,
            row.since == row.baseline,
            None,
        )
        for row in _find_present(connection, wanted, keys)
    ]
    here = [entry.region_id for entry in found]
    found += [
        Presence(row.region_id, 0, 0, 0, counts.get(row.region_id, 0), row.since, row.since == row.baseline, row.until)
        for row in _find_gone(connection, wanted, keys, here)
    ]
    return sorted(found, key=lambda entry: entry.region_id)


def _image_keys(connection: Connection, wanted: Filter) -> Any:
    """Return the keys of the images, or where they are many the query of them."""
    query = sa.select(image.c.id).where(*images_wanted(image.c, wanted))
    keys = list(connection.execute(query.limit(IN_LIST + 1)).scalars())
    return keys if len(keys) <= IN_LIST else query


def _find_present(connection: Connection, wanted: Filter, keys: Any) -> Sequence[Any]:
    gap, names = coverage_gap.c, target.c.instance_type
    had = _spans_of(keys, availability.c.valid_to == OPEN)
    is_unobserved = sa.and_(gap.target_id == target.c.id, gap.gap_to == OPEN)
    # A type that is asked with a BaseOsTag too is known to have the image where either of the two was observed.
    seen = sa.func.count(sa.distinct(sa.case((gap.target_id.is_(None), names))))
    columns = (
        target.c.region_id,
        sa.func.count(sa.distinct(names)).label("types"),
        (sa.func.count(sa.distinct(names)) - seen).label("unknown_types"),
        *_beginnings(had),
    )
    return connection.execute(_by_region(columns, _joined(had).outerjoin(coverage_gap, is_unobserved), wanted)).all()


def _find_gone(connection: Connection, wanted: Filter, keys: Any, here: Sequence[str]) -> Sequence[Any]:
    had = _spans_of(keys)
    columns = (target.c.region_id, sa.func.max(had.c.until).label("until"), *_beginnings(had))
    return connection.execute(_by_region(columns, _joined(had), wanted).where(target.c.region_id.not_in(here))).all()


def _count_missing(connection: Connection, wanted: Filter, keys: Any) -> dict[str, int]:
    held = held_removal.c
    query = sa.select(held.target_id, held.image_key).where(
        sa.or_(held.image_key == WHOLE_TYPE, held.image_key.in_(keys))
    )
    missed = query.subquery()
    span = availability.c
    # What is held now is open: whole types only where they have one of the images.
    has = sa.exists().where(span.target_id == missed.c.target_id, span.valid_to == OPEN, span.image_key.in_(keys))
    columns = (target.c.region_id, sa.func.count(sa.distinct(target.c.instance_type)))
    joined = missed.join(target, target.c.id == missed.c.target_id)
    return {row[0]: row[1] for row in connection.execute(_by_region(columns, joined, wanted).where(has)).all()}


def _spans_of(keys: Any, *conditions: ColumnElement[bool]) -> sa.Subquery:
    """Return per target from when to when it had any of the images.

    Grouped before anything is joined to it: SQLite would otherwise begin with all targets instead of the index.
    """
    span = availability.c
    times = (sa.func.min(span.valid_from).label("since"), sa.func.max(span.valid_to).label("until"))
    query = sa.select(span.target_id, *times).where(span.image_key.in_(keys), *conditions)
    return query.group_by(span.target_id).subquery()


def _beginnings(had: sa.Subquery) -> list[ColumnElement[Any]]:
    of_baseline = sa.case((had.c.since == target.c.first_observed_at, had.c.since))
    return [sa.func.min(had.c.since).label("since"), sa.func.min(of_baseline).label("baseline")]


def _joined(had: sa.Subquery) -> Any:
    return had.join(target, target.c.id == had.c.target_id)


def _by_region(columns: Sequence[Any], joined: Any, wanted: Filter) -> Any:
    return sa.select(*columns).select_from(joined).where(*targets_wanted(wanted)).group_by(target.c.region_id)


def _count_types(connection: Connection, wanted: Filter) -> dict[str, int]:
    """Return how many instance types each region has, those of a filter only; retired ones are not among them."""
    columns = (target.c.region_id, sa.func.count(sa.distinct(target.c.instance_type)))
    conditions = (target.c.retired_at == OPEN, *targets_wanted(wanted))
    query = sa.select(*columns).where(*conditions).group_by(target.c.region_id)
    return {row[0]: row[1] for row in connection.execute(query).all()}


def list_statuses(connection: Connection, wanted: Filter) -> list[Row]:
    """Return rows of ``target_status``, sorted by region, instance type and BaseOsTag."""
    columns = target_status.c
    order = (columns.region_id, columns.instance_type, columns.base_os_tag_filter)
    return rows_of(connection, sa.select(target_status).where(*places_wanted(columns, wanted)).order_by(*order))


def find_launches(connection: Connection, wanted: Filter) -> dict[tuple[str, str], datetime]:
    """Return by region and instance type when it was listed for the first time after its region's first run, or again.

    Types that were there from the beginning are not among them.
    """
    columns = (target.c.region_id, target.c.instance_type, sa.func.max(change.c.detected_at))
    query = (
        sa.select(*columns)
        .select_from(change.join(target, target.c.id == change.c.target_id))
        .where(change.c.kind == ChangeKind.TYPE_ADDED, *targets_wanted(wanted))
        .group_by(target.c.region_id, target.c.instance_type)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query).all()}
