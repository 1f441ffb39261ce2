"""Reads the history target by target, some hundred at a time, whatever its size."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Select, Table
from sqlalchemy.types import NullType

from sync.errors import DatabaseError
from sync.inventory import IMAGE_FIELDS, PRUNED, ChangeKind, Image, Target
from sync.store.known import Moments, batches_of
from sync.store.schema import availability, change, coverage_gap, held_removal, image, region_run, target
from sync.store.verify.target import ChangeRow, Gap, Held, Interval, Retirement, TargetHistory
from sync.store.verify.verdict import Check, Findings

BATCH_TARGETS = 200  # with the 400 intervals that two years leave of a target some 80,000 rows, about 20 MB
BATCH_IMAGES = 5000

RESTORE = "it is damaged; restore a copy of it"

Row = Sequence[Any]


class Times(Moments):
    """The times of a batch of rows; one that cannot be read is a damaged database."""

    def __missing__(self, value: Any) -> datetime:
        """Read a time for the first time."""
        try:
            return super().__missing__(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise DatabaseError(f"the database holds {value!r} in place of a time; {RESTORE}") from error

    def read(self, value: Any) -> datetime | None:
        """Return a time that may be missing."""
        return None if value is None else self[value]


@dataclass(slots=True)
class Inventory:
    """What all batches need: the targets, the images by key, and from when on the history is whole."""

    targets: dict[int, TargetHistory]
    fingerprints: dict[int, bytes]
    kept_from: dict[str, datetime] = field(default_factory=dict)
    """The newest cut of each region whose earlier history was dropped."""


def read_inventory(connection: Connection, findings: Findings) -> Inventory:
    """Return the targets without their rows, sorted by key, and the images; check the images by themselves."""
    times = Times(connection.dialect)
    columns = (target.c.id, target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    moments = _raw(target.c.first_observed_at, target.c.asked_at, target.c.retired_at)
    query = sa.select(*columns, *moments, target.c.image_digest).order_by(target.c.id)
    found: dict[int, TargetHistory] = {}
    for key, region_id, instance_type, tag, first, asked, retired, digest in read_all(connection, query):
        place = Target(region_id, instance_type, tag)
        found[key] = TargetHistory(place, times.read(first), times.read(asked), times[retired], digest)
    inventory = Inventory(found, _read_images(connection, findings))
    _read_horizons(connection, inventory, findings)
    return inventory


def _read_images(connection: Connection, findings: Findings) -> dict[int, bytes]:
    """Return the fingerprints by key, computed from the images' fields as the next run computes them."""
    fingerprints: dict[int, bytes] = {}
    names: dict[int, str] = {}
    findings.image_names = names
    columns = [image.c[name] for name in IMAGE_FIELDS]
    last = -1
    while True:
        page = sa.select(image.c.id, image.c.fingerprint, *columns).where(image.c.id > last).order_by(image.c.id)
        rows = read_all(connection, page.limit(BATCH_IMAGES))
        for key, fingerprint, *values in rows:
            stored = Image(*map(str, values))
            fingerprints[key] = stored.fingerprint
            names[key] = stored.image_id or stored.os_tag
            if stored.fingerprint.hex() != fingerprint:
                findings.note(Check.DIGESTS, "its fingerprint is not that of its fields", image_key=key)
        findings.examine(Check.DIGESTS, len(rows))
        if len(rows) < BATCH_IMAGES:
            return fingerprints
        last = rows[-1][0]


def _read_horizons(connection: Connection, inventory: Inventory, findings: Findings) -> None:
    """Note from when on the targets' history is whole where ``db prune`` has dropped what was before.

    What it dropped was written before the region run that the gap in its place names. A target without BaseOsTag
    has the changes of the others of its type.
    """
    gap, of_region = coverage_gap.c, region_run.c
    joined = coverage_gap.join(target, target.c.id == gap.target_id).outerjoin(
        region_run, sa.and_(of_region.run_id == gap.run_id, of_region.region_id == target.c.region_id)
    )
    columns = (gap.target_id, of_region.started_at)
    rows = read_all(connection, sa.select(*columns).select_from(joined).where(gap.error_code == PRUNED))
    for key, cut_at in rows:
        entry = inventory.targets[key]
        if cut_at is None:
            findings.note(Check.GAPS, "the gap in place of its dropped history names a run without it", entry.target)
            continue
        entry.horizon = max(cut_at, entry.horizon or cut_at)
        region_id = entry.target.region_id
        inventory.kept_from[region_id] = max(cut_at, inventory.kept_from.get(region_id, cut_at))
    _read_type_changes(connection, inventory)


