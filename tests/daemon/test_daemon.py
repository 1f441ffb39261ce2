"""One daemon, as a process: signals, outages, configuration, systemd and HTTP."""

import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest
import requests

from sync.daemon import REPEAT_S
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from tests.alerts.receiver import receiving
from tests.daemon.process import Station, awaited

SLOW = "delay=30s action=ListImages region=cn-hangzhou"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_the_last_tick_at_once_and_ends_well_when_told(station: Station, number: signal.Signals) -> None:
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    assert daemon.end(number) == 0
    assert daemon.messages[-1] == "ended, as it was told to"
    assert station.ask("SELECT owner FROM lease WHERE name = 'run'") == [(None,)]


def test_a_tick_that_is_served_is_not_served_again_after_a_restart(station: Station) -> None:
    first = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    first.end()
    second = station.start()
    awaited(lambda: second.says("runs on 'every 1000w' (UTC), the next one at"))
    second.end()
    assert station.statuses() == ["ok"]


def test_it_makes_a_run_at_every_tick(station: Station) -> None:
    station.configure(schedule="every 1s")
    daemon = station.start()
    awaited(lambda: len(station.statuses()) >= 3)
    daemon.end()
    ticks = [row[0] for row in station.ask("SELECT scheduled_at FROM run ORDER BY id")]
    assert len(set(ticks)) == len(ticks)


def test_sigterm_interrupts_a_run_within_ten_seconds_and_leaves_whole_targets(
    station: Station, simulator: Simulator
) -> None:
    simulator.faults = parse_faults(SLOW)
    daemon = station.start()
    awaited(lambda: simulator.call_count(action="ListImages", region_id="cn-hangzhou"))
    awaited(lambda: station.ask("SELECT 1 FROM available_images WHERE region_id = 'cn-beijing'"))
    assert daemon.end() == 0
    assert station.statuses() == ["interrupted"]
    assert station.ask("SELECT 1 FROM available_images WHERE region_id = 'cn-hangzhou'") == []
    simulator.faults = ()
    station.start()
    awaited(lambda: station.statuses() == ["interrupted", "ok"])


