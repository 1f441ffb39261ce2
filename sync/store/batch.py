"""The statements that write one batch of target updates, in the order that the keys demand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam

from sync.errors import DatabaseError
from sync.inventory import (
    IMAGE_FIELDS,
    OPEN,
    Failure,
    Image,
    KnownTarget,
    Target,
    TargetUpdate,
    digest_of,
)
from sync.store.bulk import insert_open_intervals
from sync.store.known import ImageKeys, batches_of
from sync.store.schema import (
    WHOLE_TYPE,
    availability,
    change,
    coverage_gap,
    held_removal,
    image,
    target,
)

NO_IMAGES = digest_of(())
MESSAGE_LENGTH = 2000  # what the message columns hold; MySQL refuses a longer text
CODE_LENGTH = 128  # what error_code and request_id hold

Row = dict[str, Any]


class Batch:
    """One transaction's updates of targets of one region; the caller guards and commits it."""

    def __init__(
        self,
        connection: Connection,
        updates: Sequence[TargetUpdate],
        known: Mapping[Target, KnownTarget],
        keys: ImageKeys,
        run_id: int,
    ) -> None:
        self._connection = connection
        self._updates = updates
        self._known = known
        self._keys = keys
        self._run_id = run_id
        self._ids = {entry.target: known[entry.target].id for entry in updates if entry.target in known}

    def write(self, recorded_at: datetime) -> None:
        """Execute all statements; ``recorded_at`` is the moment of writing."""
        self._insert_images()
        self._insert_targets()
        self._close_intervals()
        self._insert_intervals()
        self._insert_changes(recorded_at)
        self._write_held()
        self._update_targets()
        self._write_gaps()

    def _execute(self, statement: sa.Executable, rows: Sequence[Row]) -> int:
        """Execute a statement once per row and return how many rows it met; nothing happens without rows."""
        return self._connection.execute(statement, rows).rowcount if rows else 0

    def _insert_images(self) -> None:
        named: set[Image | None] = set()
        for update in self._updates:
            named.update(update.opened, update.closed, update.held, update.released)
        new = self._keys.load_images(self._connection, {entry for entry in named if entry is not None})
        if not new:
            return
        wanted = frozenset(new)
        first_seen = {entry: update.moment for update in self._updates for entry in wanted.intersection(update.opened)}
        rows = [
            {
                "fingerprint": entry.fingerprint.hex(),
                "first_seen_at": first_seen[entry],
                **{name: getattr(entry, name) for name in IMAGE_FIELDS},
            }
            for entry in new
        ]
        self._execute(sa.insert(image), rows)
        self._keys.load_images(self._connection, wanted)

    def _insert_targets(self) -> None:
        new = {entry.target: entry for entry in self._updates if entry.target not in self._ids}
        if not new:
            return
        self._execute(sa.insert(target), [_new_target_row(entry) for entry in new.values()])
        region_id = next(iter(new)).region_id
        columns = (target.c.region_id, target.c.instance_type, target.c.base_os_tag, target.c.id)
        for types in batches_of(sorted({entry.instance_type for entry in new})):
            inserted = sa.select(*columns).where(target.c.region_id == region_id, target.c.instance_type.in_(types))
            for row in self._connection.execute(inserted):
                self._ids[Target(*row[:3])] = row.id

    def _close_intervals(self) -> None:
        rows = [
            {"owner": self._ids[update.target], "key": self._keys.key_of(entry), "until": valid_to}
            for update in self._updates
            for entry, valid_to in update.closed.items()
        ]
        closing = (
            sa.update(availability)
            .where(availability.c.target_id == bindparam("owner"), availability.c.valid_to == OPEN)
            .where(availability.c.image_key == bindparam("key"))
            .values(valid_to=bindparam("until"))
        )
        if self._execute(closing, rows) != len(rows):
            raise DatabaseError(
                "the stored intervals changed while this run judged them; nothing of this batch was written"
            )

    def _insert_intervals(self) -> None:
        groups = [
            (self._ids[update.target], update.moment, self._keys.keys_of(update.opened))
            for update in self._updates
            if update.opened
        ]
        insert_open_intervals(self._connection, groups)

    def _insert_changes(self, recorded_at: datetime) -> None:
        rows = [
            {
                "run_id": self._run_id,
                "target_id": self._ids[update.target],
                "image_key": entry.image and self._keys.key_of(entry.image),
                "previous_image_key": entry.previous_image and self._keys.key_of(entry.previous_image),
                "kind": entry.kind,
                "detected_at": entry.detected_at,
                "last_seen_at": entry.last_seen_at,
                "recorded_at": recorded_at,
            }
            for update in self._updates
            for entry in update.changes
        ]
        self._execute(sa.insert(change), rows)

    def _held_key(self, entry: Image | None) -> int:
        return WHOLE_TYPE if entry is None else self._keys.key_of(entry)

    def _write_held(self) -> None:
        ended = [
            {"owner": self._ids[update.target], "key": self._held_key(entry)}
            for update in self._updates
            if update.target in self._known and self._known[update.target].has_held
            for entry in {*update.held, *update.released}
        ]
        kept = [
            {"target_id": self._ids[update.target], "image_key": self._held_key(entry), **asdict(held)}
            for update in self._updates
            for entry, held in update.held.items()
        ]
        ending = sa.delete(held_removal).where(
            held_removal.c.target_id == bindparam("owner"), held_removal.c.image_key == bindparam("key")
        )
        self._execute(ending, ended)
        self._execute(sa.insert(held_removal), kept)

    def _update_targets(self) -> None:
        known = [entry for entry in self._updates if entry.target in self._known]
        one = sa.update(target).where(target.c.id == bindparam("key"))
        observed_at = bindparam("moment", type_=target.c.observed_at.type)
        seen = {"observed_at": observed_at, "asked_at": bindparam("asked"), "image_digest": bindparam("digest")}
        first = sa.func.coalesce(target.c.first_observed_at, observed_at)
        observed = [self._target_row(entry) for entry in known if entry.is_observed]
        self._execute(one.values(**seen, first_observed_at=first, retired_at=OPEN), observed)
        retired = [self._target_row(entry) | {"until": entry.retired_at} for entry in known if entry.retired_at]
        self._execute(one.values(**seen, retired_at=bindparam("until")), retired)
        decided = [
            self._target_row(entry)
            for entry in known
            if entry.image_digest and not entry.is_observed and not entry.retired_at
        ]
        self._execute(one.values(**seen), decided)
        # A type that returns but cannot be observed is unknown: what was seen before it went says nothing about now.
        returned = [{"key": self._ids[entry.target]} for entry in known if entry.failure and self._returns(entry)]
        self._execute(one.values(asked_at=None, retired_at=OPEN), returned)

    def _returns(self, entry: TargetUpdate) -> bool:
        return entry.target in self._known and self._known[entry.target].is_retired and entry.listed_at is not None

    def _target_row(self, entry: TargetUpdate) -> Row:
        known = self._known[entry.target]
        return {
            "key": known.id,
            "moment": entry.moment if entry.is_observed else known.last_good_at,
            "asked": (entry.asked_at or entry.moment) if entry.is_observed else known.last_asked_at,
            "digest": entry.image_digest or known.image_digest,
        }

    def _write_gaps(self) -> None:
        in_gap = [entry for entry in self._updates if self._gap_code_of(entry) is not None]
        covered = [
            {"owner": self._ids[entry.target], "until": entry.moment}
            for entry in in_gap
            if entry.is_observed or entry.retired_at
        ]
        one = sa.update(coverage_gap).where(
            coverage_gap.c.target_id == bindparam("owner"), coverage_gap.c.gap_to == OPEN
        )
        self._execute(one.values(gap_to=bindparam("until")), covered)
        opened = [
            {
                "target_id": self._ids[entry.target],
                "gap_to": OPEN,
                "gap_from": self._gap_begin_of(entry),
                "run_id": self._run_id,
                **_cause_of(entry.failure),
            }
            for entry in self._updates
            if entry.failure and self._gap_code_of(entry) is None
        ]
        self._execute(sa.insert(coverage_gap), opened)
        other_causes = [
            {"owner": self._ids[entry.target], "new_run_id": self._run_id}
            | {f"new_{name}": value for name, value in _cause_of(entry.failure).items()}
            for entry in in_gap
            if entry.failure and entry.failure.code[:CODE_LENGTH] != self._gap_code_of(entry)
        ]
        names = ("error_code", "message", "request_id", "run_id")
        self._execute(one.values({name: bindparam(f"new_{name}") for name in names}), other_causes)

    def _gap_code_of(self, entry: TargetUpdate) -> str | None:
        known = self._known.get(entry.target)
        return known.gap_code if known else None

    def _gap_begin_of(self, entry: TargetUpdate) -> datetime:
        """Return the last good observation, or the first attempt; of a type that returned, its listing.

        That no observation can have the time of a listing tells those who ask that none is meant.
        """
        if entry.listed_at and self._returns(entry):
            return entry.listed_at
        return self._last_good_at(entry) or entry.moment

    def _last_good_at(self, entry: TargetUpdate) -> datetime | None:
        known = self._known.get(entry.target)
        return None if known is None or known.is_retired else known.last_good_at


def _new_target_row(entry: TargetUpdate) -> Row:
    observed_at = entry.moment if entry.is_observed else None
    return {
        "region_id": entry.target.region_id,
        "instance_type": entry.target.instance_type,
        "base_os_tag": entry.target.base_os_tag,
        "first_observed_at": observed_at,
        "observed_at": observed_at,
        "asked_at": observed_at and (entry.asked_at or observed_at),
        "retired_at": OPEN,
        "image_digest": entry.image_digest or NO_IMAGES,
    }


def _cause_of(failure: Failure) -> Row:
    return {
        "error_code": failure.code[:CODE_LENGTH],
        "message": failure.message[:MESSAGE_LENGTH],
        "request_id": failure.request_id[:CODE_LENGTH],
    }
