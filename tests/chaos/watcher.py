"""Notes from outside, by the true clock, when each run came and went; in plain SQL, without the program's own reads."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine, exc, text

from tests.chaos.server import engine_of

POLL_S = 0.05
FINISHED_BACK = 20  # runs so far back change no more; reading all of them each time would slow a long chaos down
OWNER = re.compile(r" process (\d+) ")
COMPLETE = frozenset({"ok", "partial", "held"})


@dataclass(frozen=True, slots=True)
class Sighting:
    """One run: what its row says, and between which moments of the true clock it appeared and was finished."""

    run_id: int
    trigger: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    scheduled_at: datetime | None
    error: str | None
    unseen_until: datetime
    """Its row did not exist at this moment, so all its calls came later."""
    seen_from: datetime
    unfinished_until: datetime
    finished_by: datetime | None = None
    """It was closed at this moment, so all its calls came earlier."""

    @property
    def serves_tick(self) -> bool:
        """Return whether it counts as the run of its tick: failed and interrupted ones may be made again."""
        return self.status in COMPLETE and self.trigger != "accept-removals"

    @property
    def is_clean(self) -> bool:
        """Return whether it asked everything and everything was answered."""
        return self.serves_tick and self.status != "partial" and self.error is None


def moment_of(value: Any) -> Any:
    """Return a database's time as an aware UTC time; None stays."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Watcher:
    """Polls the runs' rows; a database that is away makes its notes wider, never wrong."""

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)
        self._lock = threading.Lock()
        self._sightings: dict[int, Sighting] = {}
        self._polled_at = datetime.now(UTC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    @property
    def engine(self) -> Engine:
        """Return connections to the database."""
        return self._engine

    @property
    def sightings(self) -> list[Sighting]:
        """Return all runs in the order of their ids."""
        with self._lock:
            return [self._sightings[key] for key in sorted(self._sightings)]

    def rows(self, statement: str) -> list[Mapping[str, Any]]:
        """Return the rows of a statement."""
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement)).mappings()]

    def holder(self) -> int | None:
        """Return the process id of whoever holds the lease of runs; None where nobody does or it cannot be read."""
        try:
            rows = self.rows("SELECT owner FROM lease WHERE name = 'run'")
        except exc.DBAPIError:
            return None
        match = OWNER.search(rows[0]["owner"] or "") if rows else None
        return int(match[1]) if match else None

    def poll(self) -> None:
        """Note what has changed since the last time."""
        before = datetime.now(UTC)
        try:
            latest = max(self._sightings, default=0) - FINISHED_BACK
            runs = self.rows(f"SELECT * FROM sync_runs WHERE run_id > {latest}")
            ticks = self.rows(f"SELECT id, scheduled_at FROM run WHERE id > {latest}")
        except exc.DBAPIError:
            return
        after = datetime.now(UTC)
        scheduled_at = {row["id"]: moment_of(row["scheduled_at"]) for row in ticks}
        with self._lock:
            for row in runs:
                self._note(row, scheduled_at.get(row["run_id"]), before, after)
            self._polled_at = before

    def _note(self, row: Mapping[str, Any], scheduled_at: datetime | None, before: datetime, after: datetime) -> None:
        known = self._sightings.get(row["run_id"])
        finished_at = moment_of(row["finished_at"])
        if known is None:
            known = Sighting(
                row["run_id"],
                row["trigger"],
                row["status"],
                moment_of(row["started_at"]),
                finished_at,
                scheduled_at,
                row["error"],
                self._polled_at,
                after,
                self._polled_at,
            )
        if known.finished_by is None:
            ended = after if finished_at else None
            seen = replace(known, status=row["status"], finished_at=finished_at, error=row["error"], finished_by=ended)
            known = seen if ended else replace(seen, unfinished_until=before)
        self._sightings[row["run_id"]] = known

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self.poll()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._engine.dispose()
