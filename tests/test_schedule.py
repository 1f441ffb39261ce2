"""The daemon's loop, in a time that passes only where the loop waits."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sync.errors import (
    ConfigError,
    DatabaseError,
    LeaseLostError,
    LeaseTakenError,
    RunInterruptedError,
    RunNotDueError,
    SyncError,
)
from sync.inventory import Counts, RunStatus
from sync.run import RunResult
from sync.schedule import Alarm, Control, Hooks, Loop
from sync.ticks import parse_schedule

START = datetime(2026, 11, 23, 14, 10, tzinfo=UTC)
TICK = START - timedelta(minutes=10)

Outcome = RunStatus | Exception

STUCK_WAITS = 20_000  # no script takes so many: the loop goes round and round


class StuckError(BaseException):
    """The loop does not end; no Exception, which the loop would survive."""


class Time(threading.Event):
    """A clock, and an event whose waiting makes it go on; things happen at set moments."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.elapsed_s = 0.0
        self.waits = 0
        self.plans: list[tuple[float, Callable[[], object]]] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pass_by(timeout or 0)
        return True

    def pass_by(self, seconds: float) -> None:
        self.elapsed_s += seconds
        self.waits += 1
        if self.waits > STUCK_WAITS:
            raise StuckError
        self.now += timedelta(seconds=seconds)
        due = [plan for at_s, plan in self.plans if at_s <= self.elapsed_s]
        self.plans = [entry for entry in self.plans if entry[0] > self.elapsed_s]
        for plan in due:
            plan()


class Rig:
    """A loop with a scripted job: each run ends as the script says, and the last entry ends the loop."""

    def __init__(self, outcomes: list[Outcome], schedule: str = "*/30 * * * *", run_s: float = 0) -> None:
        self.time = Time()
        self.control = Control(wake=self.time)
        self.outcomes = outcomes
        self.run_s = run_s
        self.ticks: list[tuple[float, datetime]] = []
        self.states: list[str] = []
        self.alive_s: list[float] = []
        self.tellings = 0
        self.restarts = 0
        self.served: datetime | None = None
        parsed = parse_schedule(schedule, ZoneInfo("UTC"))
        self.loop = Loop(
            parsed,
            self.run,
            self.tell,
            control=self.control,
            alarm=self.alarm(Alarm(parsed, self.control)),
            hooks=Hooks(lambda: self.alive_s.append(self.time.elapsed_s), self.states.append),
            now=lambda: self.time.now,
            elapsed_s=lambda: self.time.elapsed_s,
        )

    def alarm(self, alarm: Alarm) -> Alarm:
        rig = self

        class Silent(Alarm):
            def start(self) -> None: ...

            def stop(self) -> None: ...

            def restart(self) -> None:
                rig.restarts += 1

        alarm.__class__ = Silent
        return alarm

    def run(self, tick: datetime, on_start: Callable[[datetime | None], None]) -> RunResult:
        self.ticks.append((self.time.elapsed_s, tick))
        if not self.outcomes:
            raise StuckError
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.control.stop.set()
        if not isinstance(outcome, (RunNotDueError, LeaseTakenError, DatabaseError)):
            on_start(self.served)
            self.served = tick
            self.time.pass_by(self.run_s)
        if isinstance(outcome, Exception):
            raise outcome
        return RunResult(1, outcome, self.time.now, self.time.now, Counts(), error="network.dns: no such host")

    def tell(self) -> bool:
        self.tellings += 1
        return True

    @property
    def moments(self) -> list[float]:
        return [elapsed_s for elapsed_s, _ in self.ticks]


def end_of(count: int, outcome: Outcome) -> list[Outcome]:
    return [outcome] * count + [RunStatus.OK]


def test_a_tick_that_nobody_served_is_served_at_the_start() -> None:
    rig = Rig([RunStatus.OK])
    rig.loop.serve()
    assert rig.ticks == [(0, TICK)]


def test_a_tick_that_was_served_is_left_alone_until_the_next() -> None:
    rig = Rig([RunNotDueError("served"), RunStatus.OK])
    rig.time.plans.append((1200, lambda: rig.control.note(rig.control.due)))
    rig.loop.serve()
    assert rig.ticks == [(0, TICK), (1200, TICK + timedelta(minutes=30))]


@pytest.mark.parametrize("status", [RunStatus.PARTIAL, RunStatus.HELD])
def test_a_run_with_failures_or_held_removals_has_served_its_tick(status: RunStatus) -> None:
    rig = Rig([status, RunStatus.OK])
    rig.time.plans.append((60, rig.control.stop.set))
    rig.loop.serve()
    assert rig.moments == [0]


def test_a_database_that_is_away_is_waited_for_with_growing_patience() -> None:
    rig = Rig(end_of(8, DatabaseError("it does not answer")))
    rig.loop.serve()
    assert rig.moments == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_an_outage_of_the_database_is_logged_once_with_its_end(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(end_of(5, DatabaseError("it does not answer")))
    rig.loop.serve()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line for line in lines if "database" in line or "answer" in line] == [
        "it does not answer; trying again until it answers",
        "the database answers again after 31 s",
    ]


@pytest.mark.parametrize(
    "failure",
    [RunStatus.FAILED, ConfigError("no credentials"), SyncError("no"), ValueError("a bug"), MemoryError()],
)
def test_a_run_that_fails_is_repeated_with_growing_patience(failure: Outcome) -> None:
    rig = Rig(end_of(4, failure), schedule="@daily")
    rig.loop.serve()
    assert rig.moments == [0, 30, 90, 210, 450]


