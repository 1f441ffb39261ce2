"""How fresh and complete the stored data are: reads for status, alerts, health and metrics."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.inventory import NOT_PLANNED, OPEN, RunStatus
from sync.store.history import find_last_change_id
from sync.store.schema import (
    availability,
    change,
    coverage_gap,
    held_removal,
    region_run,
    run,
    sync_runs,
    target,
)

ENDED = (RunStatus.OK, RunStatus.PARTIAL, RunStatus.HELD, RunStatus.FAILED)


@dataclass(frozen=True, slots=True)
class RegionCondition:
    """What is known of one region's targets; those that are retired or no longer planned count for nothing."""

    region_id: str
    observed_at: datetime | None
    """The newest observation of any target; None where there was none."""
    observed_count: int
    unknown_count: int
    retired_count: int
    held_count: int
    """Held removals: pairs of target and image, and whole instance types."""


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A planned target that is not observed at the moment."""

    region_id: str
    instance_type: str
    gap_from: datetime
    code: str
    message: str
    run_id: int
    """The run in which it began."""


@dataclass(frozen=True, slots=True)
class RegionRunEnd:
    """How one whole run ended in one region."""

    run_id: int
    region_id: str
    status: str
    error: str


def list_region_conditions(connection: Connection) -> list[RegionCondition]:
    """Return the condition of every region with targets that are asked or retired, sorted by region."""
    gap = coverage_gap.c
    is_retired = target.c.retired_at != OPEN
    is_asked = sa.and_(target.c.retired_at == OPEN, sa.func.coalesce(gap.error_code, "") != NOT_PLANNED)
    is_unknown = sa.and_(is_asked, sa.or_(gap.gap_from.is_not(None), target.c.first_observed_at.is_(None)))
    is_current = sa.and_(is_asked, gap.gap_from.is_(None), target.c.asked_at.is_not(None))
    written_at = sa.func.max(sa.case((is_asked, sa.func.coalesce(gap.gap_from, target.c.observed_at))))
    query = (
        sa.select(
            target.c.region_id,
            sa.type_coerce(written_at, target.c.observed_at.type).label("written_at"),
            _count(is_asked).label("asked"),
            _count(is_unknown).label("unknown"),
            _count(is_retired).label("retired"),
            _count(is_current).label("current"),
        )
        .select_from(target.outerjoin(coverage_gap, sa.and_(gap.target_id == target.c.id, gap.gap_to == OPEN)))
        .group_by(target.c.region_id)
        .order_by(target.c.region_id)
    )
    held = _held_counts(connection)
    return [
        RegionCondition(
            row.region_id,
            _observed_at(connection, row),
            row.asked - row.unknown,
            row.unknown,
            row.retired,
            held.get(row.region_id, 0),
        )
        for row in connection.execute(query).all()
        if row.asked or row.retired
    ]


def _observed_at(connection: Connection, row: Any) -> datetime | None:
    """Return a region's newest observation: what its targets say, or its last complete run for all that are covered.

    Where every type is retired, listing none was the last that was observed.
    """
    columns = region_run.c
    complete = (columns.region_id == row.region_id, columns.is_complete == sa.true())
    newest = sa.select(columns.started_at).where(*complete).order_by(columns.started_at.desc()).limit(1)
    run_at = connection.execute(newest).scalar() if row.current or not row.asked else None
    known = [moment for moment in (row.written_at, run_at) if moment is not None]
    return max(known, default=None)


def _count(condition: Any) -> Any:
    # A cast, because the sums of MySQL and MariaDB are decimals, which JSON does not know.
    return sa.cast(sa.func.sum(sa.case((condition, 1), else_=0)), sa.Integer)


def _held_counts(connection: Connection) -> dict[str, int]:
    query = (
        sa.select(target.c.region_id, sa.func.count())
        .select_from(held_removal.join(target, target.c.id == held_removal.c.target_id))
        .group_by(target.c.region_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def list_open_gaps(connection: Connection) -> list[OpenGap]:
    """Return the planned targets that are not observed at the moment, sorted by region and instance type."""
    gap = coverage_gap.c
    query = (
        sa.select(target.c.region_id, target.c.instance_type, gap.gap_from, gap.error_code, gap.message, gap.run_id)
        .select_from(coverage_gap.join(target, target.c.id == gap.target_id))
        .where(gap.gap_to == OPEN, gap.error_code != NOT_PLANNED, target.c.retired_at == OPEN)
    )
    return sorted((OpenGap(*row) for row in connection.execute(query)), key=_place_of)


def _place_of(gap: OpenGap) -> tuple[str, str]:
    return gap.region_id, gap.instance_type


def list_region_run_ends(connection: Connection, limit: int) -> dict[str, list[RegionRunEnd]]:
    """Return how the last ``limit`` whole runs ended in each region, the newest first."""
    runs = sa.select(run.c.id).where(run.c.scheduled_at.is_not(None), run.c.status.in_(ENDED))
    ids = connection.execute(runs.order_by(run.c.id.desc()).limit(limit)).scalars().all()
    ended: dict[str, list[RegionRunEnd]] = defaultdict(list)
    for row in _region_runs(connection, ids):
        ended[row.region_id].append(RegionRunEnd(row.run_id, row.region_id, row.status, row.error or ""))
    return dict(ended)


def _region_runs(connection: Connection, run_ids: Sequence[int]) -> Iterable[Any]:
    columns = region_run.c
    query = (
        sa.select(columns.run_id, columns.region_id, columns.status, columns.error)
        # A range instead of a list: the ids are neighbours, and a list could be longer than a statement may be.
        .where(columns.run_id.between(min(run_ids, default=0), max(run_ids, default=-1)), columns.status.in_(ENDED))
        .order_by(columns.run_id.desc())
    )
    wanted = set(run_ids)
    return [row for row in connection.execute(query) if row.run_id in wanted]


def list_last_runs(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the last whole runs as rows of ``sync_runs``, the newest first; one that still runs is among them."""
    whole = sa.select(run.c.id).where(run.c.scheduled_at.is_not(None)).order_by(run.c.id.desc()).limit(limit)
    ids = connection.execute(whole).scalars().all()
    rows = sa.select(sync_runs).where(sync_runs.c.run_id.between(min(ids, default=0), max(ids, default=-1)))
    found = connection.execute(rows.order_by(sync_runs.c.run_id.desc())).mappings().all()
    return [dict(row) for row in found if row["run_id"] in set(ids)]


def count_open_intervals(connection: Connection) -> dict[str, int]:
    """Return how many images are available now, as pairs with their targets, by region."""
    query = (
        sa.select(target.c.region_id, sa.func.count())
        .select_from(availability.join(target, target.c.id == availability.c.target_id))
        .where(availability.c.valid_to == OPEN)
        .group_by(target.c.region_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def count_changes_after(connection: Connection, change_id: int) -> tuple[int, dict[tuple[str, str], int]]:
    """Return the newest change's id, and how many changes came after ``change_id``, by region and kind."""
    latest = find_last_change_id(connection)
    query = (
        sa.select(target.c.region_id, change.c.kind, sa.func.count())
        .select_from(change.join(target, target.c.id == change.c.target_id))
        .where(change.c.id > change_id, change.c.id <= latest)
        .group_by(target.c.region_id, change.c.kind)
    )
    return max(latest, change_id), {(region_id, kind): count for region_id, kind, count in connection.execute(query)}
