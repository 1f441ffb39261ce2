"""One run, start to end: taking the lease, and what may begin at all; its course stands in ``course``.

Lease → plan → fetch → diff → record, with one thread that writes and many that wait for the API. No transaction is
open while a request is out, and one failing target or region never stops the others.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from sync.config import Settings
from sync.ehpc.fetch import Client
from sync.errors import ConfigError, DatabaseError, LeaseTakenError, RunNotDueError
from sync.inventory import Clock, HistoryClock, utc_now
from sync.run.course import Course, rules_of
from sync.run.outcome import Progress, RunRequest, RunResult
from sync.store.database import Database, head_revision, require_history, schema_revision
from sync.store.known import find_latest_moment, find_run_of_tick
from sync.store.lease import Lease, find_holder, taken_sentence
from sync.store.statistics import LARGE_WRITE, refresh_statistics

__all__ = [
    "Progress",
    "RunRequest",
    "RunResult",
    "check_regions",
    "check_turn",
    "refresh_after",
    "rules_of",
    "run_once",
]

logger = logging.getLogger(__name__)


def check_regions(settings: Settings) -> None:
    """Check that the configuration names regions.

    Raises:
        ConfigError: it names none.
    """
    if not settings.regions:
        raise ConfigError(
            "no regions are configured; set regions in ehpc-image-sync.toml or EHPC_SYNC_REGIONS, "
            'for example regions = ["cn-hangzhou"], or regions = "all" for every region of E-HPC'
        )


def check_turn(database: Database, request: RunRequest) -> None:
    """Check by reading only whether a run could begin: cheap enough to be asked again and again.

    Raises:
        RunNotDueError: the request asks only for a due run, and the tick has one.
        LeaseTakenError: another run is under way.
    """
    if database.is_missing_file:
        return
    with database.reading() as connection:
        if schema_revision(connection) != head_revision():
            return  # taking the lease makes or migrates the tables
        if request.only_if_due and request.scheduled_at:
            _require_due(connection, request.scheduled_at)
        holder = find_holder(connection)
    if holder:
        raise LeaseTakenError(taken_sentence(holder))


def run_once(
    settings: Settings,
    database: Database,
    client: Client,
    request: RunRequest,
    *,
    interrupt: threading.Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_start: Callable[[], None] = lambda: None,
    now: Clock = utc_now,
) -> RunResult:
    """Make one run and return how it ended; a run with failed targets is a result, not an error.

    ``on_start`` is called when the run has the lease and is about to begin.

    Raises:
        ConfigError: the configuration asks for nothing that exists; nothing was written but the run's row.
        LeaseTakenError: another run is under way; nothing was written.
        RunNotDueError: the request asks only for a due run, and the tick has one; nothing was written.
        DatabaseError: the database did not take the result; whole targets only are written.
        RunInterruptedError: ``interrupt`` was set; whole targets only are written.
    """
    check_regions(settings)
    if request.is_dry:
        return _dry_run(settings, database, client, request, interrupt, on_progress, now)
    lease = Lease(database)
    lease.acquire()
    try:
        with database.reading() as connection:
            if request.only_if_due and request.scheduled_at:
                _require_due(connection, request.scheduled_at)
            clock = HistoryClock(find_latest_moment(connection), now)
        _warn_of_lag(clock)
        on_start()
        run = Course(settings, database, client, request, interrupt, on_progress, clock)
        result = run.record(lease)
    finally:
        _release(lease)
    refresh_after(database, result, LARGE_WRITE)
    return result


def refresh_after(database: Database, result: RunResult, large_write: int) -> None:
    """Refresh the planner's statistics after a run that opened or closed at least ``large_write`` intervals."""
    counts = result.counts
    written = result.baseline_count + counts.images_added + counts.images_removed + 2 * counts.images_changed
    if written >= large_write:
        refresh_statistics(database)


def _require_due(connection: Connection, scheduled_at: datetime) -> None:
    """Check under the lease that nobody has served the tick; runs that failed or were interrupted have not."""
    served = find_run_of_tick(connection, scheduled_at)
    if served is not None:
        raise RunNotDueError(f"run {served} has served the tick of {scheduled_at:%Y-%m-%d %H:%M:%S} UTC; none is due")


def _dry_run(
    settings: Settings,
    database: Database,
    client: Client,
    request: RunRequest,
    interrupt: threading.Event,
    on_progress: Callable[[Progress], None],
    now: Clock,
) -> RunResult:
    latest = None
    has_history = not database.is_missing_file
    if has_history:
        with database.reading() as connection:
            has_history = schema_revision(connection) is not None
    if has_history:
        require_history(database)
        with database.reading() as connection:
            latest = find_latest_moment(connection)
    clock = HistoryClock(latest, now)
    run = Course(settings, database if has_history else None, client, request, interrupt, on_progress, clock)
    return run.rehearse()


def _warn_of_lag(clock: HistoryClock) -> None:
    lag_s = clock.lag.total_seconds()
    if lag_s > 1:
        logger.warning(
            "this machine's clock is %.0f s behind the newest record; times continue after that record", lag_s
        )


def _release(lease: Lease) -> None:
    try:
        lease.release()
    except DatabaseError as error:
        logger.warning("the lease could not be given back, it ends by itself within %d s: %s", lease.duration_s, error)
