"""One run as cron or the daemon makes it: the run, the dead man's switch around it, and telling people afterwards."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sync.config import Settings
from sync.ehpc.fetch import Client
from sync.errors import LeaseTakenError, RunInterruptedError, RunNotDueError, SyncError
from sync.inventory import Clock, RunStatus, utc_now
from sync.notify.ping import DeadMansSwitch, Signal
from sync.plan import Restriction
from sync.report import run_line
from sync.run import Progress, RunRequest, RunResult, run_once
from sync.store.database import Database
from sync.tell import Teller

logger = logging.getLogger(__name__)

WAIT_FOR_OTHER_S = 15  # how long a run's end waits for another process that is telling the channels


def scheduled_request(settings: Settings, trigger: str, now: datetime, *, only_if_due: bool = False) -> RunRequest:
    """Return the request for a run over everything: it serves the schedule's last tick."""
    tick = settings.due.last_until(now)
    return RunRequest(trigger, Restriction(), scheduled_at=tick, only_if_due=only_if_due)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all jobs of a process share."""

    settings: Settings
    database: Database
    teller: Teller
    now: Clock = utc_now


def make_job(
    workshop: Workshop,
    client: Client,
    request: RunRequest,
    *,
    interrupt: threading.Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_start: Callable[[], None] = lambda: None,
) -> RunResult:
    """Make a run, and let channels and the dead man's switch hear of it; neither of them can fail it.

    The switch hears of whole runs only, and only from the process that makes them.

    Raises:
        SyncError: as ``run_once`` does.
    """
    is_whole = request.restriction.covers_everything and not request.is_dry
    switch = DeadMansSwitch(workshop.settings.ping_url if is_whole else None)

    def start() -> None:
        on_start()
        switch.tell(Signal.START)

    verdict = "internal error; its log has the traceback"
    try:
        result = run_once(
            workshop.settings,
            workshop.database,
            client,
            request,
            interrupt=interrupt,
            on_progress=on_progress,
            on_start=start,
            now=workshop.now,
        )
        verdict = run_line(result) if result.status is RunStatus.FAILED else ""
    except (LeaseTakenError, RunNotDueError, RunInterruptedError):
        verdict = ""
        raise
    except SyncError as error:
        verdict = str(error)
        tell_quietly(workshop.teller)
        raise
    finally:
        if verdict:
            switch.tell(Signal.FAIL, verdict)
    if not request.is_dry:
        tell_quietly(workshop.teller)
    if not verdict:
        switch.tell(Signal.OK, run_line(result))
    return result


def tell_quietly(teller: Teller) -> bool:
    """Tell the channels what they do not know; return whether all know all. Failing to is a warning and no more."""
    try:
        return teller.tell(wait_s=WAIT_FOR_OTHER_S)
    except SyncError as error:
        logger.warning("the notification channels were not told yet: %s", error)
        return False
