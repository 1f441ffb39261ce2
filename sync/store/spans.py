"""Reads for pictures over time: which images a period had, their spans, and when nothing was known of a target."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.types import NullType

from sync.inventory import OPEN, Image, Target
from sync.store.filters import NAME_COLUMNS, Filter, images_wanted, is_glob, like_of, targets_wanted
from sync.store.known import ImageKeys, Moments, batches_of
from sync.store.schema import availability, coverage_gap, image, region_run, target
from sync.store.snapshot import find_complete_run
from sync.store.types import MYSQL_FAMILY, to_text

RANGES = 25  # queries in one statement: with more a page that needs few would wait for their planning


@dataclass(frozen=True, slots=True)
class Listed:
    """An image by its key, and what pictures sort it by."""

    key: int
    platform: str
    os_tag: str
    image_id: str


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of ``image_history``."""

    target_id: int
    target: Target
    image_key: int
    image: Image
    valid_from: datetime
    valid_to: datetime | None
    """None while the image is available."""
    from_baseline: bool


@dataclass(frozen=True, slots=True)
class Unobserved:
    """One row of ``observation_gaps``."""

    target: Target
    gap_from: datetime
    gap_to: datetime | None
    """None while the gap is open."""
    error_code: str


def list_images_within(connection: Connection, wanted: Filter, since: datetime, until: datetime) -> list[Listed]:
    """Return the images that a filter had at any time between two, in no order."""
    keys = _image_keys_within(connection, wanted, since, until)
    columns = (image.c.id, image.c.platform, image.c.os_tag, image.c.image_id)
    return [
        Listed(*row)
        for batch in batches_of(keys)
        for row in connection.execute(sa.select(*columns).where(image.c.id.in_(batch)))
    ]


def _image_keys_within(connection: Connection, wanted: Filter, since: datetime, until: datetime) -> list[int]:
    span = availability.c
    is_within = sa.and_(span.valid_from < until, span.valid_to > since)
    of_target, of_image = targets_wanted(wanted), images_wanted(image.c, wanted)
    if of_image or not of_target:
        joined = availability.join(target, target.c.id == span.target_id) if of_target else availability
        there = sa.exists().select_from(joined).where(span.image_key == image.c.id, is_within, *of_target)
        query = sa.select(image.c.id).where(there, *of_image)
    else:
        joined = target.join(availability, span.target_id == target.c.id)
        query = sa.select(span.image_key).distinct().select_from(joined).where(is_within, *of_target)
    return sorted(connection.execute(query).scalars())


def list_intervals_within(
    connection: Connection, wanted: Filter, keys: Collection[int], since: datetime, until: datetime
) -> list[Interval]:
    """Return the rows of ``image_history`` of some images that overlap a period, in no order.

    Only keys and times come from the history, and the times as its driver gives them: they share a few.
    """
    rows = _raw_intervals(connection, wanted, keys, since, until)
    targets = _targets_of(connection, wanted, {row[0] for row in rows})
    images, moments = ImageKeys(), Moments(connection.dialect)
    images.load_keys(connection, keys)
    return [
        Interval(
            target_id,
            targets[target_id][0],
            key,
            images.image_of(key),
            moments[began],
            None if moments[ended] == OPEN else moments[ended],
            began == targets[target_id][1],
        )
        for target_id, key, began, ended in rows
        if target_id in targets
    ]


def _raw_intervals(
    connection: Connection, wanted: Filter, keys: Collection[int], since: datetime, until: datetime
) -> list[Any]:
    """Return target, image and times of what may be in a filter."""
    ends = sa.select(sa.func.min(target.c.id), sa.func.max(target.c.id)).where(*targets_wanted(wanted))
    first, last = connection.execute(ends).one()
    if first is None:
        return []
    span = availability.c
    times = (sa.type_coerce(span.valid_from, NullType()), sa.type_coerce(span.valid_to, NullType()))
    # The ids of a region's targets lie close together: of the index of images only that part is read.
    query = sa.select(span.target_id, span.image_key, *times).where(
        span.target_id.between(first, last), span.valid_from < until, span.valid_to > since
    )
    return [
        row
        for batch in batches_of(sorted(keys))
        for row in connection.execute(query.where(span.image_key.in_(batch))).all()
    ]


