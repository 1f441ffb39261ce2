"""What the store knows before a run: targets, open intervals, held removals, listed types.

Shaped for the writer and the judges, not for people; history.py answers people.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Dialect, and_, exists, func, select, true, type_coerce
from sqlalchemy.types import NullType

from sync.inventory import IMAGE_FIELDS, OPEN, HeldRemoval, Image, KnownTarget, RunStatus, Target
from sync.store.schema import (
    WHOLE_TYPE,
    availability,
    change,
    coverage_gap,
    held_removal,
    image,
    listed_type,
    region_run,
    run,
    target,
)
from sync.store.types import UtcTimestamp

SERVED = (RunStatus.OK, RunStatus.PARTIAL, RunStatus.HELD)
"""How a run ends that has served its tick of the schedule."""

IN_LIST = 500  # values in one IN list: below every database's limit of parameters, and enough to hide the round trip

T = TypeVar("T")


def batches_of(values: Sequence[T], size: int = IN_LIST) -> Iterator[Sequence[T]]:
    """Yield ``values`` in order, at most ``size`` at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


@dataclass(frozen=True, slots=True)
class KnownRegion:
    """What the store knows of one region when a run begins; empty before its first run."""

    region_id: str
    targets: dict[Target, KnownTarget]
    listed_types: dict[str, datetime]
    """Every type that discovery has listed and that is not retired, with the last moment it is known to be listed."""
    missed_types: frozenset[str]
    """Those of them that the last listing missed."""
    held_types: dict[str, HeldRemoval]
    """Types that discovery no longer lists but whose retirement is not believed yet."""
    last_listed_at: datetime | None
    """When the last complete run with a good discovery began."""


class ImageKeys:
    """The keys of stored images, in both directions; loaded when needed, kept for the life of a run."""

    def __init__(self) -> None:
        self._key_of: dict[Image, int] = {}
        self._image_of: dict[int, Image] = {}

    def remember(self, key: int, known: Image) -> None:
        """Keep one pair of key and image."""
        self._key_of[known] = key
        self._image_of[key] = known

    def key_of(self, known: Image) -> int:
        """Return the key of an image that was found or inserted before."""
        return self._key_of[known]

    def keys_of(self, known: Iterable[Image]) -> list[int]:
        """Return the keys of images that were found or inserted before, in their order."""
        return list(map(self._key_of.__getitem__, known))

    def image_of(self, key: int) -> Image:
        """Return the image of a key that was found before."""
        return self._image_of[key]

    def load_keys(self, connection: Connection, keys: Iterable[int]) -> None:
        """Read the images of those ``keys`` that are not known yet."""
        unknown = sorted(set(keys) - self._image_of.keys())
        columns = [image.c[name] for name in IMAGE_FIELDS]
        for batch in batches_of(unknown):
            for row in connection.execute(select(image.c.id, *columns).where(image.c.id.in_(batch))):
                self.remember(row[0], Image(*row[1:]))

    def load_images(self, connection: Connection, images: Set[Image]) -> list[Image]:
        """Read the keys of those ``images`` that are not known yet; return the ones not stored, sorted."""
        unknown = {entry.fingerprint.hex(): entry for entry in images - self._key_of.keys()}
        for batch in batches_of(sorted(unknown)):
            stored = select(image.c.id, image.c.fingerprint).where(image.c.fingerprint.in_(batch))
            for row in connection.execute(stored).all():
                self.remember(row.id, unknown.pop(row.fingerprint))
        return sorted(unknown.values())


def find_images_of(connection: Connection, keys: Iterable[int]) -> dict[int, Image]:
    """Return the images of keys."""
    wanted, found = set(keys), ImageKeys()
    found.load_keys(connection, wanted)
    return {key: found.image_of(key) for key in wanted}


def find_region_ids(connection: Connection) -> list[str]:
    """Return the regions that have targets which are not retired, sorted."""
    rows = connection.execute(select(target.c.region_id).distinct().where(target.c.retired_at == OPEN))
    return sorted(rows.scalars())


