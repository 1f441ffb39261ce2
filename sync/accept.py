"""Accepting held removals by hand: a person says that they are real."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sync.diff import accepted_update, retired_update
from sync.inventory import (
    ChangeKind,
    Clock,
    Counts,
    HistoryClock,
    Image,
    RunStatus,
    Target,
    TargetUpdate,
    utc_now,
)
from sync.store.database import Database
from sync.store.known import (
    ImageKeys,
    KnownRegion,
    find_held_removals,
    find_latest_moment,
    find_open_intervals,
    find_region,
)
from sync.store.lease import Lease
from sync.store.record import Recorder

TRIGGER = "accept-removals"

HeldKey = tuple[Target, Image | None]
"""A held removal as a person saw it; image None is the retirement of the instance type."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was accepted: changes that were written, and shown removals that were no longer held."""

    run_id: int
    removed_count: int
    retired_count: int
    vanished_count: int


def accept_removals(database: Database, shown: Collection[HeldKey], *, now: Clock = utc_now) -> Acceptance:
    """Accept exactly the held removals that were ``shown`` and are still held; write them as one run.

    Raises:
        LeaseTakenError: a run is under way; nothing was written.
    """
    lease = Lease(database)
    lease.acquire()
    try:
        with database.reading() as connection:
            clock = HistoryClock(find_latest_moment(connection), now)
        keys = ImageKeys()
        recorder = Recorder(database, lease, keys, clock)
        run_id = recorder.open_run(TRIGGER, clock())
        updates: list[TargetUpdate] = []
        for region_id in sorted({target.region_id for target, _ in shown}):
            with database.reading() as connection:
                known = find_region(connection, region_id)
            of_region = [entry for entry in shown if entry[0].region_id == region_id]
            written = _updates_of(database, known, of_region, keys, clock)
            types = {update.target.instance_type for update in written if update.retired_at}
            recorder.write_targets(written, known.targets, types)
            updates += written
        kinds = [change.kind for update in updates for change in update.changes]
        removed_count, retired_count = kinds.count(ChangeKind.REMOVED), kinds.count(ChangeKind.TYPE_RETIRED)
        recorder.close_run(clock(), RunStatus.OK, Counts(images_removed=removed_count))
    finally:
        lease.release()
    accepted = {(update.target, image) for update in updates for image in update.released}
    return Acceptance(run_id, removed_count, retired_count, len(set(shown) - accepted))


def _updates_of(
    database: Database, known: KnownRegion, shown: Collection[HeldKey], keys: ImageKeys, clock: Clock
) -> list[TargetUpdate]:
    images_of: dict[Target, set[Image | None]] = defaultdict(set)
    for target, image in shown:
        images_of[target].add(image)
    retired = {
        target.instance_type
        for target, images in images_of.items()
        if None in images and target.instance_type in known.held_types
    }
    targets = [
        target
        for target, entry in known.targets.items()
        if target in images_of or (target.instance_type in retired and not entry.is_retired)
    ]
    ids = [known.targets[target].id for target in sorted(targets)]
    with database.reading() as connection:
        opened = find_open_intervals(connection, ids, keys)
        held = find_held_removals(connection, ids, keys)
    updates = []
    for target in sorted(targets):
        key = known.targets[target].id
        still_held = held.get(key, {})
        if target.instance_type in retired:
            missed = known.held_types[target.instance_type]
            updates.append(retired_update(target, opened[key], still_held, missed, clock()))
        elif accepted := {image: entry for image, entry in still_held.items() if image in images_of[target]}:
            updates.append(accepted_update(target, opened[key], accepted, clock()))
    return updates