def _targets_of(connection: Connection, wanted: Filter, ids: Collection[int]) -> dict[int, tuple[Target, Any]]:
    """Return those targets that are in a filter, each with its first observation as the driver gives it."""
    columns = (target.c.id, target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    query = sa.select(*columns, sa.type_coerce(target.c.first_observed_at, NullType())).where(*targets_wanted(wanted))
    return {
        row[0]: (Target(*row[1:4]), row[4])
        for batch in batches_of(sorted(ids))
        for row in connection.execute(query.where(target.c.id.in_(batch))).all()
    }


def list_gaps_within(
    connection: Connection, wanted: Filter, since: datetime, until: datetime, target_ids: Collection[int] | None = None
) -> list[Unobserved]:
    """Return the rows of ``observation_gaps`` that overlap a period, sorted by target and time.

    ``target_ids`` are those to look at, where they are less than the filter has.
    """
    gap = coverage_gap.c
    columns = (target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    query = (
        sa.select(*columns, gap.gap_from, gap.gap_to, gap.error_code)
        .select_from(coverage_gap.join(target, target.c.id == gap.target_id))
        .where(gap.gap_from < until, gap.gap_to > since)
    )
    queries = [query.where(*targets_wanted(wanted))]
    if target_ids is not None:
        queries = [query.where(gap.target_id.in_(batch)) for batch in batches_of(sorted(target_ids))]
    found = [
        Unobserved(Target(*row[:3]), row[3], None if row[4] == OPEN else row[4], row[5])
        for asked in queries
        for row in connection.execute(asked).all()
    ]
    return sorted(found, key=lambda entry: (entry.target, entry.gap_from))


def find_observed_until(connection: Connection, region_ids: Collection[str]) -> dict[str, datetime]:
    """Return until when each region was observed: its last complete run; regions that were never observed are left out.

    Where only parts of a region were ever asked it is the last observation of them.
    """
    found = {}
    for region_id in sorted(region_ids):
        moment = find_complete_run(connection, region_id, OPEN) or _last_written(connection, region_id)
        if moment:
            found[region_id] = moment
    return found


def _last_written(connection: Connection, region_id: str) -> datetime | None:
    query = sa.select(sa.func.max(target.c.observed_at)).where(target.c.region_id == region_id)
    return connection.execute(query).scalar()


def list_run_starts_between(
    connection: Connection, region_id: str, ranges: Sequence[tuple[datetime, datetime]]
) -> list[datetime]:
    """Return when runs began with a region, after the first and not after the second time of any range; sorted."""
    found: set[datetime] = set()
    for batch in batches_of(ranges, RANGES):
        # The last batch is filled up, so that each has the statement that is at hand.
        full = [*batch, *[batch[-1]] * (RANGES - len(batch))]
        times = {
            name: moment
            for pair, names in zip(full, _NAMES, strict=True)
            for name, moment in zip(names, pair, strict=True)
        }
        found.update(connection.execute(_STARTS, {"region_id": region_id, **times}).scalars())
    return sorted(found)


_NAMES = [(f"after_{number}", f"until_{number}") for number in range(RANGES)]


def _starts_between(after: str, until: str) -> Any:
    runs = region_run.c
    return sa.select(runs.started_at).where(
        runs.region_id == sa.bindparam("region_id"),
        runs.is_complete.in_((sa.true(), sa.false())),
        runs.started_at > sa.bindparam(after),
        runs.started_at <= sa.bindparam(until),
    )


_STARTS = sa.union_all(*(_starts_between(*names) for names in _NAMES))
"""Each range by itself: with all of them joined by OR the databases read every run of the region."""


def image_history_statement(
    wanted: Filter, images: Sequence[tuple[str, str]], period: tuple[datetime, datetime], dialect: str
) -> str:
    """Return the SQL, for people, that gives the rows of ``image_history`` of some images that overlap a period.

    ``images`` are OsTags with ImageIds. The statement runs on every supported database; ``dialect`` matters only to a
    name with a backslash, for which the databases have no spelling in common.
    """
    quote = partial(_literal, is_mysql=dialect in MYSQL_FAMILY)
    since, until = (quote(to_text(moment)) for moment in period)
    conditions = [
        *_alike("region_id", wanted.region_ids, quote),
        *_alike("instance_type", wanted.instance_types, quote),
        *_any_of([part for name in NAME_COLUMNS for part in _alike(name, wanted.images, quote)]),
        *_alike("os_tag", wanted.os_tags, quote),
        *_any_of(_images_named(images, quote), "\n    OR "),
        f"valid_from < {until}",
        f"(valid_to > {since} OR valid_to IS NULL)",
    ]
    return "\n".join(
        (
            "-- times are UTC; on PostgreSQL first: SET TIME ZONE 'UTC'",
            "SELECT *",
            "FROM image_history",
            "WHERE " + "\n  AND ".join(conditions),
            "ORDER BY os_tag, image_id, region_id, instance_type, valid_from",
        )
    )


Quote = Callable[[str], str]


def _literal(text: str, *, is_mysql: bool) -> str:
    escaped = text.replace("\\", "\\\\") if is_mysql else text
    return "'" + escaped.replace("'", "''") + "'"


def _alike(column: str, patterns: Sequence[str], quote: Quote) -> list[str]:
    """Return the condition of ``filters.matching`` as text."""
    if not patterns or "*" in patterns:
        return []
    exact = [pattern for pattern in patterns if not is_glob(pattern)]
    parts = [_one_of(column, exact, quote)] if exact else []
    parts += [
        f"LOWER({column}) LIKE LOWER({quote(like_of(pattern))}) ESCAPE '!'" for pattern in patterns if is_glob(pattern)
    ]
    return _any_of(parts)


def _any_of(parts: Sequence[str], between: str = " OR ") -> list[str]:
    return [f"({between.join(parts)})" if len(parts) > 1 else parts[0]] if parts else []


def _one_of(column: str, names: Sequence[str], quote: Quote) -> str:
    return f"{column} = {quote(names[0])}" if len(names) == 1 else f"{column} IN ({', '.join(map(quote, names))})"


def _images_named(images: Sequence[tuple[str, str]], quote: Quote) -> list[str]:
    of_tag: dict[str, list[str]] = defaultdict(list)
    for os_tag, image_id in images:
        of_tag[os_tag].append(image_id)
    return [f"os_tag = {quote(os_tag)} AND {_one_of('image_id', ids, quote)}" for os_tag, ids in of_tag.items()]
