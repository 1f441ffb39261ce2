"""``run``: its summary, its data, its exit codes, and what it must not write."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sync.simulator.catalogue import catalogue_of, with_image_added, without_images
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.lease import Lease
from tests.cli.program import Program
from tests.cli.story import CENTOS, ROCKY, an_image, with_rocky, without_centos

KEYS = [
    "run_id",
    "status",
    "started_at",
    "finished_at",
    "targets_ok",
    "targets_failed",
    "images_added",
    "images_removed",
    "images_changed",
    "removals_held",
    "failures",
]
MANY = [an_image(f"m-{number:02}", "CentOS", f"7.{number}") for number in range(30)]


def statuses_of(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "history.db")) as connection:
        return [row[0] for row in connection.execute("SELECT status FROM sync_runs ORDER BY run_id")]


def test_the_first_run_tells_its_baseline_on_stdout_and_nothing_else(program: Program, simulator: Simulator) -> None:
    answer = program.ask("run")
    assert (answer.code, answer.err) == (0, "")
    first, counts, baseline = answer.out.splitlines()
    assert first.startswith("run 1: ok (")
    assert counts.strip().startswith("5 targets observed, 0 failed; 0 images added, 0 removed, 0 changed")
    assert baseline.strip().startswith("= 6 pairs of instance type and image seen for the first time")


def test_a_run_without_change_is_two_lines(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    answer = program.ask("run")
    assert (answer.code, answer.err, len(answer.out.splitlines())) == (0, "", 2)


def test_a_run_tells_what_changed_grouped_by_image_and_region(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    simulator.catalogue = without_centos(with_rocky(simulator.catalogue))
    lines = program.ask("run").out.splitlines()
    assert "  + cn-hangzhou: Rocky Linux 9.3 64 bit added to ecs.c7.large, ecs.c7.xlarge" in lines
    assert "  - cn-hangzhou: CentOS 7.6 64 bit removed from ecs.c7.large, ecs.c7.xlarge" in lines
    assert "  - cn-hangzhou: instance type retired: ecs.g7.large" in lines
    assert "  + cn-hangzhou: instance type launched: ecs.hpc8.large" in lines


def test_the_json_of_a_run_has_exactly_the_promised_keys(program: Program, simulator: Simulator) -> None:
    answer = program.ask("run", "--format", "json")
    assert list(answer.one) == KEYS
    assert (answer.one["status"], answer.one["targets_ok"], answer.one["failures"]) == ("ok", 5, [])


def test_a_failure_in_json_names_target_code_message_and_request(program: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults("status=400 code=InvalidInstanceType.X action=ListImages type=ecs.g7.large")
    answer = program.ask("run", "--format", "json")
    (failure,) = answer.one["failures"]
    assert answer.code == 3
    assert list(failure) == ["region_id", "instance_type", "code", "message", "request_id"]
    assert (failure["region_id"], failure["instance_type"]) == ("cn-hangzhou", "ecs.g7.large")
    assert failure["code"] == "InvalidInstanceType.X"
    assert failure["request_id"]


def test_the_csv_of_a_run_holds_its_failures_as_json(program: Program, simulator: Simulator) -> None:
    header, line = program.ask("run", "--format", "csv").records
    assert header == KEYS
    assert line[-1] == "[]"


def test_a_partial_run_groups_its_failures_by_cause(program: Program, simulator: Simulator) -> None:
    simulator.faults = parse_faults("status=400 code=InvalidInstanceType.X action=ListImages type=ecs.c7.*large")
    answer = program.ask("run")
    causes = [line for line in answer.out.splitlines() if line.startswith("  ! ")]
    assert (answer.code, answer.err) == (3, "")
    assert [cause.split(": ")[0] for cause in causes] == ["  ! cn-beijing", "  ! cn-hangzhou"]
    assert "ecs.c7.large, ecs.c7.xlarge not observed: InvalidInstanceType.X" in causes[1]


def test_a_run_whose_discovery_fails_asks_the_known_targets_and_is_partial(
    program: Program, simulator: Simulator
) -> None:
    program.ask("run")
    simulator.faults = parse_faults("status=503 action=ListAvailableEcsTypes region=cn-hangzhou")
    answer = program.ask("run", "--format", "json")
    assert (answer.code, answer.one["status"], answer.one["targets_ok"]) == (3, "partial", 5)
    assert [failure["instance_type"] for failure in answer.one["failures"]] == [""]


def test_a_run_that_observes_nothing_fails_and_keeps_the_history(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    before = program.rows("history", "--image", "*")
    simulator.faults = parse_faults("status=503")
    answer = program.ask("run")
    assert answer.code == 1
    assert "run 2: failed" in answer.out
    assert program.rows("history", "--image", "*") == before


def test_held_removals_exit_with_3_and_name_the_way_out(program: Program, simulator: Simulator) -> None:
    simulator.catalogue = catalogue_of({"cn-beijing": {"ecs.c7.large": MANY}, "cn-hangzhou": {}})
    program.ask("run", "--region", "cn-beijing")
    simulator.catalogue = without_images(simulator.catalogue)
    answer = program.ask("run", "--region", "cn-beijing")
    assert (answer.code, answer.err) == (3, "")
    assert "run 2: held" in answer.out
    assert "30 removals held" in answer.out
    assert "ehpc-image-sync accept-removals" in " ".join(answer.out.split())


def test_a_taken_lease_exits_with_4_and_says_whose_it_is(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    database = Database("sqlite:///history.db")
    lease = Lease(database)
    lease.acquire()
    answer = program.ask("run")
    lease.release()
    database.close()
    assert (answer.code, answer.out) == (4, "")
    assert "another run is under way" in answer.sentence
    assert lease.owner in answer.sentence
    assert statuses_of(program.folder) == ["ok"]


def test_a_dry_run_leaves_no_file(program: Program, simulator: Simulator) -> None:
    answer = program.ask("run", "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("dry run, nothing written: ok")
    assert list(program.folder.iterdir()) == []


@pytest.mark.parametrize(("fault", "code"), [("", 0), ("status=503 type=ecs.c7.x*", 3), ("status=503", 1)])
def test_a_dry_run_exits_as_the_run_would_and_writes_nothing(
    program: Program, simulator: Simulator, fault: str, code: int
) -> None:
    program.ask("run")
    simulator.catalogue = without_centos(simulator.catalogue)
    simulator.faults = parse_faults(fault)
    before = (program.folder / "history.db").read_bytes()
    answer = program.ask("run", "--dry-run", "--format", "json")
    assert (answer.code, answer.one["run_id"]) == (code, None)
    assert (program.folder / "history.db").read_bytes() == before


def test_a_dry_run_counts_what_the_run_then_writes(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    simulator.catalogue = without_centos(with_rocky(simulator.catalogue))
    counts = [name for name in KEYS if name.startswith(("targets", "images", "removals"))]
    dry, real = (program.ask("run", *flags, "--format", "json").one for flags in (["--dry-run"], []))
    assert {name: dry[name] for name in counts} == {name: real[name] for name in counts}
    assert real["images_removed"] == 2


def test_a_restricted_run_asks_and_changes_only_what_it_names(program: Program, simulator: Simulator) -> None:
    program.ask("run")
    simulator.catalogue = with_image_added(simulator.catalogue, ROCKY)
    simulator.clear_log()
    answer = program.ask("run", "--region", "cn-hangzhou", "--instance-type", "ecs.c7.*large", "--format", "json")
    asked = {(call.region_id, call.instance_type) for call in simulator.calls(action="ListImages")}
    assert answer.one["images_added"] == 2
    assert asked == {("cn-hangzhou", "ecs.c7.large"), ("cn-hangzhou", "ecs.c7.xlarge")}
    assert {row["state"] for row in program.rows("images")} == {"available"}


def test_verbose_logs_each_region_to_stderr_and_leaves_stdout_alone(program: Program, simulator: Simulator) -> None:
    answer = program.ask("run", "--verbose", "--format", "json", "--set", "log_format=text")
    assert answer.one["status"] == "ok"
    assert "INFO run 1 started" in answer.err
    assert "INFO cn-beijing: ok, 1 targets observed" in answer.err


def test_logs_without_a_terminal_are_json_lines(program: Program, simulator: Simulator) -> None:
    logged = [entry for entry in program.ask("run", "-v").err.splitlines() if entry]
    assert all(entry.startswith('{"time": "') and '"run_id": 1' in entry for entry in logged)


def test_a_terminal_shows_a_summary_too(program: Program, simulator: Simulator) -> None:
    answer = program.ask_on_terminal("run")
    assert answer.code == 0
    assert "run 1: ok" in answer.out
    assert CENTOS.image_id not in answer.out
