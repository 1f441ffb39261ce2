"""The only writer of the history: each transaction is guarded by the lease and holds whole targets."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection, bindparam, delete, insert, update

from sync.inventory import ChangeKind, Clock, Counts, KnownTarget, RunStatus, Target, TargetUpdate
from sync.store.batch import MESSAGE_LENGTH, Batch
from sync.store.database import Database
from sync.store.known import ImageKeys, batches_of
from sync.store.lease import Lease
from sync.store.schema import listed_type, region_run, run

FLUSH_TARGETS = 500  # one commit per target is several times slower; beyond 500 little is gained and locks last longer


@dataclass(frozen=True, slots=True)
class ListingUpdate:
    """What a run's discovery changes in what is known of a region's listing; nothing where it decided nothing."""

    listed: Mapping[str, datetime] = field(default_factory=dict)
    """Types listed for the first time, with when."""
    unlisted: Collection[str] = ()
    """Types that are believed gone."""
    missed: Mapping[str, datetime] = field(default_factory=dict)
    """Types that were listed until now and are missed but not believed gone, with the last listing that had them."""
    found: Collection[str] = ()
    """Types that an earlier listing missed and this one has again."""


class Recorder:
    """Writes one run: rows of the run and its regions, and the updates of targets."""

    def __init__(self, database: Database, lease: Lease, keys: ImageKeys, clock: Clock) -> None:
        self._database = database
        self._lease = lease
        self._keys = keys
        self._clock = clock
        self.run_id = 0

    def open_run(self, trigger: str, started_at: datetime, scheduled_at: datetime | None = None) -> int:
        """Insert the run's row and return its id; runs that a dead process left running become interrupted."""
        with self._database.writing() as connection:
            self._lease.guard(connection)
            for table in (run, region_run):
                stale = update(table).where(table.c.status == RunStatus.RUNNING)
                connection.execute(stale.values(status=RunStatus.INTERRUPTED, error="run.interrupted"))
            values = {"started_at": started_at, "status": RunStatus.RUNNING, "trigger": trigger}
            row = insert(run).values(**values, scheduled_at=scheduled_at)
            key = connection.execute(row).inserted_primary_key
            self.run_id = int(key[0]) if key else 0
        return self.run_id

    def open_regions(self, region_ids: Iterable[str], started_at: datetime) -> None:
        """Insert the rows of the region runs that begin now."""
        rows = [
            {
                "run_id": self.run_id,
                "region_id": region_id,
                "started_at": started_at,
                "status": RunStatus.RUNNING,
                "is_complete": False,
            }
            for region_id in sorted(region_ids)
        ]
        if rows:
            with self._database.writing() as connection:
                self._lease.guard(connection)
                connection.execute(insert(region_run), rows)

    def write_targets(
        self,
        updates: Sequence[TargetUpdate],
        known: Mapping[Target, KnownTarget],
        unlisted: Iterable[str] = (),
    ) -> None:
        """Write the updates of one region, at most 500 targets (and always whole types) a transaction.

        ``unlisted`` are the types that leave the listing; each leaves in the transaction that retires its targets.
        """
        for entries in _batches_of_types(updates):
            region_id = entries[0].target.region_id
            retired = {entry.target.instance_type for entry in entries if entry.retired_at}
            with self._database.writing() as connection:
                self._lease.guard(connection)
                Batch(connection, entries, known, self._keys, self.run_id).write(self._clock())
                _delete_listed(connection, region_id, retired.intersection(unlisted))
                _insert_listed(connection, region_id, _added_types(entries))

    def close_region(
        self,
        region_id: str,
        finished_at: datetime,
        status: RunStatus,
        counts: Counts,
        *,
        is_complete: bool,
        types_listed: int | None,
        error: str | None,
        listing: ListingUpdate,
    ) -> None:
        """Finish a region run's row, and write what its discovery listed that no target's update says."""
        with self._database.writing() as connection:
            self._lease.guard(connection)
            _delete_listed(connection, region_id, listing.unlisted)
            _insert_listed(connection, region_id, listing.listed)
            _note_missed(connection, region_id, {**listing.missed, **dict.fromkeys(listing.found)})
            this_one = (region_run.c.run_id == self.run_id, region_run.c.region_id == region_id)
            values = {
                "finished_at": finished_at,
                "status": status,
                "is_complete": is_complete,
                "types_listed": types_listed,
                "error": error and error[:MESSAGE_LENGTH],
            }
            connection.execute(update(region_run).where(*this_one).values(**values, **asdict(counts)))

    def close_run(self, finished_at: datetime, status: RunStatus, counts: Counts, error: str | None = None) -> None:
        """Finish the run's row; region runs that did not end are interrupted with it."""
        with self._database.writing() as connection:
            self._lease.guard(connection)
            open_regions = update(region_run).where(
                region_run.c.run_id == self.run_id, region_run.c.status == RunStatus.RUNNING
            )
            connection.execute(open_regions.values(status=RunStatus.INTERRUPTED))
            values = {"finished_at": finished_at, "status": status, "error": error and error[:MESSAGE_LENGTH]}
            connection.execute(update(run).where(run.c.id == self.run_id).values(**values, **asdict(counts)))


def _batches_of_types(updates: Sequence[TargetUpdate]) -> Iterator[list[TargetUpdate]]:
    """Yield the updates in batches that never part the targets of one instance type."""
    batch: list[TargetUpdate] = []
    ordered = sorted(updates, key=lambda entry: entry.target)
    for _, group in groupby(ordered, key=lambda entry: (entry.target.region_id, entry.target.instance_type)):
        of_type = list(group)
        if batch and len(batch) + len(of_type) > FLUSH_TARGETS:
            yield batch
            batch = []
        batch += of_type
    if batch:
        yield batch


def _added_types(entries: Iterable[TargetUpdate]) -> dict[str, datetime]:
    return {
        entry.target.instance_type: change.detected_at
        for entry in entries
        for change in entry.changes
        if change.kind is ChangeKind.TYPE_ADDED
    }


def _insert_listed(connection: Connection, region_id: str, types: Mapping[str, datetime]) -> None:
    rows = [
        {"region_id": region_id, "instance_type": name, "first_listed_at": moment}
        for name, moment in sorted(types.items())
    ]
    if rows:
        connection.execute(insert(listed_type), rows)


def _delete_listed(connection: Connection, region_id: str, types: Iterable[str]) -> None:
    for batch in batches_of(sorted(types)):
        gone = (listed_type.c.region_id == region_id, listed_type.c.instance_type.in_(batch))
        connection.execute(delete(listed_type).where(*gone))


def _note_missed(connection: Connection, region_id: str, types: Mapping[str, datetime | None]) -> None:
    one = (listed_type.c.region_id == region_id, listed_type.c.instance_type == bindparam("name"))
    rows = [{"name": name, "last": last_listed_at} for name, last_listed_at in sorted(types.items())]
    if rows:
        connection.execute(update(listed_type).where(*one).values(last_listed_at=bindparam("last")), rows)
