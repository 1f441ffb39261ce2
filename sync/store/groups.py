"""Changes as people think of them: one row per run, region, kind and image, with the instance types counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from sync.inventory import IMAGE_FIELDS, ChangeKind, RunStatus
from sync.store.filters import Filter, images_wanted, matching, places_wanted, targets_wanted
from sync.store.history import Row, rows_of
from sync.store.schema import change, image, image_changes, run, target

GROUP_COLUMNS = (
    "run_id",
    "region_id",
    "kind",
    *IMAGE_FIELDS,
    "instance_types",
    "first_instance_type",
    "few_types",
    "detected_at",
    "last_detected_at",
    "last_seen_at",
    "recorded_at",
    "run_started_at",
    "first_change_id",
    "last_change_id",
)
"""``instance_types`` is their number; where it is FEW_TYPES at most, ``few_types`` are the names. ``detected_at`` and
``last_seen_at`` are the first ones; what was detected before ``run_started_at`` was believed late."""

FEW_TYPES = 4

FEW_KEYS = 100  # so many images or targets have some tens of thousands of changes in two years: read at once by index

FIRST_PART = 8192  # changes that are read first; a page of the newest runs is mostly among them
FIRST_RUNS = 32  # the same in runs, where these have counted what is asked for

COUNTED = {
    ChangeKind.ADDED: run.c.images_added,
    ChangeKind.REMOVED: run.c.images_removed,
    ChangeKind.CHANGED: run.c.images_changed,
}
"""The kinds that runs count; those of instance types have no image, for which ``change`` has an index."""

SURE = (RunStatus.OK, RunStatus.PARTIAL, RunStatus.HELD)
"""Runs whose counts are whole; others may have written changes without counting them."""

Period = Sequence[datetime | None]
"""Recorded at or after the first time, and before the second."""


def find_run_ids(
    connection: Connection, wanted: Filter, limit: int, *, before: int | None = None, period: Period = ()
) -> list[int]:
    """Return the newest runs that recorded changes of a filter, the newest first; ``before`` is a run's id."""
    span = _span_of(connection, period, before=before)
    return sorted(_walk(connection, wanted, limit, span, is_upward=False), reverse=True)[:limit]


