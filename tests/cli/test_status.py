"""`status`, `run --if-due`, and what commands tell the channels."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.lease import Lease
from tests.alerts.receiver import receiving
from tests.cli.program import Program
from tests.cli.story import record_story, with_rocky

ONE_TYPE = "status=400 code=InvalidInstanceType.Scripted action=ListImages type=ecs.c1.large"
EVERYTHING = "status=400 code=InvalidParameter.Scripted action=ListImages"


@pytest.fixture
def fresh(program: Program, simulator: Simulator) -> Program:
    """The program after a run just now."""
    assert program.ask("run").code == 0
    return program


def test_status_says_that_all_is_well(fresh: Program) -> None:
    answer = fresh.ask_on_terminal("status")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["region", "state", "observed", "targets", "unknown", "held"]
    assert lines[1].split()[:2] == ["cn-beijing", "ok"]
    assert "all is well (data are stale after 1 h 30 min)" in lines
    assert any(line.startswith("last run: 1, ok, began ") for line in lines)
    assert lines[-1].startswith("next run by the schedule: ")


def test_status_for_monitoring_is_one_object(fresh: Program) -> None:
    status = fresh.ask("status", "--format", "json").one
    assert (status["state"], status["reasons"], status["failing"], status["held"]) == ("ok", [], [], [])
    assert [row["region_id"] for row in status["regions"]] == ["cn-beijing", "cn-hangzhou"]
    assert status["last_run"]["run_id"] == 1
    assert status["stale_after_s"] == 5400
    assert status["running"] is None


def test_status_gives_a_row_per_region(fresh: Program) -> None:
    rows = fresh.ask("status", "--format", "jsonl").rows
    assert [(row["region_id"], row["state"], row["targets_observed"]) for row in rows] == [
        ("cn-beijing", "ok", 1),
        ("cn-hangzhou", "ok", 4),
    ]
    assert fresh.ask("status", "--format", "csv").records[0] == list(rows[0])


def test_status_exits_with_3_and_names_failing_targets(fresh: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults(ONE_TYPE)
    fresh.ask("run")
    answer = fresh.ask_on_terminal("status")
    assert answer.code == 3
    assert "! cn-hangzhou: ecs.c1.large not observed since" in answer.out
    assert "InvalidInstanceType.Scripted" in answer.out
    assert "needs a look" in answer.out
    (failing,) = fresh.ask("status", "--format", "json").one["failing"]
    assert (failing["region_id"], failing["instance_types"]) == ("cn-hangzhou", ["ecs.c1.large"])


def test_status_exits_with_3_when_data_are_stale(program: Program, tmp_path: Path) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=9)
    record_story(f"sqlite:///{tmp_path / 'old.db'}", start)
    program.configure(database_url="sqlite:///old.db", regions="cn-beijing,cn-hangzhou")
    answer = program.ask_on_terminal("status")
    assert answer.code == 3
    assert "! cn-hangzhou has not been observed for 6 h" in answer.out
    program.configure(stale_after="10h")
    assert "stale" not in {row["state"] for row in program.ask("status", "--format", "jsonl").rows}


def test_status_exits_with_3_after_a_run_that_observed_nothing(fresh: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults(EVERYTHING)
    assert fresh.ask("run").code == 1
    answer = fresh.ask("status", "--format", "json")
    assert answer.code == 3
    assert any(reason.startswith("the last run observed nothing") for reason in answer.one["reasons"])


def test_status_shows_held_removals_with_the_command(reader: Program) -> None:
    reader.configure(regions="cn-beijing,cn-hangzhou")
    with sqlite3.connect(reader.folder / "history.db") as connection:
        connection.execute(
            "INSERT INTO held_removal SELECT target_id, image_key, valid_from, valid_from, valid_from, 1, 1"
            " FROM availability WHERE valid_to LIKE '9999%' LIMIT 1"
        )
    connection.close()
    answer = reader.ask_on_terminal("status")
    assert answer.code == 3
    assert "1 removal held since" in answer.out
    assert "if they are real: ehpc-image-sync accept-removals --region cn-" in answer.out


def test_status_without_history_says_what_to_do(program: Program) -> None:
    answer = program.ask("status")
    assert (answer.code, answer.out) == (2, "")
    assert answer.sentence.endswith("there is no history in sqlite:///ehpc-images.db yet; run: ehpc-image-sync run")


def test_a_run_if_due_is_made_once_per_tick(program: Program, simulator: Simulator) -> None:
    program.configure(schedule="@yearly")
    assert program.ask("run", "--if-due").code == 0
    answer = program.ask("run", "--if-due")
    assert (answer.code, answer.out) == (0, "")
    assert "has served the tick of" in answer.sentence
    assert program.ask("run").code == 0  # who does not ask for a due run gets one
    assert len(program.rows("runs")) == 2


def test_a_failed_run_leaves_its_tick_due(program: Program, simulator: Simulator) -> None:
    program.configure(schedule="@yearly")
    simulator.faults = parse_faults(EVERYTHING)
    assert program.ask("run", "--if-due").code == 1
    simulator.faults = ()
    assert program.ask("run", "--if-due").code == 0
    assert [row["status"] for row in program.rows("runs")] == ["ok", "failed"]


@pytest.mark.parametrize("option", [("--dry-run",), ("--region", "cn-beijing"), ("--instance-type", "ecs.c7.large")])
def test_if_due_is_for_whole_runs(program: Program, simulator: Simulator, option: tuple[str, ...]) -> None:
    answer = program.ask("run", "--if-due", *option)
    assert answer.code == 2
    assert answer.sentence.endswith("--if-due is for whole runs; leave out --dry-run, --region and --instance-type")


def test_a_restricted_run_serves_no_tick(program: Program, simulator: Simulator) -> None:
    program.configure(schedule="@yearly")
    assert program.ask("run", "--region", "cn-beijing").code == 0
    assert program.ask("run", "--if-due").code == 0
    assert len(program.rows("runs")) == 2


def test_run_tells_the_channels_and_the_switch(fresh: Program, simulator: Simulator) -> None:
    with receiving() as receiver:
        fresh.configure(notify_urls=receiver.channel, ping_url=receiver.ping_url)
        simulator.catalogue = with_rocky(simulator.catalogue)
        assert fresh.ask("run").code == 0
        assert len(receiver.titles) == 1
        assert receiver.signals == ["/start", ""]
        simulator.faults = parse_faults(EVERYTHING)
        assert fresh.ask("run").code == 1
        assert receiver.signals == ["/start", "", "/start", "/fail"]


@pytest.mark.parametrize("option", [("--dry-run",), ("--region", "cn-beijing")])
def test_the_switch_hears_of_whole_runs_only(fresh: Program, simulator: Simulator, option: tuple[str, ...]) -> None:
    with receiving() as receiver:
        fresh.configure(ping_url=receiver.ping_url)
        assert fresh.ask("run", *option).code == 0
        assert receiver.signals == []


def test_a_dry_run_tells_nobody(fresh: Program, simulator: Simulator) -> None:
    with receiving() as receiver:
        fresh.configure(notify_urls=receiver.channel)
        simulator.catalogue = with_rocky(simulator.catalogue)
        fresh.ask("run", "--dry-run")
        assert receiver.messages == []


def test_a_broken_channel_never_fails_a_run(fresh: Program, simulator: Simulator) -> None:
    fresh.configure(notify_urls="json://127.0.0.1:9/s3cret", ping_url="http://127.0.0.1:9/s3cret")
    simulator.catalogue = with_rocky(simulator.catalogue)
    answer = fresh.ask("run")
    assert answer.code == 0
    assert "did not take a message" in answer.err
    assert "s3cret" not in answer.err + answer.out


def test_the_switch_hears_nothing_where_another_run_is_under_way(fresh: Program, simulator: Simulator) -> None:
    database = Database(f"sqlite:///{fresh.folder / 'history.db'}")
    lease = Lease(database)
    lease.acquire()
    with receiving() as receiver:
        fresh.configure(ping_url=receiver.ping_url)
        assert fresh.ask("run").code == 4
        assert receiver.signals == []
    lease.release()
    database.close()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "schedule",
            "*/30 * *",
            "neither a crontab expression of five fields nor a rhythm such as 'every 15m'; a good one is",
        ),
        ("schedule", "61 * * * *", "Bad minute; a good one is '*/30 * * * *', whose next three times are "),
        ("timezone", "Mars/Olympus", "'Mars/Olympus' is not a time zone"),
        ("stale_after", "soon", "'soon' is not a span of time; write for example 90s, 15m, 36h or 3d"),
        (
            "notify_urls",
            "slck://s3cret",
            "begins with nothing that Apprise knows; it needs a service, the nearest are slack://",
        ),
        ("ping_url", "s3cret", "it is not a web address"),
        ("http_listen", "localhost", "'localhost' is not an address; write for example 127.0.0.1:9321"),
        ("http_listen", "192.0.2.1:9321", "http_listen"),
        ("notify_failures_after", "0", "greater than or equal to 1"),
    ],
)
def test_a_daemon_with_a_bad_configuration_ends_at_once_with_a_sentence(
    program: Program, simulator: Simulator, key: str, value: str, sentence: str
) -> None:
    program.configure(**{key: value})
    answer = program.ask("daemon")
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.sentence
    assert "s3cret" not in answer.sentence


def test_a_daemon_whose_template_names_what_there_is_not_ends_at_once(program: Program, simulator: Simulator) -> None:
    (program.folder / "templates").mkdir()
    (program.folder / "templates" / "message.txt").write_text("{{ imges }}")
    program.configure(notify_urls="json://127.0.0.1:9", notify_template_dir="templates")
    answer = program.ask("daemon")
    assert answer.code == 2
    assert "message.txt names 'imges', which there is not; there are summary, changes" in answer.sentence


def test_a_daemon_without_regions_ends_at_once(program: Program) -> None:
    answer = program.ask("daemon")
    assert answer.code == 2
    assert "no regions are configured" in answer.sentence
