"""What only a process of its own shows: signals, closed pipes, and how little cron hears."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from tests.cli.program import Program, ask_process, ended_by, environment_of, started_process
from tests.cli.story import baseline

QUICK_S = 2  # what a person waits for a program that was told to end
LATE_S = 10  # half of the time that the answers under way would take


@pytest.fixture
def environment(simulator: Simulator, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that is configured for the simulator."""
    return environment_of(
        tmp_path,
        ALIBABA_CLOUD_ACCESS_KEY_ID=simulator.access_key_id,
        ALIBABA_CLOUD_ACCESS_KEY_SECRET=simulator.access_key_secret,
        EHPC_SYNC_ENDPOINT=simulator.url,
        EHPC_SYNC_REGIONS="all",
        EHPC_SYNC_MAX_ATTEMPTS="1",
        EHPC_SYNC_CALLS_PER_SECOND="1000",
        EHPC_SYNC_DATABASE_URL="sqlite:///history.db",
    )


def test_cron_hears_two_lines_when_all_is_well(environment: dict[str, str], program: Program, tmp_path: Path) -> None:
    program.ask("run")
    answer = ask_process(environment, "run", folder=tmp_path)
    assert (answer.code, answer.err, len(answer.out.splitlines())) == (0, "", 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_until_a_signal_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with started_process(environment_of(tmp_path), "simulate", "--port", "0", folder=tmp_path) as process:
        assert process.stdout
        greeting = process.stdout.readline()
        assert re.match(r"A simulated E-HPC listens on http://127\.0\.0\.1:\d+; end it with Ctrl-C\.", greeting)
        started = time.monotonic()
        answer = ended_by(process, number)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("the simulator has stopped\n")
    assert time.monotonic() - started < QUICK_S


def test_a_run_that_is_told_to_stop_leaves_a_whole_history_for_the_next(
    environment: dict[str, str], program: Program, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.faults = parse_faults("delay=20s action=ListImages region=cn-hangzhou")
    with started_process(environment, "run", folder=tmp_path) as process:
        while not simulator.call_count(action="ListImages", region_id="cn-beijing"):
            assert process.poll() is None
            time.sleep(0.02)  # the other process goes on; the simulator has no event to wait for
        started = time.monotonic()
        answer = ended_by(process, signal.SIGTERM)
    assert time.monotonic() - started < LATE_S
    simulator.faults = ()
    assert (answer.code, answer.out) == (1, "")
    assert "the run was asked to stop; the next run does what is left" in answer.sentence
    assert program.ask("run").code == 0
    assert [row["status"] for row in program.rows("runs")] == ["ok", "interrupted"]
    assert len(program.rows("images")) == baseline().pair_count


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_a_reader_that_has_seen_enough_is_no_error(story_url: str, tmp_path: Path, form: str) -> None:
    with started_process(
        environment_of(tmp_path), "images", "--database-url", story_url, "--format", form, folder=tmp_path
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_python_m_sync_is_the_same_program(tmp_path: Path) -> None:
    answer = ask_process(environment_of(tmp_path), "runs", folder=tmp_path)
    assert answer.code == 2
    assert answer.sentence.startswith("ehpc-image-sync: there is no history in ")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    show = "import sys, sync.cli\ntry: sync.cli.main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", show],
        env=environment_of(tmp_path),
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert {"sync.cli", "click"} <= loaded
    assert loaded.isdisjoint({"sqlalchemy", "pydantic", "requests", "rich", "alembic", "alibabacloud_credentials"})