def find_region(connection: Connection, region_id: str) -> KnownRegion:
    """Return what is known of one region; an unknown region is an empty one."""
    held = _held_of_region(connection, region_id)
    targets = _targets_of_region(connection, region_id, has_held=held.keys())
    base_targets = {known.id: entry for entry, known in targets.items()}
    last_listed_at = _last_run_at(connection, region_id, is_listed=True)
    columns = (listed_type.c.instance_type, listed_type.c.first_listed_at, listed_type.c.last_listed_at)
    listed = connection.execute(select(*columns).where(listed_type.c.region_id == region_id)).all()
    return KnownRegion(
        region_id,
        targets,
        # A run that asked less may have listed a type for the first time since the last whole one.
        {name: last or max(first, last_listed_at or first) for name, first, last in listed},
        frozenset(name for name, _, last in listed if last),
        {base_targets[key].instance_type: row for key, row in held.items() if row is not None},
        last_listed_at,
    )


def _targets_of_region(connection: Connection, region_id: str, *, has_held: Iterable[int]) -> dict[Target, KnownTarget]:
    gap = coverage_gap
    is_open = and_(gap.c.target_id == target.c.id, gap.c.gap_to == OPEN)
    columns = (target.c.id, target.c.instance_type, target.c.base_os_tag, target.c.image_digest)
    times = (target.c.first_observed_at, target.c.observed_at, target.c.asked_at)
    query = (
        select(*columns, *times, gap.c.gap_from, target.c.retired_at != OPEN, gap.c.error_code)
        .select_from(target.outerjoin(gap, is_open))
        .where(target.c.region_id == region_id)
    )
    complete_at = _last_run_at(connection, region_id)
    held_ids = frozenset(has_held)
    found = {}
    # By position and at once: each of a run's many thousands of targets passes here.
    for row in connection.execute(query).all():
        key, instance_type, base_os_tag, digest, first_observed_at, observed_at, asked_at, gap_from, *state = row
        entry = Target(region_id, instance_type, base_os_tag)
        last_good_at = _last_good_at(asked_at and observed_at, complete_at, gap_from)
        # The start of a region run comes before its answers anyway; only a written observation has a time after them.
        last_asked_at = asked_at if last_good_at == observed_at else last_good_at
        times_of = (first_observed_at, last_good_at, last_asked_at)
        found[entry] = KnownTarget(key, entry, digest, *times_of, bool(state[0]), state[1], key in held_ids)
    return found


def _last_good_at(
    observed_at: datetime | None, complete_at: datetime | None, gap_from: datetime | None
) -> datetime | None:
    """Return the last known observation: complete runs that found nothing new did not write the target."""
    if observed_at is None:
        return None
    if gap_from is not None:
        return gap_from
    return max(observed_at, complete_at) if complete_at else observed_at


def _last_run_at(connection: Connection, region_id: str, *, is_listed: bool = False) -> datetime | None:
    query = select(func.max(region_run.c.started_at)).where(
        region_run.c.region_id == region_id, region_run.c.is_complete == true()
    )
    if is_listed:
        query = query.where(region_run.c.types_listed.is_not(None))
    return connection.execute(query).scalar()


def _held_of_region(connection: Connection, region_id: str) -> dict[int, HeldRemoval | None]:
    """Return the targets that have held removals, with the one of the type itself where there is one."""
    found: dict[int, HeldRemoval | None] = {}
    joined = held_removal.join(target, held_removal.c.target_id == target.c.id)
    query = select(held_removal).select_from(joined).where(target.c.region_id == region_id)
    for row in connection.execute(query):
        found.setdefault(row.target_id, None)
        if row.image_key == WHOLE_TYPE:
            found[row.target_id] = _held_removal_of(row)
    return found


def _held_removal_of(row: Any) -> HeldRemoval:
    names = ("first_missed_at", "last_missed_at", "last_seen_at", "missed_runs", "missed_answers")
    return HeldRemoval(*(getattr(row, name) for name in names))


