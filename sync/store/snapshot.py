"""What was available at one time, and what was known of it: a state per target beside its images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.types import NullType

from sync.inventory import IMAGE_FIELDS, OPEN, PRUNED, Image, Target
from sync.store.absences import Absence, Absences, find_absences
from sync.store.filters import Filter, images_wanted, targets_wanted
from sync.store.known import ImageKeys, Moments, batches_of
from sync.store.schema import (
    WHOLE_TYPE,
    availability,
    coverage_gap,
    held_removal,
    image,
    listed_type,
    region_run,
    target,
)

Row = dict[str, Any]

AVAILABLE = "available"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether a target was observed at a time."""

    state: str
    """``available``, or ``unknown`` where a gap covers the time or the target was not observed before it."""
    observed_at: datetime | None
    """The last observation at or before that time; None before the first."""
    next_observed_at: datetime | None
    """For ``unknown`` the first observation after that time; None where there is none yet."""


COVERAGE_COLUMNS = tuple(entry.name for entry in fields(Coverage))
"""What ``images`` adds to the columns of ``available_images``."""


@dataclass(frozen=True, slots=True)
class Span:
    """Since when an image was available, at a time."""

    available_since: datetime
    from_baseline: bool
    missing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The targets of a filter at one time; a target without images is known to have none, or unknown."""

    moment: datetime
    coverage: dict[Target, Coverage]
    """Sorted by target. Retired targets are not here once they are retired: they are known to be gone.

    With a filter of images, neither are targets that are known to have none of these.
    """
    images: dict[Target, dict[Image, Span]]
    """What was available, or was known last of an unknown target; only targets that have images."""


def find_snapshot(connection: Connection, moment: datetime, wanted: Filter) -> Snapshot:
    """Return what was available at a time, and what was known then."""
    targets = targets_at(connection, moment, wanted)
    images = _images_at(connection, moment, wanted, targets)
    absences = find_absences(connection, wanted)
    there = [
        # A type that was missed from the listing may have answered until that was believed: what it had then counts.
        entry
        for entry in targets.values()
        if entry.target in images or not is_gone(entry, absences, moment)
    ]
    if not images_wanted(image.c, wanted):
        begins = {entry: max(span.available_since for span in spans.values()) for entry, spans in images.items()}
        return Snapshot(moment, coverage_of(connection, moment, wanted, there, absences, begins), images)
    there = [entry for entry in there if entry.target in images or entry.is_unknown(moment)]
    newest = find_newest_begins(connection, moment, [entry.key for entry in there])
    begins = {targets[key].target: begin for key, begin in newest.items()}
    return Snapshot(moment, coverage_of(connection, moment, wanted, there, absences, begins), images)


def list_images_at(connection: Connection, moment: datetime, wanted: Filter) -> list[Row]:
    """Return one row per region, instance type and image at a time: the columns of ``available_images`` and three more.

    ``state``, ``observed_at`` and ``next_observed_at`` are those of the target's coverage. An unknown target without
    images has one row without image. Sorted by region, instance type and image.
    """
    snapshot = find_snapshot(connection, moment, wanted)
    # A region's tens of thousands of pairs share some hundreds of images: each is put in its place and in words once.
    images = {entry for spans in snapshot.images.values() for entry in spans}
    told = {entry: {name: getattr(entry, name) for name in IMAGE_FIELDS} for entry in sorted(images, key=_order_of)}
    place_of = {entry: number for number, entry in enumerate(told)}
    rows: list[Row] = []
    for asked, coverage in snapshot.coverage.items():
        place = {"region_id": asked.region_id, "instance_type": asked.instance_type}
        of_target = {"base_os_tag_filter": asked.base_os_tag, **asdict(coverage)}
        spans = snapshot.images.get(asked, {})
        rows += [
            {
                **place,
                **told[entry],
                "available_since": spans[entry].available_since,
                "from_baseline": spans[entry].from_baseline,
                "missing_since": spans[entry].missing_since,
                **of_target,
            }
            for entry in sorted(spans, key=place_of.__getitem__)
        ]
        if coverage.state == UNKNOWN and not spans:
            rows.append(place | dict.fromkeys((*IMAGE_FIELDS, *SPAN_FIELDS)) | of_target)
    return rows


SPAN_FIELDS = tuple(entry.name for entry in fields(Span))

_order_of: Callable[[Image], tuple[str, ...]] = attrgetter("os_tag", "image_id", "os_name", *IMAGE_FIELDS)


@dataclass(frozen=True, slots=True)
class TargetAt:
    """What the tables say of one target about a time."""

    key: int
    target: Target
    first_observed_at: datetime | None
    observed_at: datetime | None
    retired_at: datetime
    gap_from: datetime | None
    """The gap that covers the time."""
    gap_to: datetime | None
    is_dropped: bool
    """Whether that gap stands for what ``db prune`` dropped, the observations in it too."""
    begins_with_return: bool = False
    """Whether the gap begins with the type's return: it was listed again and has not been observed since."""

    def is_unknown(self, moment: datetime) -> bool:
        """Return whether the target was not observed at the time that this was read for, or not yet."""
        return self.gap_from is not None or self.first_observed_at is None or self.first_observed_at > moment

    @property
    def place(self) -> tuple[str, str]:
        """Return the region and instance type."""
        return self.target.region_id, self.target.instance_type