def _read_type_changes(connection: Connection, inventory: Inventory) -> None:
    """Give targets with a BaseOsTag what is known of the same type without one."""
    tagged = [entry for entry in inventory.targets.values() if entry.target.base_os_tag]
    if not tagged:
        return
    keys = {entry.target: key for key, entry in inventory.targets.items() if not entry.target.base_os_tag}
    plain = [(entry, keys.get(Target(entry.target.region_id, entry.target.instance_type))) for entry in tagged]
    found: dict[int, list[Retirement]] = {key: [] for _, key in plain if key is not None}
    columns = (change.c.target_id, change.c.detected_at, change.c.recorded_at)
    for batch in batches_of(sorted(found)):
        retired = sa.select(*columns).where(change.c.target_id.in_(batch), change.c.kind == ChangeKind.TYPE_RETIRED)
        for key, detected_at, recorded_at in read_all(connection, retired.order_by(change.c.id)):
            found[key].append(Retirement(detected_at, recorded_at))
    for entry, plain_key in plain:
        entry.retirements = [] if plain_key is None else found[plain_key]
        cut_at = None if plain_key is None else inventory.targets[plain_key].horizon
        entry.horizon = max(filter(None, (entry.horizon, cut_at)), default=None)


@dataclass(slots=True)
class GapTimes:
    """When the gaps of each region begin and end, in no order until they are counted."""

    begins: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    _expected: dict[str, list[tuple[datetime, Target]]] = field(default_factory=lambda: defaultdict(list))
    """The ends that only an observation can have made."""
    _is_seen: dict[str, bytearray] = field(default_factory=dict)

    def expect(self, asked: Target, ends: Iterable[datetime]) -> None:
        """Note ends of a target's gaps at which a run must have observed it."""
        self._expected[asked.region_id] += [(moment, asked) for moment in ends]

    def sort(self) -> None:
        """Prepare for counting and seeing."""
        for moments in (*self.begins.values(), *self.ends.values()):
            moments.sort()
        for region_id, expected in self._expected.items():
            expected.sort()
            self._is_seen[region_id] = bytearray(len(expected))

    def see(self, region_id: str, begin: datetime, end: datetime) -> None:
        """Note that a run observed a region from one time to another."""
        if expected := self._expected.get(region_id):
            first = bisect_left(expected, begin, key=_moment_of)
            last = bisect_right(expected, end, key=_moment_of)
            self._is_seen[region_id][first:last] = b"\1" * max(0, last - first)

    def unseen(self) -> Iterator[tuple[datetime, Target]]:
        """Yield the ends of gaps at which no run observed their region."""
        for region_id, expected in self._expected.items():
            yield from (entry for entry, is_seen in zip(expected, self._is_seen[region_id], strict=True) if not is_seen)

    def count_at(self, region_id: str, moment: datetime) -> int:
        """Return how many targets of a region are in a gap at a time, those included whose gap begins then."""
        return bisect_right(self.begins[region_id], moment) - bisect_right(self.ends[region_id], moment)


def _moment_of(entry: tuple[datetime, Target]) -> datetime:
    return entry[0]


Batch = Mapping[int, TargetHistory]


