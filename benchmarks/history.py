"""Writes a made-up history by the fast path of each database: ``python -m benchmarks.history`` leaves it there.

The tables are made by the program's migrations. Keys are checked by nobody during the load, and the secondary indexes
of the large tables are made at its end: 10 million intervals take minutes instead of hours.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table

from benchmarks.invention import Change, History, Offer, Region, Scale, changes_since
from benchmarks.servers import DEFAULT_SERVERS, create_lasting_database, lasting_url
from sync.inventory import IMAGE_FIELDS, OPEN, digest_of
from sync.store.database import Database, schema_revision
from sync.store.lease import Lease
from sync.store.schema import (
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
from sync.store.statistics import refresh_statistics
from sync.store.types import to_text

CHANGES_DAYS = 90  # 2 million changes; those of two years are 16 million rows with three indexes
BATCH_ROWS = 10_000  # rows of one multi-row INSERT: below 1 MB
UNTIL_OPEN = to_text(OPEN)

Row = tuple[Any, ...]


class Rows:
    """The rows of all tables, in the order of their primary keys."""

    def __init__(self, history: History) -> None:
        self._history = history
        scale = history.scale
        # Every time of a run is its minute and the seconds at which something happened in it.
        self._minutes = [to_text(history.started_at(number))[:-6] for number in range(scale.run_count)]

    def images(self) -> Iterator[Row]:
        """Yield the rows of ``image``."""
        first_run: dict[int, int] = {}
        for region in self._history.regions:
            for images in {id(offer.images): offer.images for offer in region.offers}.values():
                for _, key, since in images.spans:
                    first_run[key] = min(since, first_run.get(key, since))
        for key, entry in sorted(self._history.images.items()):
            values = (getattr(entry, name) for name in IMAGE_FIELDS)
            yield key, entry.fingerprint.hex(), *values, self._at(first_run[key], 1000)

    def runs(self) -> Iterator[Row]:
        """Yield the rows of ``run``."""
        for number in range(self._history.scale.run_count):
            counts = [
                sum(values) for values in zip(*(_counts(part, number) for part in self._history.regions), strict=True)
            ]
            started_at = self._at(number, 0)
            yield (
                number + 1,
                started_at,
                self._at(number, 58_000),
                _status(counts),
                "schedule",
                *counts,
                None,
                started_at,
            )

    def region_runs(self) -> Iterator[Row]:
        """Yield the rows of ``region_run``."""
        for number in range(self._history.scale.run_count):
            for region in sorted(self._history.regions, key=_region_id):
                counts = _counts(region, number)
                listed = counts[0] + counts[1]
                ended = (self._at(number, 55_000), _status(counts), True, listed)
                yield number + 1, region.region_id, self._asked_at(number), *ended, *counts, None

    def targets(self) -> Iterator[Row]:
        """Yield the rows of ``target``."""
        for offer in self._offers():
            place = (offer.id, offer.region_id, offer.instance_type, "")
            written = self._last_written(offer)
            times = (self._seen(offer, offer.first_run), self._seen(offer, written), self._asked_at(written))
            keys = [key for until, key, _ in offer.spans if until == self._history.scale.never]
            digest = digest_of(self._history.images[key] for key in keys)
            yield *place, *times, self._seen(offer, offer.retired_run), digest

    def listed_types(self) -> Iterator[Row]:
        """Yield the rows of ``listed_type``."""
        for offer in self._offers():
            if offer.retired_run == self._history.scale.never:
                yield offer.region_id, offer.instance_type, self._asked_at(offer.first_run), None

    def intervals(self, region: Region) -> Iterator[Row]:
        """Yield the rows of ``availability`` of a region."""
        for offer in region.offers:
            seconds = _seconds(offer)
            minutes = self._minutes
            never = self._history.scale.never
            for until, key, since in offer.spans:
                ended = UNTIL_OPEN if until == never else minutes[until] + seconds
                yield offer.id, ended, key, minutes[since] + seconds

    def gaps(self) -> Iterator[Row]:
        """Yield the rows of ``coverage_gap``."""
        for offer in self._offers():
            for gap in offer.gaps:
                times = (self._seen(offer, gap.until_run), self._seen(offer, gap.after_run))
                yield offer.id, *times, "network.timeout", "no answer within 30 s", "", gap.after_run + 2

    def held(self) -> Iterator[Row]:
        """Yield the rows of ``held_removal``."""
        last = self._history.scale.run_count - 1
        for offer in self._offers():
            for key in sorted(offer.held):
                missed_at = self._seen(offer, last)
                yield offer.id, key, missed_at, missed_at, self._asked_at(last - 1), 1, 2

    def changes(self, days: float) -> Iterator[Row]:
        """Yield the rows of ``change`` of the last days, in the order of writing."""
        scale = self._history.scale
        first_run = max(0, scale.run_count - int(days * 24 / scale.hours_between_runs))
        found = [entry for region in self._history.regions for entry in changes_since(self._history, region, first_run)]
        found.sort(key=_run_of)
        for number, entry in enumerate(found, 1):
            yield number, *self._change(entry)

    def _change(self, entry: Change) -> Row:
        is_gone = entry.kind in {"removed", "type_retired"}
        last_seen_at = self._asked_at(entry.run - 1) if is_gone else None
        detected_at = self._seen(entry.offer, entry.run)
        what = (entry.run + 1, entry.offer.id, entry.image_key, None, entry.kind)
        return *what, detected_at, last_seen_at, self._at(entry.run, 54_000)

    def _offers(self) -> Iterator[Offer]:
        for region in self._history.regions:
            yield from region.offers

    def _at(self, number: int, milliseconds: int) -> str:
        return f"{self._minutes[number]}{milliseconds / 1000:06.3f}"

    def _asked_at(self, number: int) -> str:
        """Return when a run began to ask a region."""
        return self._minutes[number] + "00.200"

    def _seen(self, offer: Offer, number: int) -> str:
        """Return when a run observed a target."""
        return UNTIL_OPEN if number == self._history.scale.never else self._minutes[number] + _seconds(offer)

    def _last_written(self, offer: Offer) -> int:
        """Return the last run that had something to write about a target it observed."""
        if offer.retired_run != self._history.scale.never:
            return offer.retired_run - 1
        if offer.held:
            return self._history.scale.run_count - 1
        ended = [gap.until_run for gap in offer.gaps if gap.until_run != self._history.scale.never]
        return max([offer.first_run, *(number for number, _ in offer.events), *ended])


def _seconds(offer: Offer) -> str:
    """Return the seconds of a run's minute at which a target is observed: between 1 and 51."""
    return f"{1 + offer.id % 1000 / 20:06.3f}"


