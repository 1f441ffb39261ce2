"""The daemon's loop: when a run is due, what happens when it cannot be made, and when to give up on a tick.

The only file with APScheduler, which wakes the loop. All work is done in the loop's own thread, so that no two runs of
one process can overlap; the lease in the database sees to those of different processes.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from sync.backoff import Backoff
from sync.errors import (
    DatabaseError,
    LeaseLostError,
    LeaseTakenError,
    RunInterruptedError,
    RunNotDueError,
    SyncError,
)
from sync.inventory import Clock, RunStatus, utc_now
from sync.run import RunResult
from sync.ticks import Schedule, format_span

logger = logging.getLogger(__name__)

STEP_S = 1.0  # how often the loop looks up: what a signal waits for at most, and far below any watchdog
WATCH_S = 30  # how often channels that do not know all yet are told, and staleness is noticed
LEASE_POLL_S = 5  # how often one looks whether another's run has ended or died; its lease lasts 60 s
DATABASE_FIRST_S = 1  # a restarted server is back within seconds
DATABASE_LONGEST_S = 60
RETRY_FIRST_S = 30  # a run has itself tried every call for a minute before it failed
RETRY_LONGEST_S = 900
TICKS_COUNTED = 1000  # of those that were missed: after a year out of service nobody wants all of them counted
LATE_S = 60  # a run that begins later than this after its tick is called late in the log
CLOCK_STEP_S = 5  # a clock that moves by more than this against the machine's own count was set by somebody


@dataclass(slots=True)
class Control:
    """What the outside, and the alarm, ask of the loop."""

    stop: threading.Event = field(default_factory=threading.Event)
    """End as soon as possible; a run under way is interrupted."""
    reload: threading.Event = field(default_factory=threading.Event)
    """End after the run under way."""
    due: threading.Event = field(default_factory=threading.Event)
    """A tick has come, or may have been missed."""
    watch: threading.Event = field(default_factory=threading.Event)
    """Look whether the channels know all."""
    wake: threading.Event = field(default_factory=threading.Event)
    """One of the others was set: end the wait."""

    def note(self, event: threading.Event) -> None:
        """Set one of the events and wake the loop."""
        event.set()
        self.wake.set()

    @property
    def is_leaving(self) -> bool:
        """Return whether the loop is to end."""
        return self.stop.is_set() or self.reload.is_set()


class _Ticks(BaseTrigger):  # type: ignore[misc]
    """A schedule as APScheduler's trigger: the next tick, and a random moment on top."""

    def __init__(self, schedule: Schedule, jitter_s: float) -> None:
        self._schedule = schedule
        self._jitter_s = jitter_s

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return when to wake next; ticks that were missed are not made up for one by one."""
        tick = self._schedule.next_after(max(now, previous) if previous else now)
        return tick + timedelta(seconds=random.uniform(0, self._jitter_s))  # noqa: S311


class Alarm:
    """Notes every tick, up to ``jitter_s`` late, and every half minute that it is time to watch."""

    def __init__(self, schedule: Schedule, control: Control, jitter_s: float = 0) -> None:
        self._schedule = schedule
        self._control = control
        self._jitter_s = jitter_s
        self._scheduler: BackgroundScheduler | None = None

    def start(self) -> None:
        """Begin to set the events; what is due at this moment is not among them."""
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        scheduler = BackgroundScheduler(
            timezone=UTC, executors={"default": DebugExecutor()}, job_defaults=defaults, daemon=True
        )
        control = self._control
        scheduler.add_job(control.note, _Ticks(self._schedule, self._jitter_s), [control.due])
        scheduler.add_job(control.note, "interval", [control.watch], seconds=WATCH_S)
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """Set no more events."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def restart(self) -> None:
        """Count anew from the present: what was planned before the clock was set means nothing any more."""
        self.stop()
        self.start()


Job = Callable[[datetime, Callable[[datetime | None], None]], RunResult]
"""Makes the run of a tick if it is due; when it begins it calls the function with the last tick that was served."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who hears what the loop does."""

    on_alive: Callable[[], None] = lambda: None
    """Called at least every second while nothing hangs."""
    on_state: Callable[[str], None] = lambda _: None
    """Hears in one line what the loop does."""