class HistoryReader:
    """Reads all rows of a batch of targets; those of targets that do not exist are violations.

    Attributes:
        change_counts: how many changes were read, by run, region and kind.
        gap_times: when the gaps that were read begin and end.
    """

    def __init__(self, connection: Connection, inventory: Inventory, findings: Findings) -> None:
        self._connection = connection
        self._inventory = inventory
        self._findings = findings
        self.change_counts: dict[tuple[int, str, str], int] = {}
        self.gap_times = GapTimes()

    def batches(self) -> Iterator[Batch]:
        """Yield the targets with their rows, some hundred at a time, each in one batch."""
        keys = list(self._inventory.targets)
        lowest: int | None = None
        parts = list(batches_of(keys, BATCH_TARGETS)) or [[]]
        for number, part in enumerate(parts, 1):
            # Beyond the first and the last target too: rows whose target is missing belong to some batch.
            highest = part[-1] if number < len(parts) else None
            yield self._read({key: self._inventory.targets[key] for key in part}, lowest, highest)
            lowest = highest
            for key in part:
                entry = self._inventory.targets[key]
                entry.intervals, entry.changes, entry.gaps, entry.held = [], [], [], []

    def _read(self, batch: Batch, above: int | None, until: int | None) -> Batch:
        times = Times(self._connection.dialect)
        span = availability.c
        columns = (span.target_id, span.image_key, *_raw(span.valid_from, span.valid_to))
        for key, image_key, since, to in self._rows(availability, columns, above, until):
            if self._exists(Check.INTERVALS, batch, key, image_key):
                batch[key].intervals.append(Interval(image_key, times[since], times[to]))
        self._read_changes(batch, times, above, until)
        gap = coverage_gap.c
        columns = (gap.target_id, *_raw(gap.gap_from, gap.gap_to), gap.error_code)
        for key, gap_from, gap_to, error_code in self._rows(coverage_gap, columns, above, until):
            if self._exists(Check.GAPS, batch, key):
                found = Gap(times[gap_from], times[gap_to], error_code)
                batch[key].gaps.append(found)
                region_id = batch[key].target.region_id
                self.gap_times.begins[region_id].append(found.gap_from)
                self.gap_times.ends[region_id].append(found.gap_to)
        held = held_removal.c
        columns = (held.target_id, held.image_key, *_raw(held.first_missed_at, held.last_missed_at, held.last_seen_at))
        for key, image_key, first, last, seen in self._rows(held_removal, columns, above, until):
            if self._exists(Check.HELD, batch, key, image_key or None):
                batch[key].held.append(Held(image_key, times[first], times[last], times.read(seen)))
        return batch

    def _read_changes(self, batch: Batch, times: Times, above: int | None, until: int | None) -> None:
        of = change.c
        moments = _raw(of.detected_at, of.last_seen_at, of.recorded_at)
        columns = (of.target_id, of.run_id, of.id, of.kind, of.image_key, of.previous_image_key, *moments)
        counts = self.change_counts
        for key, run_id, number, kind, image_key, previous, detected, seen, recorded in self._rows(
            change, columns, above, until
        ):
            if self._exists(Check.CHANGES, batch, key, image_key, previous):
                row = ChangeRow(number, kind, image_key, previous, times[detected], times.read(seen), times[recorded])
                batch[key].changes.append(row)
                of_run = (run_id, batch[key].target.region_id, kind)
                counts[of_run] = counts.get(of_run, 0) + 1

    def _rows(self, table: Table, columns: Sequence[Any], above: int | None, until: int | None) -> Sequence[Row]:
        query = sa.select(*columns)
        if above is not None:
            query = query.where(table.c.target_id > above)
        if until is not None:
            query = query.where(table.c.target_id <= until)
        return read_all(self._connection, query)

    def _exists(self, check: Check, batch: Batch, key: int, *image_keys: int | None) -> bool:
        """Count one row, and return whether its target and images exist, which SQLite does not always demand."""
        self._findings.examine(check)
        if key not in batch:
            self._findings.note(check, f"a row names target {key}, which does not exist")
            return False
        for image_key in image_keys:
            if image_key is not None and image_key not in self._inventory.fingerprints:
                self._findings.note(
                    check, f"a row names image {image_key}, which does not exist", batch[key].target, image_key
                )
                return False
        return True


def read_all(connection: Connection, query: Select[Any]) -> Sequence[Any]:
    """Return all rows of a query.

    Raises:
        DatabaseError: a value is not what its column is for, as only SQLite lets happen.
    """
    try:
        return connection.execute(query).all()
    except (ValueError, TypeError) as error:
        raise DatabaseError(f"the database holds a value that is none of its column: {error}; {RESTORE}") from error


def _raw(*columns: Any) -> tuple[Any, ...]:
    """Return columns of times as the driver gives them: many rows share a few, and each is read once."""
    return tuple(sa.type_coerce(column, NullType()) for column in columns)
