"""What is shipped: the wheel works outside of the checkout, the lock is whole, the crontab runs as it stands."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import requests

from sync.simulator.server import Simulator
from tests.cli.program import ENDING_TIMEOUT_S, environment_of
from tests.cli.story import baseline

CHECKOUT = Path(__file__).parents[1]
JOBS = [line.lstrip("# ") for line in (CHECKOUT / "cron.example").read_text().splitlines() if " ehpc  . " in line]


def run_quietly(*command: str, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command that must succeed and return what it wrote."""
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False, text=True, timeout=3 * ENDING_TIMEOUT_S
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without an index from what is installed."""
    out = tmp_path_factory.mktemp("wheel")
    run_quietly(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), folder=CHECKOUT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a fresh environment that has the wheel, and of this one only the libraries."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install")
    run_quietly(*pip, "--no-deps", "--no-index", "--quiet", str(wheel), folder=folder)
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    # Without processing .pth files there: one of them leads back to the checkout.
    (site / "libraries.pth").write_text("\n".join(libraries))
    return folder / "bin" / "ehpc-image-sync"


@pytest.mark.slow
def test_the_wheel_holds_migrations_and_the_data_of_simulator_and_pages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"sync/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "migrations").rglob("*.py")}
    kinds = {".csv", ".html", ".css", ".js", ".svg", ".md", ".txt"}
    data = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "sync").rglob("*") if path.suffix in kinds}
    assert {Path(name).suffix for name in data} == kinds
    wanted |= data
    assert sorted(wanted - names) == []
    assert [name for name in names if name.startswith(("tests/", "benchmarks/"))] == []


@pytest.mark.slow
def test_the_installed_program_works_outside_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    del environment["PYTHONPATH"]
    shown = run_quietly(
        str(installed.with_name("python")),
        "-c",
        "import sync; print(sync.__file__)",
        folder=tmp_path,
        environment=environment,
    )
    assert Path(shown.strip()).is_relative_to(installed.parents[1])
    told = run_quietly(str(installed), "db", "upgrade", folder=tmp_path, environment=environment)
    assert "has the tables of this version" in told
    assert "━━ 8 of 8" in run_quietly(str(installed), "demo", folder=tmp_path, environment=environment)
    arguments = ("web", "--database-url", "sqlite:///ehpc-demo.db", "--listen", "127.0.0.1:0")
    with subprocess.Popen((installed, *arguments), cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as web:
        assert web.stdout
        (url,) = re.findall(r" at (http://\S+);", web.stdout.readline().decode())
        pages = ("/overview", "/static/style.css", "/plotly.min.js")
        assert [requests.get(f"{url}{page}", timeout=30).status_code for page in pages] == [200, 200, 200]
        web.terminate()
        assert web.wait(ENDING_TIMEOUT_S) == 0


def test_the_lock_has_hashes_for_all_and_names_no_index() -> None:
    text = (CHECKOUT / "requirements.lock").read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if entry and not entry.startswith("#")]
    assert len(entries) > 20
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://\S+|--(?:extra-)?index-url|--find-links", text) == []


def test_a_crontab_line_holds_no_percent_sign() -> None:
    assert len(JOBS) == 2
    assert [line for line in JOBS if "%" in line] == []  # cron would end the command there


def crontab_command_of(line: str, folder: Path) -> str:
    """Return the command of a line of the crontab, with the paths of that machine below ``folder``."""
    match = re.fullmatch(r"([\d,*/-]+\s+){5}ehpc\s+(.*)", line)
    assert match
    return re.sub(r"/(etc|var|opt)/", rf"{folder}/\1/", match[2])


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with what the crontab expects of a machine; its configuration is written by the test."""
    for name in ("etc/ehpc-image-sync", "var/lib/ehpc-image-sync", "var/log/ehpc-image-sync"):
        (tmp_path / name).mkdir(parents=True)
    program = tmp_path / "opt/ehpc-image-sync/bin/ehpc-image-sync"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m sync "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("line", JOBS, ids=["with a log file", "by mail"])
def test_the_crontab_runs_with_the_environment_that_cron_gives(machine: Path, line: str) -> None:
    with Simulator(baseline()) as simulator:
        (machine / "etc/ehpc-image-sync/environment").write_text(
            f"export ALIBABA_CLOUD_ACCESS_KEY_ID={simulator.access_key_id}\n"
            f"export ALIBABA_CLOUD_ACCESS_KEY_SECRET={simulator.access_key_secret}\n"
            f"export EHPC_SYNC_REGIONS=cn-hangzhou EHPC_SYNC_ENDPOINT={simulator.url}\n"
        )
        mailed = run_quietly("env", "-i", "/bin/sh", "-c", crontab_command_of(line, machine), folder=machine)
    log = machine / "var/log/ehpc-image-sync/run.log"
    assert mailed == ""
    assert (machine / "var/lib/ehpc-image-sync/ehpc-images.db").exists()
    assert not log.exists() or log.read_text().startswith("run 1: ok")


def test_the_crontab_mails_a_run_that_fails(machine: Path) -> None:
    (machine / "etc/ehpc-image-sync/environment").write_text(
        "export ALIBABA_CLOUD_ACCESS_KEY_ID=a ALIBABA_CLOUD_ACCESS_KEY_SECRET=b\n"
    )
    mailed = run_quietly("env", "-i", "/bin/sh", "-c", crontab_command_of(JOBS[1], machine), folder=machine)
    assert "no regions are configured" in mailed
    assert os.listdir(machine / "var/lib/ehpc-image-sync") == []  # noqa: PTH208  names are enough