def find_run_ids_from(
    connection: Connection, wanted: Filter, limit: int, run_id: int, *, period: Period = ()
) -> list[int]:
    """Return the oldest runs from a run on that recorded changes of a filter, the oldest first."""
    span = _span_of(connection, period, at_least=run_id)
    return sorted(_walk(connection, wanted, limit, span, is_upward=True))[:limit]


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the changes by their ids, in whose order they were recorded run by run."""

    above: int
    until: int

    @property
    def condition(self) -> ColumnElement[bool]:
        """Return the condition that a change is in it."""
        return sa.and_(change.c.id > self.above, change.c.id <= self.until)


def _span_of(
    connection: Connection, period: Period, *, before: int | None = None, at_least: int | None = None
) -> _Span:
    """Return the changes of a period, before a run, or from a run on.

    Everything is asked by index from one end: no database would otherwise find these ids without reading half of the
    history.
    """
    since, until = (*period, None, None)[:2]
    above = [_end_id(connection, is_last=False) - 1]
    below = [_end_id(connection, is_last=True)]
    if since:
        above.append(_last_id_before(connection, since))
    if until:
        below.append(_last_id_before(connection, until))
    if at_least is not None:
        above.append(_last_id_of_runs_before(connection, at_least))
    if before is not None:
        below.append(_last_id_of_runs_before(connection, before))
    return _Span(max(above), min(below))


def _end_id(connection: Connection, *, is_last: bool) -> int:
    end = sa.func.max(change.c.id) if is_last else sa.func.min(change.c.id)
    return connection.execute(sa.select(end)).scalar() or 0


def _last_id_before(connection: Connection, moment: datetime) -> int:
    recorded = change.c.recorded_at
    nearest = sa.select(recorded).where(recorded < moment).order_by(recorded.desc()).limit(1)
    found = connection.execute(nearest).scalar()
    return 0 if found is None else connection.execute(_last_id_where(recorded == found)).scalar() or 0


def _last_id_of_runs_before(connection: Connection, run_id: int) -> int:
    of_run = change.c.run_id
    nearest = sa.select(of_run).where(of_run < run_id).order_by(of_run.desc()).limit(1)
    found = connection.execute(nearest).scalar()
    return 0 if found is None else connection.execute(_last_id_where(of_run == found)).scalar() or 0


def _last_id_where(condition: ColumnElement[bool]) -> sa.Select[int]:
    return sa.select(sa.func.max(change.c.id)).where(condition)


def _walk(connection: Connection, wanted: Filter, limit: int, span: _Span, *, is_upward: bool) -> set[int]:
    """Return ``limit`` runs or more from one end of a span on; fewer where it has no more.

    It is read in parts of growing size, and at once where an index names few changes: asked for the distinct runs of
    everything, PostgreSQL reads the history from its end for an image of long ago, and MariaDB always all of it.
    """
    chosen = _chosen(connection, wanted)
    found: set[int] = set()
    if chosen is None or span.until <= span.above:
        return found
    conditions, is_few = chosen
    if is_few:
        parts = iter([span.condition])
    elif wanted.kinds and set(wanted.kinds) <= set(COUNTED):
        parts = _counted_runs(connection, wanted.kinds, span, is_upward=is_upward)
    else:
        parts = _parts_of(span, is_upward=is_upward)
    for part in parts:
        query = sa.select(change.c.run_id).distinct().where(part, *conditions)
        found.update(connection.execute(query).scalars())
        if len(found) >= limit:
            break
    return found


def _chosen(connection: Connection, wanted: Filter) -> tuple[list[ColumnElement[bool]], bool] | None:
    """Return the conditions on a change, and whether they leave few by an index; None where nothing can match."""
    conditions = matching(change.c.kind, wanted.kinds)
    is_few = False
    if wanted.kinds and set(wanted.kinds) <= {ChangeKind.TYPE_ADDED, ChangeKind.TYPE_RETIRED}:
        conditions.append(change.c.image_key.is_(None))
        is_few = True
    for column, key, of_key in (
        (change.c.image_key, image.c.id, images_wanted(image.c, wanted)),
        (change.c.target_id, target.c.id, targets_wanted(wanted)),
    ):
        if not of_key:
            continue
        query = sa.select(key).where(*of_key)
        keys = list(connection.execute(query.limit(FEW_KEYS + 1)).scalars())
        if not keys:
            return None
        is_few |= len(keys) <= FEW_KEYS
        conditions.append(column.in_(keys if len(keys) <= FEW_KEYS else query))
    return conditions, is_few


def _parts_of(span: _Span, *, is_upward: bool) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of parts of a span, from one end on, each twice as large as the one before."""
    size = FIRST_PART
    above, until = span.above, span.until
    while above < until:
        cut = min(above + size, until) if is_upward else max(until - size, above)
        yield (_Span(above, cut) if is_upward else _Span(cut, until)).condition
        above, until = (cut, until) if is_upward else (above, cut)
        size *= 2