class Loop:
    """Makes the run of every tick, late rather than never, and one run for ticks that were missed."""

    def __init__(
        self,
        schedule: Schedule,
        job: Job,
        tell: Callable[[], bool],
        *,
        control: Control,
        alarm: Alarm,
        hooks: Hooks,
        now: Clock = utc_now,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the loop.

        Args:
            schedule: when runs are due.
            job: makes one run; any exception of it is survived.
            tell: tells the channels what they do not know; called twice a minute.
            control: what the outside and the alarm ask.
            alarm: wakes the loop.
            hooks: who hears what the loop does.
            now: the time.
            elapsed_s: seconds of a clock that nobody sets.
        """
        self._schedule = schedule
        self._job = job
        self._tell = tell
        self._control = control
        self._alarm = alarm
        self._hooks = hooks
        self._now = now
        self._elapsed_s = elapsed_s
        self._offset_s = self._clock_offset_s()
        self._outage_since: float | None = None
        self._run_backoff = Backoff(RETRY_FIRST_S, RETRY_LONGEST_S)
        self._database_backoff = Backoff(DATABASE_FIRST_S, DATABASE_LONGEST_S)

    # --- the loop

    def serve(self) -> None:
        """Run until the outside asks to end; begins with the last tick if nobody has served it."""
        self._alarm.start()
        try:
            self._control.due.set()
            while not self._control.is_leaving:
                self.step()
                self._control.wake.wait(STEP_S)
                self._control.wake.clear()
        finally:
            self._alarm.stop()

    def step(self) -> None:
        """Do what is due; the body of the loop."""
        self._look_up()
        if self._control.due.is_set():
            self._serve_ticks()
            self._say_idle()

    def _look_up(self) -> None:
        """Do what is to be done every second, whatever else one waits for."""
        self._hooks.on_alive()
        self._notice_clock_step()
        if self._control.watch.is_set():
            self._control.watch.clear()
            self._watch()

    def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the next tick."""
        end = self._elapsed_s() + seconds
        while not self._control.is_leaving and not self._control.due.is_set() and (left := end - self._elapsed_s()) > 0:
            self._look_up()
            self._control.wake.wait(min(left, STEP_S))
            self._control.wake.clear()

    def _clock_offset_s(self) -> float:
        return self._now().timestamp() - self._elapsed_s()

    def _notice_clock_step(self) -> None:
        """Plan anew when somebody has set the machine's clock; it may wake us an hour late or a day early else."""
        offset_s = self._clock_offset_s()
        step_s = offset_s - self._offset_s
        self._offset_s = offset_s
        if abs(step_s) > CLOCK_STEP_S:
            way = "ahead" if step_s > 0 else "back"
            logger.warning("the clock was set %s by %s", way, format_span(timedelta(seconds=abs(step_s))))
            self._alarm.restart()
            self._control.due.set()

    # --- ticks

    def _serve_ticks(self) -> None:
        """Make the run of the last tick, again and again until it has one, there is a newer tick, or we are to end."""
        while not self._control.is_leaving:
            self._control.due.clear()
            tick = self._schedule.last_until(self._now())
            delay_s = self._attempt(tick)
            if delay_s is not None:
                self._pause(delay_s)
            elif self._schedule.last_until(self._now()) == tick:
                return

    def _attempt(self, tick: datetime) -> float | None:
        """Try to make the run of a tick; return after how many seconds to try again, None when it has one."""
        try:
            result = self._job(tick, lambda served: self._note_start(tick, served))
        except SyncError as error:
            return self._delay_after(error)
        except Exception:
            logger.exception("internal error, please report it; the daemon goes on")
            return self._retry_delay_s("internal error")
        self._note_database()
        if result.status is RunStatus.FAILED:
            # The log has the causes by region already.
            return self._retry_delay_s((result.error or "no target was observed").partition(": ")[0])
        self._run_backoff.reset()
        return None

    def _delay_after(self, error: SyncError) -> float | None:
        if isinstance(error, DatabaseError):
            return self._database_delay_s(error)
        self._note_database()
        match error:
            case RunNotDueError():
                self._run_backoff.reset()
                return None
            case RunInterruptedError():
                return None
            case LeaseTakenError():
                self._hooks.on_state(str(error).partition(";")[0])
                return LEASE_POLL_S
            case LeaseLostError():
                logger.warning("%s", error)
                return LEASE_POLL_S
        return self._retry_delay_s(str(error))

    def _note_start(self, tick: datetime, served: datetime | None) -> None:
        self._note_database()
        self._hooks.on_state(f"making the run of {_clock_text(tick)}")
        late = self._now() - tick
        if late.total_seconds() > LATE_S:
            logger.warning("the run of %s begins %s late", _clock_text(tick), format_span(late))
        if served is None or served >= tick:
            return
        between = takewhile(lambda entry: entry < tick, self._schedule.ticks_after(served))
        if count := sum(1 for _ in islice(between, TICKS_COUNTED)):
            number = f"{count} or more" if count == TICKS_COUNTED else str(count)
            ticks = "tick" if count == 1 else "ticks"
            logger.warning("%s %s since %s had no run; this one stands for all", number, ticks, _clock_text(served))

    def _retry_delay_s(self, reason: str) -> float:
        delay_s = self._run_backoff.next_s()
        until_tick_s = (self._schedule.next_after(self._now()) - self._now()).total_seconds()
        logger.warning("the run failed, trying again in %.0f s: %s", min(delay_s, until_tick_s), reason)
        self._hooks.on_state(f"the run failed, trying again: {reason}")
        return delay_s

    def _database_delay_s(self, error: DatabaseError) -> float:
        if self._outage_since is None:
            self._outage_since = self._elapsed_s()
            logger.warning("%s; trying again until it answers", error)
            self._hooks.on_state(f"waiting for the database: {error}")
        return self._database_backoff.next_s()

    def _note_database(self) -> None:
        """Say that the database is back, if it was away."""
        self._database_backoff.reset()
        if self._outage_since is not None:
            away = timedelta(seconds=self._elapsed_s() - self._outage_since)
            logger.warning("the database answers again after %s", format_span(away))
            self._outage_since = None

    def _watch(self) -> None:
        try:
            self._tell()
        except Exception:
            logger.exception("internal error, please report it; the daemon goes on")

    def _say_idle(self) -> None:
        if not self._control.is_leaving:
            self._hooks.on_state(f"waiting for {_clock_text(self._schedule.next_after(self._now()))}")


def _clock_text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
