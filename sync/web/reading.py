"""What the database says at the moment, asked in the background: no request waits long for a database that is away."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sync.errors import SchemaVersionError, SyncError
from sync.health import Health, find_health
from sync.logs import redact
from sync.store.condition import count_changes_after, count_open_intervals
from sync.store.database import Database, require_history, schema_revision
from sync.store.history import find_last_change_id
from sync.store.runs import list_runs
from sync.web.flight import Flight
from sync.web.source import Source

ANSWER_S = 5  # half of what Prometheus waits for a scrape; a database that answers later is of no use to a run either

COUNT_S = 2  # for counting millions of intervals, after a run; a scrape that cannot wait longer gives the older count

OUTAGE_REMEMBERED = timedelta(seconds=5)  # a host without an answer would cost every request a timeout

RunMark = tuple[int, datetime | None]
"""A run's id and when it ended: while the newest run's stays the same, no interval was opened or closed by one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database said at one moment."""

    read_at: datetime
    is_database_up: bool
    problem: str = ""
    """Why there is no health: one sentence without secrets."""
    health: Health | None = None
    failing_counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Targets that are not observed at the moment, by region and error code."""
    change_counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Changes since this process first read the database, by region and kind."""
    newest_run: RunMark | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the data cannot be relied upon, one sentence each; nothing where they can."""
        if self.health is None:
            return (self.problem,)
        return tuple(redact(reason) for reason in self.health.outage)


class Readings:
    """Reads the database for pages and metrics; requests that come together share one reading. Thread-safe."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._flight = Flight("web-reading", self._read)
        self._outage: Reading | None = None
        # What follows is touched by the reading thread alone, of which there is one at a time.
        self._newest_change: int | None = None
        self._change_counts: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """Begin to read: changes are counted from here on."""
        self._flight.begin()

    def latest(self) -> Reading:
        """Return what the database says now, within ``ANSWER_S``; an outage is remembered for some seconds."""
        now = self._source.now()
        outage = self._outage
        if outage and timedelta(0) <= now - outage.read_at < OUTAGE_REMEMBERED:
            return outage
        try:
            return self._flight.result(ANSWER_S)
        except TimeoutError:
            label = self._source.database.label
            problem = f"the database {label} has not answered for {ANSWER_S} s; check its server and the way to it"
            return Reading(now, is_database_up=False, problem=problem)

    def _read(self) -> Reading:
        now = self._source.now()
        try:
            self._note_empty_history()
            require_history(self._source.database)
            with self._source.database.reading() as connection:
                return self._read_history(connection, now)
        except SchemaVersionError as error:  # it answers, but there is nothing in it that could be read
            return Reading(now, is_database_up=True, problem=redact(str(error)))
        except SyncError as error:
            self._outage = Reading(now, is_database_up=False, problem=redact(str(error)))
            return self._outage

    def _note_empty_history(self) -> None:
        """Count every change of a history that begins while this process looks on."""
        if self._newest_change is None:
            database = self._source.database
            if database.is_missing_file:
                self._newest_change = 0
                return
            with database.reading() as connection:
                if schema_revision(connection) is None:
                    self._newest_change = 0

    def _read_history(self, connection: Connection, now: datetime) -> Reading:
        health = find_health(connection, self._source.settings, now)
        if self._newest_change is None:
            self._newest_change = find_last_change_id(connection)
        self._newest_change, counts = count_changes_after(connection, self._newest_change)
        self._change_counts.update(counts)
        return Reading(
            now,
            is_database_up=True,
            health=health,
            failing_counts={(entry.region_id, entry.code): entry.target_count for entry in health.failing},
            change_counts=dict(self._change_counts),
            newest_run=_newest_run(connection),
        )


class IntervalCounts:
    """How many images are available, counted again only when a run has begun or ended. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flight = Flight("web-counting", self._count)
        self._counted: tuple[RunMark | None, Mapping[str, int]] | None = None

    def at(self, newest_run: RunMark | None) -> Mapping[str, int] | None:
        """Return the pairs of target and image by region; an older count, or None, while counting takes its time."""
        if self._counted is None or self._counted[0] != newest_run:
            # Whether the database is away is the reading's to say; here the older count is still the best.
            with contextlib.suppress(TimeoutError, SyncError):
                self._flight.result(COUNT_S)
        return self._counted[1] if self._counted else None

    def _count(self) -> None:
        with self._database.reading() as connection:
            mark = _newest_run(connection)
            self._counted = mark, count_open_intervals(connection)


def _newest_run(connection: Connection) -> RunMark | None:
    rows = list_runs(connection, 1)
    return (rows[0]["run_id"], rows[0]["finished_at"]) if rows else None