def test_the_next_tick_ends_the_patience_with_a_failing_run() -> None:
    rig = Rig(end_of(7, RunStatus.FAILED), schedule="@daily")
    rig.time.plans.append((1000, lambda: rig.control.note(rig.control.due)))
    rig.loop.serve()
    assert rig.moments[5:7] == [930, 1000]


def test_a_crash_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([KeyError("a bug"), RunStatus.OK])
    rig.loop.serve()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "internal error" in record.getMessage()
    assert len(rig.ticks) == 2


def test_a_run_of_another_process_is_watched_until_it_ends_or_dies() -> None:
    rig = Rig([LeaseTakenError("host process 7 holds it; nothing was written"), LeaseTakenError("again"), RunStatus.OK])
    rig.loop.serve()
    assert rig.moments == [0, 5, 10]
    assert rig.states[0] == "host process 7 holds it"


def test_a_run_that_lost_its_lease_looks_whether_its_tick_is_served() -> None:
    rig = Rig([LeaseLostError("stalled"), RunNotDueError("served by another")])
    rig.loop.serve()
    assert rig.ticks == [(0, TICK), (5, TICK)]


def test_an_interrupted_run_ends_the_loop() -> None:
    rig = Rig([RunInterruptedError("asked to stop")])
    rig.loop.serve()
    assert len(rig.ticks) == 1


def test_ticks_that_pass_during_a_long_run_get_one_run_together(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([RunStatus.OK, RunStatus.OK], run_s=100 * 60)
    rig.loop.serve()
    assert [tick for _, tick in rig.ticks] == [TICK, TICK + timedelta(minutes=90)]
    assert "2 ticks since 2026-11-23 14:00:00 UTC had no run; this one stands for all" in caplog.messages


def test_a_late_run_says_so(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([RunStatus.OK])
    rig.loop.serve()
    assert "the run of 2026-11-23 14:00:00 UTC begins 10 min late" in caplog.messages


def test_a_reload_ends_the_loop_after_the_run() -> None:
    rig = Rig([RunStatus.OK, RunStatus.OK])
    rig.control.reload.set()
    rig.loop.serve()
    assert rig.ticks == []


@pytest.mark.parametrize("wait", ["stop", "reload"])
def test_no_wait_outlasts_what_ends_the_loop(wait: str) -> None:
    rig = Rig(end_of(20, RunStatus.FAILED), schedule="@daily")
    rig.time.plans.append((500, getattr(rig.control, wait).set))
    rig.loop.serve()
    assert rig.time.elapsed_s <= 501


@pytest.mark.parametrize("hours", [-24, 5])
def test_a_clock_that_is_set_makes_the_alarm_count_anew(hours: int, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([RunStatus.OK, RunStatus.OK])

    def set_clock() -> None:
        rig.time.now += timedelta(hours=hours)

    rig.time.plans.append((60, set_clock))
    rig.loop.serve()
    assert rig.restarts == 1
    assert rig.ticks[1][0] <= 62
    assert rig.ticks[1][1] == TICK + timedelta(hours=hours)
    assert any("the clock was set" in message for message in caplog.messages)


def test_signs_of_life_go_on_while_something_is_waited_for() -> None:
    rig = Rig(end_of(6, RunStatus.FAILED), schedule="@daily")
    rig.loop.serve()
    pauses = [later - earlier for earlier, later in zip(rig.alive_s, rig.alive_s[1:], strict=False)]
    assert max(pauses) <= 1


def test_channels_are_told_while_something_is_waited_for() -> None:
    rig = Rig(end_of(6, DatabaseError("away")), schedule="@daily")
    rig.time.plans.append((20, rig.control.watch.set))
    rig.loop.serve()
    assert rig.tellings == 1


def test_a_failure_to_tell_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([RunStatus.OK, RunStatus.OK])
    rig.loop._tell = lambda: 1 / 0 > 1
    rig.time.plans += [(10, rig.control.watch.set), (20, lambda: rig.control.note(rig.control.due))]
    rig.time.plans.append((30, rig.control.stop.set))
    rig.loop.serve()
    assert any(record.exc_info for record in caplog.records)
    assert len(rig.ticks) == 2


def test_it_says_what_it_waits_for() -> None:
    rig = Rig([RunStatus.OK, RunStatus.OK])
    rig.time.plans.append((10, rig.control.stop.set))
    rig.loop.serve()
    assert rig.states == ["making the run of 2026-11-23 14:00:00 UTC", "waiting for 2026-11-23 14:30:00 UTC"]


def test_the_alarm_rings_at_every_tick() -> None:
    control = Control()
    alarm = Alarm(parse_schedule("every 1s", ZoneInfo("UTC")), control)
    alarm.start()
    try:
        for _ in range(2):
            assert control.due.wait(5)
            control.due.clear()
        alarm.restart()
        assert control.due.wait(5)
    finally:
        alarm.stop()


def test_after_a_year_out_of_service_not_every_tick_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig([RunStatus.OK])
    rig.served = TICK - timedelta(days=365)
    rig.loop.serve()
    assert any(message.startswith("1000 or more ticks since 2025-11-23") for message in caplog.messages)