def _counted_runs(
    connection: Connection, kinds: Sequence[str], span: _Span, *, is_upward: bool
) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of parts of a span that runs may have which counted changes of these kinds."""
    first, last = _run_ids_at_ends(connection, span)
    has_counted = sa.or_(run.c.status.not_in(SURE), *(COUNTED[ChangeKind(kind)] > 0 for kind in kinds))
    size = FIRST_RUNS
    while first <= last:
        query = sa.select(run.c.id).where(has_counted, run.c.id >= first, run.c.id <= last)
        order = run.c.id.asc() if is_upward else run.c.id.desc()
        runs = list(connection.execute(query.order_by(order).limit(size)).scalars())
        if runs:
            yield sa.and_(change.c.run_id.in_(runs), span.condition)
        if len(runs) < size:
            return
        first, last = (runs[-1] + 1, last) if is_upward else (first, runs[-1] - 1)
        size = min(size * 2, 512)


def _run_ids_at_ends(connection: Connection, span: _Span) -> tuple[int, int]:
    """Return the runs of the first and the last change of a span; the first is the later one where it has none."""
    oldest, newest = (
        sa.select(change.c.run_id).where(span.condition).order_by(order).limit(1)
        for order in (change.c.id.asc(), change.c.id.desc())
    )
    return connection.execute(oldest).scalar() or 1, connection.execute(newest).scalar() or 0


def list_change_groups(
    connection: Connection, wanted: Filter, run_ids: Sequence[int], *, period: Period = ()
) -> list[Row]:
    """Return the changes of some runs by run, region, kind and image; GROUP_COLUMNS, the newest run first."""
    if not run_ids:
        return []
    keys = (change.c.run_id, target.c.region_id, change.c.kind, change.c.image_key)
    counted = (
        _joined(sa.select(*keys, *_figures()), wanted)
        .where(change.c.run_id.in_(run_ids), *_within(connection, period))
        .group_by(*keys)
        .subquery()
    )
    columns = [counted.c[name] for name in counted.c.keys() if name != "image_key"]  # noqa: SIM118 - not a dict
    query = (
        sa.select(*columns, run.c.started_at.label("run_started_at"), *(image.c[name] for name in IMAGE_FIELDS))
        .select_from(
            counted.join(run, run.c.id == counted.c.run_id).outerjoin(image, image.c.id == counted.c.image_key)
        )
        .order_by(counted.c.run_id.desc(), counted.c.first_change_id)
    )
    return [_group(row) for row in rows_of(connection, query)]


def _figures() -> list[ColumnElement[Any]]:
    names = target.c.instance_type
    return [
        sa.func.count(sa.distinct(names)).label("instance_types"),
        sa.func.min(names).label("first_instance_type"),
        sa.func.aggregate_strings(names, "\n").label("names"),
        sa.func.min(change.c.detected_at).label("detected_at"),
        sa.func.max(change.c.detected_at).label("last_detected_at"),
        sa.func.min(change.c.last_seen_at).label("last_seen_at"),
        sa.func.max(change.c.recorded_at).label("recorded_at"),
        sa.func.min(change.c.id).label("first_change_id"),
        sa.func.max(change.c.id).label("last_change_id"),
    ]


def _group(row: Row) -> Row:
    # MySQL cuts long lists of names; what is left of them is then not as many as were counted.
    names = sorted(set(row["names"].split("\n"))) if row["instance_types"] <= FEW_TYPES else []
    told = {**row, "few_types": names if len(names) == row["instance_types"] else []}
    return {name: told[name] for name in GROUP_COLUMNS}


def list_changes_of_runs(
    connection: Connection, wanted: Filter, run_ids: Sequence[int], *, period: Period = ()
) -> list[Row]:
    """Return rows of ``image_changes`` that some runs recorded, in the order of writing."""
    if not run_ids:
        return []
    columns = image_changes.c
    span = _span_of(connection, period)
    query = sa.select(image_changes).where(
        columns.run_id.in_(run_ids),
        *places_wanted(columns, wanted),
        *matching(columns.kind, wanted.kinds),
        *images_wanted(columns, wanted),
        *([columns.change_id > span.above, columns.change_id <= span.until] if any(period) else []),
    )
    return rows_of(connection, query.order_by(columns.change_id))


def find_first_run_end(connection: Connection) -> datetime | None:
    """Return when the first run that observed anything ended: before it there is little to compare with."""
    query = sa.select(run.c.finished_at).where(run.c.status.in_(SURE), run.c.finished_at.is_not(None))
    return connection.execute(query.order_by(run.c.id).limit(1)).scalar()


def _joined(query: Any, wanted: Filter) -> Any:
    """Return a query of changes with the tables that the filter needs, and the filter."""
    joined = change.join(target, target.c.id == change.c.target_id)
    of_image = images_wanted(image.c, wanted)
    if of_image:
        joined = joined.join(image, image.c.id == change.c.image_key)
    conditions = (*targets_wanted(wanted), *matching(change.c.kind, wanted.kinds), *of_image)
    return query.select_from(joined).where(*conditions)


def _within(connection: Connection, period: Period) -> list[ColumnElement[bool]]:
    return [_span_of(connection, period).condition] if any(period) else []