def targets_at(connection: Connection, moment: datetime, wanted: Filter) -> dict[int, TargetAt]:
    """Return all targets of a filter by their ids, those too that are gone or not observed yet at that time."""
    gap = coverage_gap.c
    in_gap = sa.and_(gap.target_id == target.c.id, gap.gap_from < moment, gap.gap_to > moment)
    columns = (target.c.id, target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    times = (target.c.first_observed_at, target.c.observed_at, target.c.retired_at, gap.gap_from, gap.gap_to)
    raw = (sa.type_coerce(time, NullType()) for time in times)
    is_dropped = sa.func.coalesce(gap.error_code, "") == PRUNED
    joined = target.outerjoin(coverage_gap, in_gap)
    query = sa.select(*columns, *raw, is_dropped).select_from(joined).where(*targets_wanted(wanted))
    moments = Moments(connection.dialect)
    found = {}
    for key, *place, first, observed, retired, gap_from, gap_to, dropped in connection.execute(query).all():
        retired_at = moments[retired]
        known, seen, begin, end = (value and moments[value] for value in (first, observed, gap_from, gap_to))
        found[key] = TargetAt(key, Target(*place), known, seen, retired_at, begin, end, dropped)
    return found


def is_gone(entry: TargetAt, absences: Absences, moment: datetime) -> bool:
    """Return whether a target's instance type was known to be gone at a time."""
    if entry.retired_at <= moment:
        return True
    return any(absence.back_at != OPEN and absence.covers(moment) for absence in absences.get(entry.place, ()))


def coverage_of(
    connection: Connection,
    moment: datetime,
    wanted: Filter,
    targets: Iterable[TargetAt],
    absences: Absences,
    begins: Mapping[Target, datetime],
) -> dict[Target, Coverage]:
    """Return the coverage of targets, sorted; ``begins`` are the newest beginnings of what they had: observations."""
    found = sorted(targets, key=lambda entry: entry.target)
    runs = {
        region_id: find_complete_run(connection, region_id, moment)
        for region_id in sorted({entry.target.region_id for entry in found})
    }
    seen = _gap_ends_until(connection, moment, wanted)
    return {
        entry.target: _coverage(
            _between_observations(connection, entry, absences.get(entry.place, ())),
            moment,
            (runs[entry.target.region_id], seen.get(entry.key), begins.get(entry.target)),
        )
        for entry in found
    }


def _between_observations(connection: Connection, entry: TargetAt, absences: Sequence[Absence]) -> TargetAt:
    """Return a target with the ends of its gap corrected where they are no observations, as its type came and went.

    A gap ends when its type is retired, and begins with the listing of a type that returns and does not answer.
    """
    gap_from, gap_to = entry.gap_from, entry.gap_to
    if gap_from is None or gap_to is None:
        return entry
    for absence in absences:
        if absence.retired_in[0] <= gap_to <= absence.retired_in[1]:
            entry = replace(entry, gap_to=_first_observation_since(connection, entry.key, absence.back_at))
        if gap_from == absence.back_at:
            entry = replace(entry, begins_with_return=True)
    return entry


def _first_observation_since(connection: Connection, key: int, moment: datetime) -> datetime:
    """Return the first observation at or after a type's return that left an interval or ended a gap, else OPEN."""
    span, gap = availability.c, coverage_gap.c
    begins = sa.select(sa.func.min(span.valid_from)).where(span.target_id == key, span.valid_from >= moment)
    ends = sa.select(sa.func.min(gap.gap_to)).where(gap.target_id == key, gap.gap_from >= moment)
    return min(connection.execute(query).scalar() or OPEN for query in (begins, ends))


def _coverage(entry: TargetAt, moment: datetime, observed: Sequence[datetime | None]) -> Coverage:
    """Return a target's coverage; ``observed`` are moments at or before ``moment`` at which it may have been seen."""
    first = entry.first_observed_at
    if first is None or first > moment:
        return Coverage(UNKNOWN, None, first)
    if entry.gap_from is not None:
        observed_at = None if entry.begins_with_return or entry.is_dropped else entry.gap_from
        return Coverage(UNKNOWN, observed_at, None if entry.gap_to == OPEN else entry.gap_to)
    written = (first, entry.observed_at, *observed)
    return Coverage(AVAILABLE, max(time for time in written if time is not None and time <= moment), None)


def find_complete_run(connection: Connection, region_id: str, moment: datetime) -> datetime | None:
    """Return when the last run that asked a whole region until a time began; None where there was none."""
    runs = region_run.c
    # Not MAX: for that MariaDB reads all runs of the region.
    query = (
        sa.select(runs.started_at)
        .where(runs.region_id == region_id, runs.is_complete == sa.true(), runs.started_at <= moment)
        .order_by(runs.started_at.desc())
        .limit(1)
    )
    return connection.execute(query).scalar()


def _gap_ends_until(connection: Connection, moment: datetime, wanted: Filter) -> dict[int, datetime]:
    """Return per target the last observation at or before ``moment`` that ended a gap."""
    gap = coverage_gap.c
    query = (
        sa.select(gap.target_id, sa.type_coerce(sa.func.max(gap.gap_to), NullType()))
        .select_from(coverage_gap.join(target, target.c.id == gap.target_id))
        .where(gap.gap_to <= moment, *targets_wanted(wanted))
        .group_by(gap.target_id)
    )
    moments = Moments(connection.dialect)
    return {row[0]: moments[row[1]] for row in connection.execute(query)}


def _images_at(
    connection: Connection, moment: datetime, wanted: Filter, targets: dict[int, TargetAt]
) -> dict[Target, dict[Image, Span]]:
    """Return the images of every target that had any.

    Only keys and times come from the database, and the times as its driver gives them: a region has some tens of
    thousands of pairs, which share a few hundred images and times.
    """
    span = availability.c
    joined = target.join(availability, span.target_id == target.c.id)
    of_image = images_wanted(image.c, wanted)
    if of_image:
        joined = joined.join(image, image.c.id == span.image_key)
    query = (
        sa.select(span.target_id, span.image_key, sa.type_coerce(span.valid_from, NullType()))
        .select_from(joined)
        .where(span.valid_from <= moment, span.valid_to > moment, *targets_wanted(wanted), *of_image)
    )
    rows = connection.execute(query).all()
    keys = ImageKeys()
    keys.load_keys(connection, {row[1] for row in rows})
    moments = Moments(connection.dialect)
    missing = missing_at(connection, moment)
    found: dict[Target, dict[Image, Span]] = {}
    for target_id, image_key, valid_from in rows:
        entry = targets.get(target_id)
        if entry is not None:
            since = moments[valid_from]
            missed = missing.get((target_id, image_key)) or missing.get((target_id, WHOLE_TYPE))
            known = Span(since, since == entry.first_observed_at, missed)
            found.setdefault(entry.target, {})[keys.image_of(image_key)] = known
    return found


def find_newest_begins(connection: Connection, moment: datetime, target_ids: Sequence[int]) -> dict[int, datetime]:
    """Return when the newest image came of all that some targets had at a time: then they were observed.

    Of all, wanted or not: what is known of a target does not depend on the images that one asks for.
    """
    span = availability.c
    moments = Moments(connection.dialect)
    found = {}
    for batch in batches_of(target_ids):
        query = (
            sa.select(span.target_id, sa.type_coerce(sa.func.max(span.valid_from), NullType()))
            .where(span.target_id.in_(batch), span.valid_from <= moment, span.valid_to > moment)
            .group_by(span.target_id)
        )
        found.update({key: moments[newest] for key, newest in connection.execute(query)})
    return found


def missing_at(connection: Connection, moment: datetime) -> dict[tuple[int, int], datetime]:
    """Return since when images (and whole types) that are held now were missing, where that was before ``moment``."""
    held = held_removal.c
    query = sa.select(held.target_id, held.image_key, held.first_missed_at).where(held.first_missed_at <= moment)
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class Listing:
    """What the discovery of one region has listed until a time."""

    is_known: bool
    """False where the region's types were never discovered: what it offers beyond its targets is unknown."""
    instance_types: frozenset[str]

    def lacks(self, instance_type: str) -> bool:
        """Return whether the region is known not to offer an instance type."""
        return self.is_known and instance_type not in self.instance_types


def find_listing(connection: Connection, moment: datetime, region_id: str) -> Listing:
    """Return what the discovery of a region said until a time."""
    runs, listed = region_run.c, listed_type.c
    discovered = (
        sa.select(runs.started_at)
        .where(runs.region_id == region_id, runs.is_complete == sa.true(), runs.started_at <= moment)
        .where(runs.types_listed.is_not(None))
        .limit(1)
    )
    types = sa.select(listed.instance_type).where(listed.region_id == region_id, listed.first_listed_at <= moment)
    is_known = connection.execute(discovered).first() is not None
    return Listing(is_known, frozenset(connection.execute(types).scalars()))