def _region_id(region: Region) -> str:
    return region.region_id


def _run_of(entry: Change) -> int:
    return entry.run


def _counts(region: Region, number: int) -> tuple[int, ...]:
    """Return targets_ok, targets_failed, images added, removed and changed, removals held."""
    failed, replaced = region.failed[number], region.replaced[number]
    return region.targets[number] - failed, failed, replaced, replaced, 0, region.held[number]


def _status(counts: Sequence[int]) -> str:
    return "held" if counts[5] else "partial" if counts[1] else "ok"


# --- fast paths


def _insert_sqlite(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    marks = ", ".join("?" * len(table.columns))
    cursor: Any = connection.connection.cursor()
    cursor.executemany(f"INSERT INTO {_columns(connection, table)} VALUES ({marks})", rows)


def _copy_postgresql(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {_columns(connection, table)} FROM STDIN") as copy:
        for batch in _batches_of(rows):
            copy.write("".join(["\t".join(map(_field, row)) + "\n" for row in batch]))


def _insert_mariadb(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    cursor: Any = connection.connection.cursor()
    for batch in _batches_of(rows):
        values = ",".join([f"({','.join(map(_literal, row))})" for row in batch])
        cursor.execute(f"INSERT INTO {_columns(connection, table)} VALUES {values}")


def _columns(connection: Connection, table: Table) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(table.name)} ({', '.join(quote(column.name) for column in table.columns)})"


def _batches_of(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH_ROWS)):
        yield batch


def _field(value: object) -> str:
    return r"\N" if value is None else str(value)


def _literal(value: object) -> str:
    """Return a value for a statement; the texts are ours and hold nothing that needs escaping."""
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


INSERT: dict[str, Callable[[Connection, Table, Iterable[Row]], None]] = {
    "sqlite": _insert_sqlite,
    "postgresql": _copy_postgresql,
    "mysql": _insert_mariadb,
}
BEFORE = {
    "sqlite": (),
    "postgresql": ("SET LOCAL session_replication_role = replica",),
    "mysql": ("SET foreign_key_checks=0, unique_checks=0",),
}
AFTER = {"sqlite": (), "postgresql": (), "mysql": ("SET foreign_key_checks=1, unique_checks=1",)}


@contextmanager
def _unchecked(database: Database) -> Iterator[Connection]:
    """Give a transaction in which keys are not checked where that can be switched off."""
    with database.writing() as connection:
        for statement in BEFORE[database.dialect_name]:
            connection.exec_driver_sql(statement)
        yield connection
        for statement in AFTER[database.dialect_name]:
            connection.exec_driver_sql(statement)


@contextmanager
def _without_indexes(database: Database, table: Table) -> Iterator[None]:
    """Do without the secondary indexes of a table for a while."""
    with _unchecked(database) as connection:
        for index in table.indexes:
            index.drop(connection)
    yield
    with _unchecked(database) as connection:
        for index in table.indexes:
            index.create(connection)


def insert(database: Database, table: Table, rows: Iterable[Row]) -> None:
    """Insert rows of all columns in one transaction."""
    with _unchecked(database) as connection:
        INSERT[database.dialect_name](connection, table, rows)


def load(database: Database, history: History, changes_days: float, say: Callable[[str], None]) -> None:
    """Write a history into an empty database, and gather its statistics."""
    lease = Lease(database)
    lease.acquire()
    rows = Rows(history)
    small = {
        image: rows.images(),
        run: rows.runs(),
        region_run: rows.region_runs(),
        target: rows.targets(),
        listed_type: sorted(rows.listed_types()),
        coverage_gap: rows.gaps(),
        held_removal: rows.held(),
    }
    for table, values in small.items():
        insert(database, table, values)
        say(table.name)
    with _without_indexes(database, availability):
        for region in history.regions:
            insert(database, availability, rows.intervals(region))
            say(f"availability of {region.region_id}")
    say("the index of availability")
    with _without_indexes(database, change):
        insert(database, change, rows.changes(changes_days))
    say("change")
    refresh_statistics(database)
    lease.release()
    say("statistics")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "databases",
        nargs="*",
        metavar="DATABASE",
        default=list(DEFAULT_SERVERS),
        help=f"{', '.join(DEFAULT_SERVERS)}: made anew; or the URL of an empty one",
    )
    parser.add_argument("--with-changes", action="store_true", help=f"of all time, not of the last {CHANGES_DAYS} days")
    for entry in fields(Scale):
        if entry.name != "end":
            kind = float if entry.name == "hours_between_runs" else int
            parser.add_argument(f"--{entry.name.replace('_', '-')}", type=kind, default=entry.default)
    return parser.parse_args()


def load_named(name: str, scale: Scale, changes_days: float = CHANGES_DAYS) -> str:
    """Load ``sqlite``, ``postgresql`` or ``mariadb`` anew, or the empty database of a URL; return its URL.

    Raises:
        SystemExit: the database of the URL has a history, which might be a real one.
    """
    begun = time.perf_counter()

    def say(done: str) -> None:
        print(f"{time.perf_counter() - begun:7.1f} s  {done}", file=sys.stderr)

    if name in DEFAULT_SERVERS:
        create_lasting_database(name)
    url = lasting_url(name) if name in DEFAULT_SERVERS else name
    database = Database(url)
    with database.reading() as connection:
        if schema_revision(connection) is not None:
            raise SystemExit(f"{database.label} has a history; name an empty database, or {', '.join(DEFAULT_SERVERS)}")
    load(database, History(scale), changes_days, say)
    database.close()
    return url


def main() -> None:
    """Load the databases named on the command line."""
    options = vars(_arguments())
    names, with_changes = options.pop("databases"), options.pop("with_changes")
    scale = Scale(**options)
    for name in names:
        print(load_named(name, scale, scale.days if with_changes else CHANGES_DAYS))


if __name__ == "__main__":
    main()
