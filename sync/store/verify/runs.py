"""The invariants of runs: their states, their times, and that their figures are those of what they wrote."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.inventory import OPEN, ChangeKind, Counts, RunStatus, Target
from sync.store.schema import change, coverage_gap, region_run, run, target
from sync.store.verify.reading import HistoryReader, Inventory, read_all
from sync.store.verify.target import show
from sync.store.verify.verdict import Check, Findings

BATCH_RUNS = 2000  # with thirty regions 60,000 rows

ENDED = frozenset({RunStatus.OK, RunStatus.PARTIAL, RunStatus.HELD})
"""Runs that came to their end; a failed one may have lost its figures with its database."""

NAMES = tuple(entry.name for entry in fields(Counts))
ASKED = ("targets_ok", "targets_failed")
COUNTED = {
    "images_added": ChangeKind.ADDED,
    "images_removed": ChangeKind.REMOVED,
    "images_changed": ChangeKind.CHANGED,
}

ChangeCounts = Mapping[tuple[int, str, str], int]
"""How many changes there are, by run, region and kind."""


def judge_runs(connection: Connection, inventory: Inventory, reader: HistoryReader, findings: Findings) -> None:
    """Check all runs and region runs against what ``reader`` has read, and that whatever names a run finds it."""
    change_counts: ChangeCounts = reader.change_counts
    reader.gap_times.sort()
    of_run: dict[tuple[int, str], int] = defaultdict(int)
    for (run_id, _, kind), count in change_counts.items():
        of_run[run_id, kind] += count
    whole_from = max(inventory.kept_from.values(), default=None)
    running: list[int] = []
    last = -1
    while True:
        page = sa.select(run).where(run.c.id > last).order_by(run.c.id).limit(BATCH_RUNS)
        runs = read_all(connection, page)
        if not runs:
            break
        parts = _region_runs(connection, last, runs[-1].id)
        for row in runs:
            _judge_ended(row, f"run {row.id}", "", findings)
            running += [row.id] if row.status == RunStatus.RUNNING else []
            for part in parts[row.id]:
                _judge_region_run(part, row, inventory, reader, findings)
                reader.gap_times.see(part.region_id, part.started_at, part.finished_at or row.finished_at or OPEN)
            if row.status in ENDED and (whole_from is None or row.started_at >= whole_from):
                _judge_sums(row, parts[row.id], of_run, findings)
        last = runs[-1].id
    _judge_running(running, last, findings)
    for moment, asked in reader.gap_times.unseen():
        findings.note(Check.GAPS, f"a gap ends at {show(moment)}, when no run observed the region", asked)
    _judge_references(connection, findings)
    _judge_order(connection, findings)


def _judge_running(running: Iterable[int], newest: int, findings: Findings) -> None:
    for run_id in running:
        if run_id < newest:
            findings.note(Check.RUNS, f"run {run_id} is running, though run {newest} began after it")


def _region_runs(connection: Connection, above: int, until: int) -> dict[int, list[Any]]:
    query = sa.select(region_run).where(region_run.c.run_id > above, region_run.c.run_id <= until)
    found: dict[int, list[Any]] = defaultdict(list)
    for row in read_all(connection, query):
        found[row.run_id].append(row)
    return found


def _judge_ended(row: Any, name: str, region_id: str, findings: Findings) -> None:
    findings.examine(Check.RUNS)
    if row.status not in set(RunStatus):
        findings.note(Check.RUNS, f"{name} has the unknown status {row.status!r}", region_id)
    if row.finished_at and row.finished_at < row.started_at:
        findings.note(Check.RUNS, f"{name} ended before it began at {show(row.started_at)}", region_id)
    if not row.finished_at and row.status in {*ENDED, RunStatus.FAILED}:
        findings.note(Check.RUNS, f"{name} is {row.status}, but has no end", region_id)
    if row.status == RunStatus.OK and (row.targets_failed or row.removals_held):
        figures = f"{row.targets_failed} targets failed and {row.removals_held} removals are held"
        findings.note(Check.RUNS, f"{name} is ok, but {figures}", region_id)


def _judge_region_run(part: Any, whole: Any, inventory: Inventory, reader: HistoryReader, findings: Findings) -> None:
    name, region_id = f"run {part.run_id}", part.region_id
    _judge_ended(part, name, region_id, findings)
    if part.finished_at and whole.finished_at and part.finished_at > whole.finished_at:
        findings.note(Check.RUNS, f"{name} ended in the region after it ended at all", region_id)
    if part.started_at < whole.started_at:
        findings.note(Check.RUNS, f"{name} began in the region before it began at all", region_id)
    if part.status == RunStatus.RUNNING and whole.status != RunStatus.RUNNING:
        findings.note(Check.RUNS, f"{name} is {whole.status}, but still running in the region", region_id)
    kept_from: datetime | None = inventory.kept_from.get(region_id)
    if part.finished_at is None or (kept_from is not None and part.started_at < kept_from):
        return
    for column, kind in COUNTED.items():
        counted = reader.change_counts.get((part.run_id, region_id, kind), 0)
        if getattr(part, column) != counted:
            said = getattr(part, column)
            findings.note(Check.RUNS, f"{name}: {column} is {said}, but it has {counted} such changes", region_id)
    in_gap = reader.gap_times.count_at(region_id, part.finished_at)
    if part.targets_failed > in_gap:
        failed = f"{part.targets_failed} targets failed, but only {in_gap} are in a gap at its end"
        findings.note(Check.RUNS, f"{name}: {failed}", region_id)


def _judge_sums(row: Any, parts: Iterable[Any], of_run: Mapping[tuple[int, str], int], findings: Findings) -> None:
    for column, kind in COUNTED.items():
        said, counted = getattr(row, column), of_run.get((row.id, kind), 0)
        if said != counted:
            findings.note(Check.RUNS, f"run {row.id}: {column} is {said}, but it has {counted} such changes")
    of_regions = list(parts)
    # Removals that a person accepts are a run without region runs, which asks nothing.
    for column in NAMES if of_regions else ASKED:
        said, total = getattr(row, column), sum(getattr(part, column) for part in of_regions)
        if said != total:
            findings.note(Check.RUNS, f"run {row.id}: {column} is {said}, but its regions have {total} together")


def _judge_references(connection: Connection, findings: Findings) -> None:
    for table, word in ((region_run, "a region run"), (change, "a change"), (coverage_gap, "a gap")):
        named = sa.select(table.c.run_id).distinct().subquery()
        missing = sa.select(named.c.run_id).outerjoin(run, run.c.id == named.c.run_id).where(run.c.id.is_(None))
        for (run_id,) in read_all(connection, missing):
            findings.note(Check.RUNS, f"{word} names run {run_id}, which does not exist")


def _judge_order(connection: Connection, findings: Findings) -> None:
    """Note changes that were recorded before one with a smaller id: whoever reads on from a time would miss them."""
    before = sa.func.lag(change.c.recorded_at).over(order_by=change.c.id).label("before")
    ordered = sa.select(change.c.id, change.c.target_id, change.c.recorded_at, before).subquery()
    place = (target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    query = (
        sa.select(ordered.c.id, ordered.c.recorded_at, *place)
        .select_from(ordered.join(target, target.c.id == ordered.c.target_id))
        .where(ordered.c.recorded_at < ordered.c.before)
    )
    for change_id, recorded_at, *asked in read_all(connection, query):
        late = f"change {change_id} was recorded at {show(recorded_at)}, before the change that it follows"
        findings.note(Check.CHANGES, late, Target(*asked))