def count_open_pairs(connection: Connection, region_id: str, at_most: int) -> int:
    """Return how many pairs of target and image are open in one region, held ones included; stop at ``at_most``."""
    pairs = (
        select(availability.c.image_key)
        .select_from(target.join(availability, availability.c.target_id == target.c.id))
        .where(target.c.region_id == region_id, availability.c.valid_to == OPEN)
        .limit(at_most)
    )
    return connection.execute(select(func.count()).select_from(pairs.subquery())).scalar_one()


class Moments(dict[Any, datetime]):
    """The times that values of the driver stand for; each is read once."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._dialect = dialect
        self._type = UtcTimestamp()

    def __missing__(self, value: Any) -> datetime:
        moment = self._type.process_result_value(value, self._dialect)
        if moment is None:
            raise ValueError("a time that must be there is missing")
        return self.setdefault(value, moment)


def find_open_intervals(
    connection: Connection, target_ids: Sequence[int], keys: ImageKeys
) -> dict[int, dict[Image, datetime]]:
    """Return the open intervals' images with their beginnings, for every one of ``target_ids``."""
    found: dict[int, dict[int, datetime]] = {target_id: {} for target_id in target_ids}
    # The times come as the driver gives them: a target's images share a few, and each is read once.
    columns = (availability.c.target_id, availability.c.image_key, type_coerce(availability.c.valid_from, NullType()))
    moments = Moments(connection.dialect)
    for batch in batches_of(target_ids):
        query = select(*columns).where(availability.c.target_id.in_(batch), availability.c.valid_to == OPEN)
        for target_id, image_key, valid_from in connection.execute(query).all():
            found[target_id][image_key] = moments[valid_from]
    keys.load_keys(connection, {key for opened in found.values() for key in opened})
    return {
        target_id: {keys.image_of(key): valid_from for key, valid_from in opened.items()}
        for target_id, opened in found.items()
    }


def find_held_removals(
    connection: Connection, target_ids: Sequence[int], keys: ImageKeys
) -> dict[int, dict[Image | None, HeldRemoval]]:
    """Return the held removals of those ``target_ids`` that have any; image None is the type itself."""
    rows: list[Any] = []
    for batch in batches_of(target_ids):
        rows += connection.execute(select(held_removal).where(held_removal.c.target_id.in_(batch))).all()
    keys.load_keys(connection, {row.image_key for row in rows if row.image_key != WHOLE_TYPE})
    found: dict[int, dict[Image | None, HeldRemoval]] = defaultdict(dict)
    for row in rows:
        held_image = None if row.image_key == WHOLE_TYPE else keys.image_of(row.image_key)
        found[row.target_id][held_image] = _held_removal_of(row)
    return dict(found)


def find_targets_with_held(connection: Connection) -> list[Target]:
    """Return the targets that have held removals, sorted."""
    has_held = exists().where(held_removal.c.target_id == target.c.id)
    columns = (target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    return sorted(Target(*row) for row in connection.execute(select(*columns).where(has_held)))


def find_latest_moment(connection: Connection) -> datetime | None:
    """Return the latest time that any run recorded; a run's own times must come after it."""
    moments = [
        connection.execute(select(func.max(column))).scalar()
        for column in (
            run.c.started_at,
            run.c.finished_at,
            region_run.c.started_at,
            region_run.c.finished_at,
            target.c.first_observed_at,
            change.c.recorded_at,
        )
    ]
    return max((moment for moment in moments if moment is not None), default=None)


def find_run_of_tick(connection: Connection, scheduled_at: datetime) -> int | None:
    """Return the run that has served a tick of the schedule; None where it failed, was interrupted or never began."""
    query = select(func.max(run.c.id)).where(run.c.scheduled_at == scheduled_at, run.c.status.in_(SERVED))
    return connection.execute(query).scalar()


def find_last_tick(connection: Connection, before: datetime) -> datetime | None:
    """Return the last tick of the schedule before a moment that a run has served."""
    query = select(func.max(run.c.scheduled_at)).where(run.c.scheduled_at < before, run.c.status.in_(SERVED))
    return connection.execute(query).scalar()
