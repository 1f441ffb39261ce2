"""The crontab: its times fit the schedule that it names, and a real cron makes its run."""

import os
import re
import shutil
import sqlite3
import subprocess
import sysconfig
from pathlib import Path

import pytest

from sync.config import Settings
from tests.deploy.sources import CHECKOUT, CRONTAB, DEPLOY, PROGRAM

TEXT = CRONTAB.read_text("utf-8")
JOB = re.compile(r"^(?:# )?((?:[\d,*/-]+ ){4}[\d,*/-]+)  ehpc  (.*)$", re.MULTILINE)
TRIAL_TIMEOUT_S = 150  # a minute until cron starts the job, and the time that a busy machine needs around it


def times_of(command: str) -> set[str]:
    """Return the five fields of all jobs that call a command of the program."""
    return {times for times, job in JOB.findall(TEXT) if f"{PROGRAM} {command}" in job}


def test_the_runs_are_at_the_times_of_the_schedule_that_it_tells_to_configure() -> None:
    (times,) = times_of("run --if-due")
    assert re.findall(r'schedule = "(.*)"', TEXT) == [times]
    assert re.findall(r"EHPC_SYNC_SCHEDULE='(.*)'", TEXT) == [times]
    assert Settings(schedule=times).due.expression == times


def test_only_the_first_job_is_active() -> None:
    assert [line for line in TEXT.splitlines() if re.match(r"[\d*]", line)] == [
        next(match[0] for match in JOB.finditer(TEXT))
    ]
    assert len(JOB.findall(TEXT)) == 3


def test_a_job_holds_no_percent_sign() -> None:
    assert [job for _, job in JOB.findall(TEXT) if "%" in job] == []  # cron would end the command there


@pytest.mark.parametrize(("code", "is_mailed"), [(0, False), (3, True), (1, True)])
def test_status_is_mailed_only_when_something_is_wrong(tmp_path: Path, code: int, is_mailed: bool) -> None:
    (job,) = [job for _, job in JOB.findall(TEXT) if f"{PROGRAM} status" in job]
    program = tmp_path / "opt" / PROGRAM / "bin" / PROGRAM
    for folder in (program.parent, tmp_path / "etc" / PROGRAM, tmp_path / "var/lib" / PROGRAM):
        folder.mkdir(parents=True)
    (tmp_path / "etc" / PROGRAM / "environment").touch()
    program.write_text(f'#!/bin/sh\necho "$@ says so"\nexit {code}\n')
    program.chmod(0o755)
    command = re.sub(r"/(etc|var|opt)/", rf"{tmp_path}/\1/", job)
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.stdout == ("status --format table says so\n" if is_mailed else "")
    assert (ended.returncode, ended.stderr) == (0, "")


def require_trial() -> None:
    """Skip where a real cron cannot be tried."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace needs root")
    for name in ("cron", "unshare"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run"],
        capture_output=True,
        check=False,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"this machine lets nobody mount in a namespace of their own: {tried.stderr.strip()}")


@pytest.mark.slow
def test_a_real_cron_makes_the_run(tmp_path: Path) -> None:
    require_trial()
    program = Path(sysconfig.get_path("scripts")) / PROGRAM
    ended = subprocess.run(
        [str(DEPLOY / "try-cron.sh"), str(program), str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        cwd=CHECKOUT,
        timeout=TRIAL_TIMEOUT_S,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with sqlite3.connect(tmp_path / "var/lib" / PROGRAM / "ehpc-images.db") as connection:
        runs = connection.execute("SELECT status, targets_ok FROM sync_runs").fetchall()
    connection.close()
    assert runs == [("ok", 18)]
    summary = (tmp_path / "var/log" / PROGRAM / "run.log").read_text("utf-8")
    assert re.match(r"run 1: ok \(.*\)\n  18 targets observed, 0 failed; ", summary)
    assert not (tmp_path / "mail").exists()
