"""What was available at one time as sets of images: one entry a target, for pages that show a whole region.

The same answers as those of ``snapshot``, which gives every pair of target and image with its times. A region of a
thousand instance types has a hundred thousand pairs, but some tens of different sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.types import NullType

from sync.inventory import OPEN, Target
from sync.store.absences import find_absences
from sync.store.filters import Filter, images_wanted, targets_wanted
from sync.store.known import Moments, batches_of
from sync.store.schema import WHOLE_TYPE, availability, image, target
from sync.store.snapshot import Coverage, coverage_of, find_newest_begins, is_gone, missing_at, targets_at


@dataclass(frozen=True, slots=True)
class TargetSet:
    """What a target had at a time, or what was known last of it, and whether it was observed then."""

    key: int
    """The id of the target's row, by which ``find_beginnings`` is asked."""
    target: Target
    coverage: Coverage
    first_observed_at: datetime | None
    """What this observation found may be older."""
    image_keys: frozenset[int]
    missing: Mapping[int, datetime]
    """Since when held images were missing, by image key."""


@dataclass(frozen=True, slots=True)
class _Had:
    """The images of one target, and when the newest of them appeared."""

    image_keys: frozenset[int]
    newest: datetime


_NOTHING = _Had(frozenset(), OPEN)


def find_sets(connection: Connection, moment: datetime, wanted: Filter) -> list[TargetSet]:
    """Return the targets that ``find_snapshot`` returns, sorted, each with the keys of its images."""
    targets = targets_at(connection, moment, wanted)
    had = _sets_at(connection, moment, wanted)
    absences = find_absences(connection, wanted)
    there = [entry for entry in targets.values() if entry.key in had or not is_gone(entry, absences, moment)]
    newest = {key: entry.newest for key, entry in had.items()}
    if images_wanted(image.c, wanted):
        newest = find_newest_begins(connection, moment, [entry.key for entry in there])
    begins = {entry.target: newest[entry.key] for entry in there if entry.key in newest}
    coverage = coverage_of(connection, moment, wanted, there, absences, begins)
    missing = _missing_by_target(connection, moment)
    found = []
    for entry in sorted(there, key=lambda entry: entry.target):
        keys = had.get(entry.key, _NOTHING).image_keys
        missed = _missed(keys, missing.get(entry.key))
        found.append(TargetSet(entry.key, entry.target, coverage[entry.target], entry.first_observed_at, keys, missed))
    return found


def _sets_at(connection: Connection, moment: datetime, wanted: Filter) -> dict[int, _Had]:
    """Return the images of every target that had any.

    The database strings the keys together: to fetch each pair takes three times as long as to find them.
    """
    span = availability.c
    keys = sa.func.aggregate_strings(sa.cast(span.image_key, sa.String), ",")
    newest = sa.type_coerce(sa.func.max(span.valid_from), NullType())
    columns = (span.target_id, keys, sa.func.sum(span.image_key), newest)
    rows = connection.execute(_pairs_at(columns, moment, wanted).group_by(span.target_id)).all()
    sets = {text: frozenset(int(key) for key in text.split(",") if key) for text in {row[1] for row in rows}}
    # MySQL and MariaDB cut a text at their group_concat_max_len and do not say so.
    cut = [row[0] for row in rows if sum(sets[row[1]]) != row[2]]
    whole = _read_sets(connection, moment, wanted, cut)
    moments = Moments(connection.dialect)
    return {row[0]: _Had(whole.get(row[0]) or sets[row[1]], moments[row[3]]) for row in rows}


def _read_sets(
    connection: Connection, moment: datetime, wanted: Filter, target_ids: Sequence[int]
) -> dict[int, frozenset[int]]:
    """Return the images of some targets, read pair by pair."""
    span = availability.c
    found: dict[int, set[int]] = {target_id: set() for target_id in target_ids}
    for batch in batches_of(target_ids):
        query = _pairs_at((span.target_id, span.image_key), moment, wanted).where(span.target_id.in_(batch))
        for target_id, image_key in connection.execute(query).all():
            found[target_id].add(image_key)
    return {target_id: frozenset(keys) for target_id, keys in found.items()}


def _pairs_at(columns: Sequence[Any], moment: datetime, wanted: Filter) -> Any:
    """Return the query of the pairs that were there at a time."""
    span = availability.c
    joined = target.join(availability, span.target_id == target.c.id)
    of_image = images_wanted(image.c, wanted)
    if of_image:
        joined = joined.join(image, image.c.id == span.image_key)
    conditions = (span.valid_from <= moment, span.valid_to > moment, *targets_wanted(wanted), *of_image)
    return sa.select(*columns).select_from(joined).where(*conditions)


def _missing_by_target(connection: Connection, moment: datetime) -> dict[int, dict[int, datetime]]:
    found: dict[int, dict[int, datetime]] = {}
    for (target_id, image_key), since in missing_at(connection, moment).items():
        found.setdefault(target_id, {})[image_key] = since
    return found


def _missed(keys: frozenset[int], missing: Mapping[int, datetime] | None) -> dict[int, datetime]:
    """Return since when images of a target were missing: each by itself, or with their whole instance type."""
    if not missing:
        return {}
    of_type = missing.get(WHOLE_TYPE)
    since = {key: missing.get(key) or of_type for key in keys}
    return {key: moment for key, moment in since.items() if moment}


def find_beginnings(connection: Connection, moment: datetime, target_ids: Sequence[int]) -> dict[int, datetime]:
    """Return by image key since when the first of some targets had an image that was there at a time."""
    span = availability.c
    found: dict[int, datetime] = {}
    for batch in batches_of(target_ids):
        query = (
            sa.select(span.image_key, sa.func.min(span.valid_from))
            .where(span.target_id.in_(batch), span.valid_from <= moment, span.valid_to > moment)
            .group_by(span.image_key)
        )
        for image_key, since in connection.execute(query).all():
            found[image_key] = min(since, found.get(image_key, since))
    return found
