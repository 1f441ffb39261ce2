"""The units: systemd takes them as they are, they lock the program in, and the timer fires on the schedule's ticks."""

import re
import sysconfig
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sync.config import KEYS
from sync.errors import ExitCode
from sync.ticks import parse_schedule
from tests.deploy.sources import DEPLOY, PROGRAM, told_by, tool

FOLDER = DEPLOY / "systemd"
DAEMON, RUN, TIMER = FOLDER / f"{PROGRAM}.service", FOLDER / f"{PROGRAM}-run.service", FOLDER / f"{PROGRAM}-run.timer"
INSTALLED = f"/opt/{PROGRAM}/bin/{PROGRAM}"

EXPOSURE = 20
"""The most of systemd's exposure that a service may have, in tenths; without any protection it is 96."""

ENDING_S = 10  # what the daemon promises to end within


def settings_of(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit; one that stands several times has several values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    program = Path(sysconfig.get_path("scripts")) / PROGRAM
    for unit in (DAEMON, RUN, TIMER):
        (tmp_path / unit.name).write_text(unit.read_text("utf-8").replace(INSTALLED, str(program)))
    told = told_by(analyze, "verify", "--man=no", *(tmp_path / unit.name for unit in (DAEMON, RUN, TIMER)))
    assert [line for line in told.splitlines() if str(tmp_path) in line or PROGRAM in line] == []


@pytest.mark.parametrize("unit", [DAEMON, RUN], ids=lambda unit: unit.name)
def test_a_service_is_locked_in(unit: Path) -> None:
    analyze = tool("systemd-analyze")
    told = told_by(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", told)
    assert exposure
    assert float(exposure[1]) * 10 <= EXPOSURE


def test_both_services_run_the_program_that_readme_installs() -> None:
    assert settings_of(DAEMON)["ExecStart"] == [f"{INSTALLED} daemon"]
    assert settings_of(RUN)["ExecStart"] == [f"{INSTALLED} run --if-due"]


def test_both_services_have_the_same_user_folders_and_protection() -> None:
    texts = [unit.read_text("utf-8") for unit in (DAEMON, RUN)]
    shared = [text.partition("# One name for both units")[2].partition("[Install]")[0].strip() for text in texts]
    assert len(shared[0].splitlines()) > 30
    assert shared[0] == shared[1]


def test_the_daemon_is_watched_and_started_again_for_ever() -> None:
    settings = settings_of(DAEMON)
    assert (settings["Type"], settings["WatchdogSec"], settings["Restart"]) == (["notify"], ["300"], ["always"])
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert ENDING_S < int(settings["TimeoutStopSec"][0]) <= 2 * ENDING_S


def test_another_run_under_way_is_a_success_and_a_partial_run_is_not() -> None:
    codes = {int(code) for value in settings_of(RUN)["SuccessExitStatus"] for code in value.split()}
    assert codes == {ExitCode.LEASE_TAKEN}


def test_the_timer_fires_on_the_ticks_of_the_default_schedule() -> None:
    (calendar,) = settings_of(TIMER)["OnCalendar"]
    told = told_by(
        tool("systemd-analyze"), "calendar", "--iterations=4", "--base-time=2026-11-23 10:05:00 UTC", calendar
    )
    fired = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$", told, re.MULTILINE)
    schedule = parse_schedule(KEYS["schedule"].default, ZoneInfo(KEYS["timezone"].default))
    ticks = islice(schedule.ticks_after(datetime(2026, 11, 23, 10, 5, tzinfo=UTC)), 4)
    assert sorted(set(fired)) == [f"{tick:%Y-%m-%d %H:%M:%S}" for tick in ticks]


def test_a_delayed_timer_still_serves_the_tick_that_it_fired_for() -> None:
    settings = settings_of(TIMER)
    schedule = parse_schedule(KEYS["schedule"].default, ZoneInfo("UTC"))
    interval = schedule.longest_interval(datetime(2026, 11, 23, tzinfo=UTC))
    assert settings["Persistent"] == ["true"]
    assert 0 < int(settings["RandomizedDelaySec"][0]) < interval.total_seconds()
