"""Drops the history before a time, region by region; what is dropped becomes unknown, which is not absent.

A region is cut at the start of a complete run. Each of its targets gets a gap with the code ``history.pruned`` that
ends where its kept history begins, in the same transaction that deletes what ended before. So at any moment, and
wherever this is killed, a question about a time before the cut finds the old answer or unknown, and every answer about
a later time is what it was. The next prune does what is left.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from sync.inventory import OPEN, PRUNED, ChangeKind
from sync.store.database import Database
from sync.store.known import batches_of
from sync.store.lease import Lease
from sync.store.schema import availability, change, coverage_gap, held_removal, region_run, run, target
from sync.store.statistics import refresh_statistics
from sync.store.types import UtcTimestamp

# About a second of work: the lease lasts 60 s and each transaction renews it, other writers wait for so long, and
# neither SQLite's log nor the servers' undo grows with the history. A target's rows are never parted.
BATCH_ROWS = 20_000
BATCH_TARGETS = 500

LAST_RUNS = 100
"""The newest runs stay whatever their age: status, alerts and the daemon look back at some of them."""

_INSTANT = timedelta(milliseconds=1)


Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped, or would be."""

    kept_from: Mapping[str, datetime]
    """From when on the history is kept, by region; of a region that is not in here nothing was ever dropped."""
    interval_count: int
    change_count: int
    gap_count: int
    region_run_count: int
    cut_count: int
    """Of how many targets answers became unknown, or would."""

    @property
    def row_count(self) -> int:
        """Return how many rows went."""
        return self.interval_count + self.change_count + self.gap_count + self.region_run_count


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the history of one region begins from now on."""

    region_id: str
    cut_at: datetime
    run_id: int
    """The complete run that observed the region then; it stays."""


@dataclass(frozen=True, slots=True)
class _TargetCut:
    """Where the history of one target begins from now on."""

    key: int
    gap_from: datetime
    gap_to: datetime | None
    """The end of the gap in place of the dropped history; None where there is nothing to drop."""
    is_new: bool
    """Whether the gap is not stored like this yet."""
    row_count: int
    """How many rows may go, at most."""
    doubtful: tuple[Span, ...]
    """From when the type was missed until that was believed: what it still had then stays, or it would look gone."""


def prune(database: Database, cutoff: datetime, now: datetime) -> Pruned:
    """Drop the history before ``cutoff`` as far as each region's runs allow, and return what went.

    Raises:
        LeaseTakenError: a run is under way; nothing was written.
    """
    lease = Lease(database)
    lease.acquire()
    try:
        pruned = _Pruner(database, lease, cutoff, now).prune()
    finally:
        lease.release()
    if pruned.row_count:
        refresh_statistics(database)
    return pruned


def count_prunable(database: Database, cutoff: datetime, now: datetime) -> Pruned:
    """Return what ``prune`` would drop; only reads."""
    return _Pruner(database, None, cutoff, now).prune()


class _Pruner:
    """One prune; without a lease it only counts."""

    def __init__(self, database: Database, lease: Lease | None, cutoff: datetime, now: datetime) -> None:
        self._database = database
        self._lease = lease
        self._cutoff = cutoff
        self._now = now
        self._counts: Counter[str] = Counter()
        self._cut_count = 0

    def prune(self) -> Pruned:
        with self._database.reading() as connection:
            cuts = _find_cuts(connection, self._cutoff)
            kept_from = _find_earlier_cuts(connection)
            newest = sa.select(run.c.id).order_by(run.c.id.desc()).limit(LAST_RUNS)
            first_kept_run = min(connection.execute(newest).scalars(), default=0)
        for cut in cuts:
            if cut.cut_at < kept_from.get(cut.region_id, cut.cut_at):
                continue
            targets = self._find_targets(cut)
            if not any(entry.gap_to for entry in targets):
                continue  # its runs stay too: without a gap nothing would say that they are gone
            kept_from[cut.region_id] = cut.cut_at
            self._cut_count += sum(entry.is_new for entry in targets)
            for batch in _batches_of_rows([entry for entry in targets if entry.is_new or entry.row_count]):
                self._prune_targets(cut, batch)
            self._prune_region_runs(cut, first_kept_run)
        if self._lease and kept_from:
            self._prune_runs(first_kept_run)
        intervals, changes, gaps, region_runs = (
            self._counts[table.name] for table in (availability, change, coverage_gap, region_run)
        )
        return Pruned(kept_from, intervals, changes, gaps, region_runs, self._cut_count)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._lease is None:
            with self._database.reading() as connection:
                yield connection
            return
        with self._database.writing() as connection:
            self._lease.guard(connection)
            yield connection

    def _drop(self, connection: Connection, table: Table, *where: ColumnElement[bool]) -> None:
        if self._lease:
            self._counts[table.name] += connection.execute(sa.delete(table).where(*where)).rowcount
            return
        counted = sa.select(sa.func.count()).select_from(table).where(*where)
        self._counts[table.name] += connection.execute(counted).scalar_one()

    def _find_targets(self, cut: _Cut) -> list[_TargetCut]:
        with self._database.reading() as connection:
            found = _find_target_cuts(connection, cut)
        if self._lease:
            self._lease.renew()  # counting the rows of a large region takes some seconds
        return found

    def _prune_targets(self, cut: _Cut, batch: Sequence[_TargetCut]) -> None:
        by_end: dict[tuple[datetime, tuple[Span, ...]], list[int]] = defaultdict(list)
        for entry in batch:
            if entry.gap_to:
                by_end[entry.gap_to, entry.doubtful].append(entry.key)
        span, gap = availability.c, coverage_gap.c
        with self._transaction() as connection:
            for (end, doubtful), keys in by_end.items():
                outside = [sa.or_(span.valid_to <= since, span.valid_from >= until) for since, until in doubtful]
                ended = (span.valid_to <= end, span.valid_to < cut.cut_at, *outside)
                self._drop(connection, availability, span.target_id.in_(keys), *ended)
                self._drop(
                    connection, coverage_gap, gap.target_id.in_(keys), gap.gap_to <= end, gap.error_code != PRUNED
                )
            keys = [entry.key for entry in batch]
            self._drop(connection, change, change.c.target_id.in_(keys), *_droppable_changes(cut))
            if self._lease:
                self._write_gaps(connection, cut, [entry for entry in batch if entry.gap_to and entry.is_new])

    def _write_gaps(self, connection: Connection, cut: _Cut, entries: Sequence[_TargetCut]) -> None:
        if not entries:
            return
        earlier = (coverage_gap.c.target_id.in_([entry.key for entry in entries]), coverage_gap.c.error_code == PRUNED)
        connection.execute(sa.delete(coverage_gap).where(*earlier))
        rows = [
            {
                "target_id": entry.key,
                "gap_to": entry.gap_to,
                "gap_from": entry.gap_from,
                "error_code": PRUNED,
                "message": f"the history before this gap's end was dropped by db prune on {self._now:%Y-%m-%d}",
                "request_id": "",
                "run_id": cut.run_id,
            }
            for entry in entries
        ]
        connection.execute(sa.insert(coverage_gap), rows)

    def _prune_region_runs(self, cut: _Cut, first_kept_run: int) -> None:
        columns = region_run.c
        of_region = columns.region_id == cut.region_id
        with self._database.reading() as connection:
            # From the last listing on the discovery of new types is known; see known.find_region.
            listed_run = _newest_run(connection, of_region, columns.types_listed.is_not(None), until=cut.cut_at)
            earlier = (of_region, columns.started_at < cut.cut_at, columns.run_id < first_kept_run)
            run_ids = sorted(connection.execute(sa.select(columns.run_id).where(*earlier)).scalars())
            kept = {entry.run_id for entry in (listed_run, *_runs_before_gaps(connection, cut)) if entry}
        gone = [run_id for run_id in run_ids if run_id not in kept]
        for batch in batches_of(gone, BATCH_ROWS):
            with self._transaction() as connection:
                for part in batches_of(batch):
                    self._drop(connection, region_run, of_region, columns.run_id.in_(part))

    def _prune_runs(self, first_kept_run: int) -> None:
        with self._database.reading() as connection:
            gone = _find_unneeded_runs(connection, self._cutoff, first_kept_run)
        if not gone:
            return
        for batch in batches_of(gone):
            with self._transaction() as connection:
                connection.execute(sa.delete(run).where(run.c.id.in_(batch)))


def _find_cuts(connection: Connection, cutoff: datetime) -> list[_Cut]:
    """Return where the regions are cut, sorted; a region without a complete run before ``cutoff`` is not among them."""
    cuts = []
    for region_id in sorted(connection.execute(sa.select(target.c.region_id).distinct()).scalars()):
        newest = _newest_run(connection, region_run.c.region_id == region_id, until=cutoff)
        if newest:
            cuts.append(_Cut(region_id, newest.started_at, newest.run_id))
    return cuts


def _find_earlier_cuts(connection: Connection) -> dict[str, datetime]:
    """Return where earlier prunes have cut the regions."""
    gap, of_region = coverage_gap.c, region_run.c
    joined = coverage_gap.join(target, target.c.id == gap.target_id).join(
        region_run, sa.and_(of_region.run_id == gap.run_id, of_region.region_id == target.c.region_id)
    )
    query = sa.select(of_region.region_id, sa.func.max(of_region.started_at)).select_from(joined)
    rows = connection.execute(query.where(gap.error_code == PRUNED).group_by(of_region.region_id)).all()
    return {row[0]: row[1] for row in rows}


def _newest_run(connection: Connection, *where: ColumnElement[bool], until: datetime) -> Any:
    """Return the newest complete region run that began until a time; None where there is none."""
    columns = region_run.c
    complete = (columns.is_complete == sa.true(), columns.started_at <= until)
    query = sa.select(columns.run_id, columns.started_at).where(*where, *complete)
    return connection.execute(query.order_by(columns.started_at.desc()).limit(1)).first()


def _runs_before_gaps(connection: Connection, cut: _Cut) -> list[Any]:
    """Return the last complete runs before the gaps over a cut: what is new after such a gap came after them."""
    gap = coverage_gap.c
    begins = (
        sa.select(gap.gap_from)
        .select_from(coverage_gap.join(target, target.c.id == gap.target_id))
        .where(target.c.region_id == cut.region_id, gap.error_code != PRUNED)
        .where(gap.gap_from < cut.cut_at, gap.gap_to > cut.cut_at)
        .distinct()
    )
    of_region = region_run.c.region_id == cut.region_id
    return [_newest_run(connection, of_region, until=begin) for begin in connection.execute(begins).scalars().all()]


def _find_target_cuts(connection: Connection, cut: _Cut) -> list[_TargetCut]:
    """Return all targets of a region with where their history begins from now on."""
    of = target.c
    earlier, at_cut, at_end = (coverage_gap.alias() for _ in range(3))
    joined = target.outerjoin(earlier, sa.and_(earlier.c.target_id == of.id, earlier.c.error_code == PRUNED))
    for gap, moment in ((at_cut, sa.literal(cut.cut_at, UtcTimestamp)), (at_end, of.retired_at)):
        covers = sa.and_(gap.c.gap_from < moment, gap.c.gap_to > moment, gap.c.error_code != PRUNED)
        joined = joined.outerjoin(gap, sa.and_(gap.c.target_id == of.id, covers))
    known = (
        of.id,
        of.instance_type,
        of.first_observed_at,
        of.retired_at,
        earlier.c.gap_from,
        earlier.c.gap_to,
        earlier.c.run_id,
    )
    columns = (*known, at_cut.c.gap_from, at_end.c.gap_to)
    query = sa.select(*columns).select_from(joined).where(of.region_id == cut.region_id).order_by(of.id)
    counts = _row_counts(connection, cut)
    retirements = _find_retirements(connection, cut)
    found = []
    for key, name, first, retired_at, earlier_from, earlier_to, run_id, last_seen_at, gone_at in connection.execute(
        query
    ).all():
        gap_to = _gap_end(first, cut, last_seen_at, gone_at or retired_at)
        if earlier_to:
            # A type may be retired as of a time that an earlier prune has dropped; nothing comes back by that.
            gap_to = max(earlier_to, gap_to or earlier_to)
        # An instant earlier, because at its very beginning a gap does not cover a question.
        gap_from = earlier_from or (first or cut.cut_at) - _INSTANT
        is_new = gap_to is not None and (gap_to, cut.run_id) != (earlier_to, run_id)
        doubtful = (*retirements[name], *([(retired_at, OPEN)] if retired_at < OPEN else []))
        found.append(_TargetCut(key, gap_from, gap_to, is_new, counts[key], doubtful))
    return found


def _find_retirements(connection: Connection, cut: _Cut) -> dict[str, list[Span]]:
    """Return per instance type of a region when it was first missed and when that was written, in that order."""
    joined = target.join(change, change.c.target_id == target.c.id)
    columns = (target.c.instance_type, change.c.detected_at, change.c.recorded_at)
    of_region = (target.c.region_id == cut.region_id, change.c.kind == ChangeKind.TYPE_RETIRED)
    found: dict[str, list[Span]] = defaultdict(list)
    for name, *span in connection.execute(sa.select(*columns).select_from(joined).where(*of_region)).all():
        found[name].append((span[0], span[1]))
    return found


def _gap_end(
    first_observed_at: datetime | None, cut: _Cut, last_seen_at: datetime | None, gone_at: datetime
) -> datetime | None:
    """Return where the dropped history of a target ends; None where there is nothing to drop.

    That is the cut, or the last observation before it (``last_seen_at``) where another gap covers the cut. A type
    that was gone by then (``gone_at``, or the end of the gap in which that was found) is known to be gone since.
    """
    if first_observed_at is None or first_observed_at >= cut.cut_at:
        return None
    if first_observed_at < gone_at <= cut.cut_at:
        return gone_at
    end = last_seen_at or cut.cut_at
    return end if end > first_observed_at else None


def _row_counts(connection: Connection, cut: _Cut) -> Counter[int]:
    """Return how many rows of each target of a region may go."""
    counts: Counter[int] = Counter()
    ended = (availability, availability.c.valid_to < cut.cut_at)
    recorded = (change, sa.and_(*_droppable_changes(cut)))
    for table, condition in (ended, recorded):
        key = table.c.target_id
        joined = target.join(table, key == target.c.id)
        query = sa.select(key, sa.func.count()).select_from(joined)
        for found, count in connection.execute(
            query.where(target.c.region_id == cut.region_id, condition).group_by(key)
        ):
            counts[found] += count
    return counts


def _droppable_changes(cut: _Cut) -> tuple[ColumnElement[bool], ...]:
    """Return the condition of the changes to drop: those of images that were written before the cut.

    Those of instance types are few and stay: a type that went before the cut and came back after it was gone between.
    """
    return change.c.recorded_at < cut.cut_at, change.c.kind.not_in((ChangeKind.TYPE_ADDED, ChangeKind.TYPE_RETIRED))


def _batches_of_rows(targets: Sequence[_TargetCut]) -> Iterator[list[_TargetCut]]:
    """Yield targets in batches of so many rows as one transaction shall delete."""
    batch: list[_TargetCut] = []
    row_count = 0
    for entry in targets:
        if batch and (row_count + entry.row_count > BATCH_ROWS or len(batch) == BATCH_TARGETS):
            yield batch
            batch, row_count = [], 0
        batch.append(entry)
        row_count += entry.row_count
    if batch:
        yield batch


def _find_unneeded_runs(connection: Connection, cutoff: datetime, first_kept_run: int) -> list[int]:
    """Return the runs before a time, sorted, that nothing refers to any more.

    Runs in which something that is kept began or was first missed stay too: answers and alerts name that time by its
    run.
    """
    times = sa.select(run.c.started_at, run.c.id).order_by(run.c.started_at)
    old = connection.execute(times.where(run.c.started_at < cutoff)).all()
    if not old:
        return []
    next_start = connection.execute(times.where(run.c.started_at >= cutoff).limit(1)).scalar() or OPEN
    needed: set[int] = set()
    for table in (region_run, change, coverage_gap):
        needed.update(connection.execute(sa.select(table.c.run_id).distinct()).scalars())
    starts = [row.started_at for row in old]
    for column in (availability.c.valid_from, held_removal.c.first_missed_at):
        moments = sa.select(column).distinct().where(column >= starts[0], column < next_start)
        # A few at a time: nearly every target was observed at a time of its own.
        for moment in connection.execute(moments, execution_options={"yield_per": 10_000}).scalars():
            needed.add(old[bisect_right(starts, moment) - 1].id)
    return [row.id for row in old if row.id not in needed and row.id < first_kept_run]