def test_two_signals_at_once_are_one(station: Station, simulator: Simulator) -> None:
    simulator.faults = parse_faults(SLOW)
    daemon = station.start()
    awaited(lambda: simulator.call_count(action="ListImages"))
    daemon.send(signal.SIGTERM)
    daemon.send(signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    assert station.statuses() == ["interrupted"]


def test_threads_do_not_grow_with_the_runs(station: Station) -> None:
    station.configure(schedule="every 1s")
    del station.environment["ALIBABA_CLOUD_ECS_METADATA_DISABLED"]  # with it the credentials library keeps no thread
    daemon = station.start()
    awaited(lambda: len(station.statuses()) >= 3)
    threads = idle_threads_of(daemon.process.pid)
    awaited(lambda: len(station.statuses()) >= 8)
    assert idle_threads_of(daemon.process.pid) <= threads


def idle_threads_of(process_id: int) -> int:
    """Return the fewest threads that a process has within three ticks: a run under way has more."""
    counts = []
    for _ in range(60):
        counts.append(len(list(Path(f"/proc/{process_id}/task").iterdir())))
        time.sleep(0.05)
    return min(counts)


def test_a_second_signal_ends_it_at_once(station: Station, simulator: Simulator) -> None:
    simulator.faults = parse_faults(SLOW)
    daemon = station.start()
    awaited(lambda: simulator.call_count(action="ListImages"))
    daemon.send(signal.SIGTERM)
    time.sleep(REPEAT_S)
    daemon.send(signal.SIGTERM)
    assert daemon.process.wait(5) in {0, 1}  # the first one may have been enough


def test_a_database_that_comes_later_is_waited_for(station: Station, tmp_path: Path) -> None:
    station.database_url = f"sqlite:///{tmp_path / 'later' / 'history.db'}"
    station.configure(database_url=station.database_url)
    daemon = station.start()
    awaited(lambda: daemon.says("trying again until it answers"))
    (tmp_path / "later").mkdir()
    awaited(lambda: daemon.says("the database answers again"))
    awaited(lambda: station.statuses() == ["ok"])


def test_a_network_that_is_away_fails_a_run_and_not_the_daemon(station: Station, simulator: Simulator) -> None:
    simulator.faults = parse_faults("reset")
    daemon = station.start("tests.chaos.fast")
    awaited(lambda: daemon.says("the run failed, trying again in"))
    simulator.faults = ()
    awaited(lambda: station.statuses()[-1:] == ["ok"])
    assert set(station.statuses()[:-1]) == {"failed"}


def test_credentials_that_come_later_are_waited_for(station: Station) -> None:
    secret = station.environment.pop("ALIBABA_CLOUD_ACCESS_KEY_SECRET")
    daemon = station.start("tests.chaos.fast")
    awaited(lambda: daemon.says("no Alibaba Cloud credentials found"))
    assert daemon.process.poll() is None
    assert secret not in daemon.log_file.read_text()


def test_sighup_reads_the_configuration_again(station: Station, tmp_path: Path) -> None:
    del station.environment["EHPC_SYNC_REGIONS"]
    file = tmp_path / "ehpc-image-sync.toml"
    file.write_text('regions = ["cn-beijing"]')
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    file.write_text('regions = ["cn-beijing", "cn-hangzhou"]\nschedule = "every 1s"')
    del station.environment["EHPC_SYNC_SCHEDULE"]
    daemon.send(signal.SIGHUP)
    awaited(lambda: daemon.says("the configuration was read again"))
    assert daemon.end() == 0


def test_sighup_with_a_bad_configuration_keeps_the_old_one(station: Station, tmp_path: Path) -> None:
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    (tmp_path / "ehpc-image-sync.toml").write_text('workers = "many"')
    daemon.send(signal.SIGHUP)
    awaited(
        lambda: daemon.says("the configuration was not taken over, the old one stays: ehpc-image-sync.toml: workers")
    )
    assert daemon.process.poll() is None
    assert daemon.end() == 0


def test_systemd_hears_when_it_is_ready_and_what_it_waits_for(station: Station, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        daemon = station.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="3000000")
        heard: list[str] = []
        while not any(word.startswith("STATUS=waiting for") for word in heard) or heard.count("WATCHDOG=1") < 2:
            heard.append(listening.recv(4096).decode())
        daemon.end()
        while heard[-1] != "STOPPING=1":
            heard.append(listening.recv(4096).decode())
    assert heard[0] == "READY=1"
    assert any(word.startswith("STATUS=making the run of") for word in heard)


def test_the_switch_and_the_channels_hear_of_a_run(station: Station) -> None:
    with receiving() as receiver:
        station.configure(ping_url=receiver.ping_url, notify_urls=receiver.channel)
        station.start()
        awaited(lambda: receiver.signals == ["/start", ""])
    assert receiver.requests[-1][1].startswith("run 1: ok in")


def test_a_database_that_is_away_for_long_is_told_without_it(station: Station) -> None:
    with receiving() as receiver:
        away = "postgresql://nobody@127.0.0.1:9/none"
        station.configure(database_url=away, notify_urls=receiver.channel, stale_after="2s")
        station.start("tests.chaos.fast")
        awaited(lambda: receiver.titles)
        assert receiver.titles == ["the database postgresql+psycopg://nobody@127.0.0.1:9/none does not answer"]


def test_health_and_metrics_are_served(station: Station) -> None:
    port = free_port()
    station.configure(http_listen=f"127.0.0.1:{port}")
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'ehpc_sync_runs_total{status="ok"} 1.0' in metrics
    assert 'ehpc_sync_targets{region_id="cn-beijing",state="observed"} 1.0' in metrics
    assert daemon.end() == 0


def code_of(port: int, path: str, token: str = "") -> int:
    """Return how the daemon on a port answers."""
    return requests.get(f"http://127.0.0.1:{port}{path}", headers=bearing(token), timeout=30).status_code


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def test_the_dashboard_is_served_beside_the_runs(station: Station) -> None:
    port = free_port()
    station.configure(http_listen=f"127.0.0.1:{port}", schedule="every 1s")
    daemon = station.start()
    awaited(lambda: daemon.says(f"dashboard, health and metrics at http://127.0.0.1:{port}"))
    awaited(lambda: len(station.statuses()) >= 2)
    assert {code_of(port, path) for path in ("/overview", "/overview.json", "/static/style.css")} == {200}
    asked = len(station.statuses())
    awaited(lambda: len(station.statuses()) >= asked + 2 and code_of(port, "/overview") == 200)
    assert daemon.end() == 0
    assert not daemon.says("without a token")


def test_a_token_that_changes_counts_from_sighup_on(station: Station, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "token"
    file.write_text("canary-token-first\n")
    station.configure(http_listen=f"0.0.0.0:{port}", http_token_file=file)
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    assert [code_of(port, "/overview", token) for token in ("", "canary-token-first")] == [401, 200]
    file.write_text("canary-token-second\n")
    assert code_of(port, "/overview", "canary-token-first") == 200
    daemon.send(signal.SIGHUP)
    awaited(lambda: daemon.says("the configuration was read again"))
    given = ("canary-token-first", "canary-token-second")
    assert [code_of(port, "/overview", token) for token in given] == [401, 200]
    assert daemon.end() == 0
    assert "canary" not in daemon.log_file.read_text()
    assert not daemon.says("without a token")


def test_a_token_file_that_is_gone_at_sighup_leaves_the_old_token(station: Station, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "token"
    file.write_text("canary-token-first\n")
    station.configure(http_listen=f"127.0.0.1:{port}", http_token_file=file)
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    file.unlink()
    daemon.send(signal.SIGHUP)
    awaited(lambda: daemon.says("the configuration was not taken over, the old one stays: http_token_file: "))
    awaited(lambda: code_of(port, "/livez") == 200)
    assert [code_of(port, "/overview", token) for token in ("", "canary-token-first")] == [401, 200]
    assert daemon.end() == 0


def test_a_server_that_others_reach_without_a_token_is_warned_of_once(station: Station) -> None:
    station.configure(http_listen=f"0.0.0.0:{free_port()}")
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    assert daemon.end() == 0
    warned = [row for row in daemon.rows if "reads all of it without a token" in row["message"]]
    assert [(row["level"], "openssl rand -hex 32" in row["message"]) for row in warned] == [("warning", True)]


def test_a_daemon_that_serves_nothing_needs_no_token(station: Station, tmp_path: Path) -> None:
    station.configure(http_token_file=tmp_path / "none")
    daemon = station.start()
    awaited(lambda: station.statuses() == ["ok"])
    assert daemon.end() == 0


def test_the_log_has_one_line_per_region_and_run_with_their_names_as_fields(station: Station) -> None:
    daemon = station.start()
    awaited(lambda: daemon.says("run 1: ok"))
    rows = [row for row in daemon.rows if row["logger"] == "sync.run"]
    named = [(row.get("run_id"), row.get("region_id")) for row in rows]
    assert sorted(named, key=str) == [(1, "cn-beijing"), (1, "cn-hangzhou"), (1, None), (1, None)]


def test_a_failure_is_logged_once(station: Station, simulator: Simulator) -> None:
    simulator.faults = parse_faults("status=400 code=InvalidParameter.Scripted action=ListImages region=cn-beijing")
    daemon = station.start()
    awaited(lambda: station.statuses() == ["partial"])
    daemon.end()
    rows = [row for row in daemon.rows if "InvalidParameter.Scripted" in row["message"]]
    assert [(row["level"], row.get("region_id"), row.get("run_id")) for row in rows] == [("warning", "cn-beijing", 1)]
