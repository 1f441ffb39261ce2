"""Several daemons and cron jobs on one database: one run per tick, whoever dies or hangs."""

import re
import signal
import time

import pytest

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from tests.chaos.fast import LEASE_S
from tests.cli.program import ask_process
from tests.daemon.process import DaemonProcess, Station, awaited

SLOW = "delay=20s action=ListImages region=cn-hangzhou"


def runs_per_tick(station: Station) -> dict[object, int]:
    """Return how many runs have served each tick."""
    rows = station.ask("SELECT scheduled_at, COUNT(*) FROM run WHERE status = 'ok' GROUP BY scheduled_at")
    return {row[0]: row[1] for row in rows}


def active_of(station: Station, daemons: list[DaemonProcess]) -> DaemonProcess:
    """Return the daemon that makes the run, as the lease says."""
    awaited(lambda: station.ask("SELECT owner FROM lease WHERE name = 'run' AND owner IS NOT NULL"))
    ((owner,),) = station.ask("SELECT owner FROM lease WHERE name = 'run'")
    found = re.search(r"process (\d+)", owner)
    assert found
    (active,) = [daemon for daemon in daemons if daemon.process.pid == int(found[1])]
    return active


def test_three_daemons_and_cron_make_one_run_per_tick(shared_station: Station) -> None:
    station = shared_station
    station.configure(schedule="every 2s")
    daemons = [station.start("tests.chaos.fast") for _ in range(3)]
    awaited(lambda: len(station.statuses()) >= 2)
    answers = [ask_process(station.environment, "run", "--if-due", folder=station.folder) for _ in range(2)]
    awaited(lambda: len(station.statuses()) >= 5)
    assert [daemon.end() for daemon in daemons] == [0, 0, 0]
    assert {answer.code for answer in answers} <= {0, 4}
    assert set(runs_per_tick(station).values()) == {1}
    assert set(station.statuses()[:4]) == {"ok"}  # a later one may have been interrupted by the end


def test_when_the_active_daemon_is_killed_the_next_takes_over_at_once(
    shared_station: Station, simulator: Simulator
) -> None:
    station = shared_station
    simulator.faults = parse_faults(SLOW)
    daemons = [station.start(), station.start()]
    awaited(lambda: simulator.call_count(action="ListImages", region_id="cn-hangzhou"))
    active = active_of(station, daemons)
    active.send(signal.SIGKILL)
    simulator.faults = ()
    # Within a third of the lease's time: on one machine its death is seen at once.
    awaited(lambda: station.statuses() == ["interrupted", "ok"], patience_s=20)


def test_when_the_active_daemon_hangs_the_next_takes_over_and_the_first_writes_nothing_more(
    shared_station: Station, simulator: Simulator
) -> None:
    station = shared_station
    simulator.faults = parse_faults(SLOW)
    daemons = [station.start("tests.chaos.fast"), station.start("tests.chaos.fast")]
    awaited(lambda: simulator.call_count(action="ListImages", region_id="cn-hangzhou"))
    awaited(lambda: station.ask("SELECT 1 FROM available_images WHERE region_id = 'cn-beijing'"))
    hanging = active_of(station, daemons)
    station.hang(hanging)
    simulator.faults = ()
    stopped_at = time.monotonic()
    awaited(lambda: station.statuses() == ["interrupted", "ok"])
    assert time.monotonic() - stopped_at < LEASE_S + 30  # generous only for busy machines
    before = station.ask("SELECT COUNT(*), MAX(valid_from) FROM image_history")
    hanging.send(signal.SIGCONT)
    awaited(lambda: hanging.says("another run took over"))
    assert station.statuses() == ["interrupted", "ok"]
    assert station.ask("SELECT COUNT(*), MAX(valid_from) FROM image_history") == before
    assert [daemon.end() for daemon in daemons] == [0, 0]


@pytest.mark.slow
def test_the_real_lease_of_a_hanging_daemon_ends_within_its_minute(station: Station, simulator: Simulator) -> None:
    simulator.faults = parse_faults("delay=200s action=ListImages region=cn-hangzhou")
    daemons = [station.start(), station.start()]
    awaited(lambda: simulator.call_count(action="ListImages", region_id="cn-hangzhou"))
    awaited(lambda: station.ask("SELECT 1 FROM available_images WHERE region_id = 'cn-beijing'"))
    station.hang(active_of(station, daemons))
    simulator.faults = ()
    awaited(lambda: station.statuses() == ["interrupted", "ok"], patience_s=60 + 30)


def test_a_cron_job_beside_a_daemon_finds_its_tick_served(station: Station) -> None:
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    answer = ask_process(station.environment, "run", "--if-due", folder=station.folder)
    assert (answer.code, answer.out) == (0, "")
    assert re.fullmatch(r"run 1 has served the tick of [-0-9: ]+ UTC; none is due", answer.sentence)
    daemon.end()
    assert station.statuses() == ["ok"]
