"""Past runs: their rows, regions, failures and changes."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.inventory import NOT_PLANNED, PRUNED
from sync.store.history import Row, rows_of
from sync.store.schema import coverage_gap, image_changes, region_run, region_runs, run, sync_runs, target

FAILURE_COLUMNS = (
    "region_id",
    "instance_type",
    "code",
    "message",
    "request_id",
    "base_os_tag_filter",
    "unknown_since",
    "cause_run_id",
)


def find_run(connection: Connection, run_id: int) -> Row | None:
    """Return one row of ``sync_runs``; None where there is no such run."""
    rows = rows_of(connection, sa.select(sync_runs).where(sync_runs.c.run_id == run_id))
    return rows[0] if rows else None


def list_region_runs(connection: Connection, run_id: int) -> list[Row]:
    """Return the rows of ``region_runs`` of one run, sorted by region."""
    query = sa.select(region_runs).where(region_runs.c.run_id == run_id).order_by(region_runs.c.region_id)
    return rows_of(connection, query)


def list_run_failures(connection: Connection, run_id: int) -> list[Row]:
    """Return what one run could not observe, sorted by region and instance type; FAILURE_COLUMNS.

    A gap keeps its last cause only: where ``cause_run_id`` is a later run, code and message are what that one met, and
    a target that the configuration has left since is not among them. A failed discovery has no instance type. What a
    restricted run failed to ask again with the same cause is not known.
    """
    failures = _target_failures(connection, run_id)
    for row in connection.execute(sa.select(region_run).where(region_run.c.run_id == run_id)).all():
        of_region = [entry for entry in failures if entry["region_id"] == row.region_id]
        if _failed_to_discover(row, of_region):
            failures.append(_undiscovered(row.region_id, _without_count(row.error), run_id))
    of_run = find_run(connection, run_id)
    if of_run and of_run["error"] and not failures and not of_run["targets_failed"]:
        failures.append(_undiscovered("", _without_count(of_run["error"]), run_id))
    return sorted(failures, key=lambda row: (row["region_id"], row["instance_type"], row["base_os_tag_filter"]))


def _target_failures(connection: Connection, run_id: int) -> list[Row]:
    gap, of_region = coverage_gap.c, region_run.c
    # The run before the gap observed the target: the gap begins within it, where that was the target's last answer.
    is_older = gap.gap_from < of_region.started_at
    first = target.c.first_observed_at
    is_attempt = sa.and_(gap.gap_from <= of_region.finished_at, sa.or_(first.is_(None), first > gap.gap_from))
    is_kept = sa.and_(
        of_region.is_complete == sa.true(), sa.or_(is_older, is_attempt), gap.gap_to > of_region.finished_at
    )
    columns = (
        target.c.region_id,
        target.c.instance_type,
        gap.error_code.label("code"),
        gap.message,
        gap.request_id,
        target.c.base_os_tag.label("base_os_tag_filter"),
        gap.gap_from.label("unknown_since"),
        gap.run_id.label("cause_run_id"),
    )
    query = (
        sa.select(*columns)
        .select_from(
            region_run.join(target, target.c.region_id == of_region.region_id).join(
                coverage_gap, gap.target_id == target.c.id
            )
        )
        .where(of_region.run_id == run_id, gap.error_code.not_in((NOT_PLANNED, PRUNED)))
        .where(sa.or_(gap.run_id == run_id, is_kept))
    )
    return rows_of(connection, query)


def _failed_to_discover(row: Any, failures: Sequence[Row]) -> bool:
    """Return whether a region run's error is that of its discovery and not of one of its targets.

    A discovery that failed is always the one that is named. Where a target's cause was replaced later, or a restricted
    run met a cause again, nobody can say.
    """
    cause = _without_count(row.error)
    if not cause or row.types_listed is not None:
        return False
    is_told = any(f"{entry['code']}: {entry['message']}" == cause for entry in failures)
    is_all = row.is_complete and len(failures) >= row.targets_failed
    is_sure = is_all and not any(entry["cause_run_id"] > row.run_id for entry in failures)
    return not is_told and (row.targets_failed == 0 or is_sure)


def _without_count(error: str | None) -> str:
    """Return the cause that a run's row names, without how many more there were."""
    return (error or "").partition(" (and ")[0]


def _undiscovered(region_id: str, cause: str, run_id: int) -> Row:
    code, _, message = cause.partition(": ")
    values = (region_id, "", code, message, "", "", None, run_id)
    return dict(zip(FAILURE_COLUMNS, values, strict=True))


def list_run_changes(connection: Connection, run_id: int) -> list[Row]:
    """Return the changes that one run recorded, in the order of writing."""
    query = sa.select(image_changes).where(image_changes.c.run_id == run_id)
    return rows_of(connection, query.order_by(image_changes.c.change_id))


def list_runs(connection: Connection, limit: int) -> list[Row]:
    """Return the last ``limit`` rows of ``sync_runs``, the newest first."""
    return rows_of(connection, sa.select(sync_runs).order_by(sync_runs.c.run_id.desc()).limit(limit))


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


def find_run_times(connection: Connection, since: datetime | None = None) -> RunTimes:
    """Return when each run began; with ``since`` only what tells the runs of that time and later ones."""
    query = sa.select(run.c.started_at).order_by(run.c.started_at)
    if since:
        # Backwards by ids, which follow the times: those have no index, and what is asked about is recent.
        before = sa.select(run.c.id).where(run.c.started_at <= since).order_by(run.c.id.desc()).limit(1)
        query = query.where(run.c.id >= (connection.execute(before).scalar() or 0))
    return RunTimes(tuple(connection.execute(query).scalars()))
