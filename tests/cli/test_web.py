"""The command web and ``demo --web``, as processes: what they serve, how they end, and what they refuse."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from flask import Flask
from sqlalchemy import delete

from sync.cli.web import serve_history
from sync.config import Settings
from sync.daemon import Process, Station
from sync.errors import ConfigError, DatabaseError
from sync.simulator.server import Simulator
from sync.store.schema import change
from sync.web.app import Source
from tests.cli.program import Program, ask_process, ended_by, environment_of, started_process
from tests.cli.story import file_of
from tests.daemon.process import awaited

TOKEN = "canary-token-4f1c88e0"

BROWSER = """#!/bin/sh
echo "$1" > {}
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """A command that serves, and its address."""

    process: subprocess.Popen[str]
    greeting: str
    url: str

    def get(self, path: str, **headers: str) -> requests.Response:
        """Return the answer to one request."""
        return requests.get(f"{self.url.replace('0.0.0.0', '127.0.0.1')}{path}", headers=headers, timeout=30)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    """Give the command once it serves."""
    environment = environment_of(folder, PYTHONUNBUFFERED="1", **variables)
    with started_process(environment, *arguments, folder=folder) as process:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        greeting = next((line for line in lines if line.startswith("Dashboard")), "")
        found = re.search(r" at (http://\S+); ", greeting)
        assert found, process.communicate(timeout=30)
        yield Serving(process, greeting, found[1])


def at_story(story_url: str, *more: str) -> tuple[str, ...]:
    return "web", "--database-url", story_url, "--listen", "127.0.0.1:0", *more


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_history_until_it_is_told_to_end(tmp_path: Path, story_url: str, number: signal.Signals) -> None:
    with serving(tmp_path, *at_story(story_url)) as web:
        codes = {path: web.get(path).status_code for path in ("/", "/overview.json", "/livez", "/metrics")}
        health = web.get("/healthz")
        answer = ended_by(web.process, number)
    assert set(codes.values()) == {200}
    assert health.json()["status"] == "unhealthy"  # the story is of long ago
    assert web.greeting == f"Dashboard, health and metrics of {story_url} at {web.url}; end it with Ctrl-C.\n"
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_it_claims_no_runs_of_its_own(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, *at_story(story_url)) as web:
        metrics = web.get("/metrics").text
    assert 'ehpc_sync_runs_total{status="ok"} 0.0' in metrics
    assert "ehpc_sync_next_run_timestamp_seconds" not in metrics
    assert "ehpc_sync_notifications_total{" not in metrics


def test_it_changes_nothing_and_needs_no_regions(tmp_path: Path, story_url: str) -> None:
    file = tmp_path / "history.db"
    shutil.copy(file_of(story_url), file)
    before = file.read_bytes()
    with serving(tmp_path, *at_story("sqlite:///history.db")) as web:
        assert web.get("/overview").status_code == 200
        assert ended_by(web.process, signal.SIGTERM).code == 0
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_with_a_token_file_pages_ask_for_it(tmp_path: Path, story_url: str) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    arguments = at_story(story_url, "--listen", "0.0.0.0:0", "--set", "http_token_file=token")
    with serving(tmp_path, *arguments) as web:
        codes = [web.get("/overview", **given).status_code for given in ({}, {"Authorization": f"Bearer {TOKEN}"})]
        answer = ended_by(web.process, signal.SIGTERM)
    assert codes == [401, 200]
    assert (answer.code, answer.err) == (0, "")
    assert TOKEN not in web.greeting


def test_beyond_loopback_without_a_token_it_warns(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, *at_story(story_url, "--listen", "0.0.0.0:0")) as web:
        answer = ended_by(web.process, signal.SIGTERM)
    assert answer.sentence == (
        f"warning: whoever reaches {web.url} reads all of it without a token; make one with: openssl rand -hex 32, "
        "and put it into the variable EHPC_SYNC_HTTP_TOKEN or into a file that http_token_file names"
    )


def test_the_name_that_it_listens_on_is_answered(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, *at_story(story_url, "--listen", "localhost:0", "--set", "http_hosts=a.example")) as web:
        codes = [web.get("/overview", Host=name).status_code for name in ("localhost", "a.example", "b.example")]
    assert codes == [200, 200, 421]


def test_an_unusual_name_that_it_listens_on_is_answered(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, *at_story(story_url, "--listen", "127.1:0")) as web:
        codes = [web.get("/overview", Host=name).status_code for name in ("127.1", "127.2")]
    assert codes == [200, 421]


def test_open_opens_the_browser(tmp_path: Path, story_url: str) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(tmp_path / "opened"))
    browser.chmod(0o755)
    with serving(tmp_path, *at_story(story_url, "--open"), BROWSER=str(browser)) as web:
        awaited(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text())
        assert (tmp_path / "opened").read_text() == f"{web.url}\n"


def test_open_without_a_browser_leaves_the_address(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, *at_story(story_url, "--open"), PATH="/nowhere") as web:
        assert web.get("/overview").status_code == 200
        assert ended_by(web.process, signal.SIGTERM).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "localhost"], "--listen: 'localhost' is not an address; write for example 127.0.0.1:9321"),
        (["--listen", "127.0.0.1:70000"], "--listen: '127.0.0.1:70000' is not an address"),
        (["--listen", "192.0.2.1:0"], "--listen: 192.0.2.1:0 cannot be used: "),
        (["--listen", "x.invalid:0"], "--listen: there is no host 'x.invalid': "),
        (["--set", "http_token_file=none"], "http_token_file: none cannot be read: No such file"),
        (["--set", "http_hosts=http://x"], "http_hosts: 'http://x' is not a name"),
        (["--prot", "1"], "no such option '--prot'"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(reader: Program, arguments: list[str], words: str) -> None:
    answer = reader.ask("web", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.sentence


def test_a_port_in_use_is_told(reader: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = reader.ask("web", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (answer.code, answer.out) == (2, "")
    assert "another program uses the port; choose another one, or end that program" in answer.sentence


@pytest.mark.parametrize("package", ["flask", "plotly", "waitress"])
def test_a_missing_package_is_told_by_who_needs_it(
    reader: Program, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    remedy = f"but the package {package} is not installed; run: pip install 'ehpc-image-sync[web]'"
    assert reader.ask("web").sentence == f"ehpc-image-sync: web needs packages, {remedy}"
    assert reader.ask("demo", "--web").sentence == f"ehpc-image-sync: --web is given, {remedy}"
    assert not (reader.folder / "ehpc-demo.db").exists()


def test_a_database_that_is_down_ends_it_as_any_question(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer = program.ask("web", "--database-url", f"postgresql://me:canary-pw@127.0.0.1:{port}/x")
    assert (answer.code, answer.out) == (1, "")
    assert "check that the server runs" in answer.sentence
    assert "canary-pw" not in answer.sentence


def test_the_demo_can_be_looked_at(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(tmp_path / "opened"))
    browser.chmod(0o755)
    with serving(tmp_path, "demo", "--web", BROWSER=str(browser)) as web:
        awaited(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text())
        assert (tmp_path / "opened").read_text() == f"{web.url}\n"
        assert "cn-shanghai" in web.get("/overview").text
        assert ended_by(web.process, signal.SIGINT).code == 0


def test_a_demo_takes_another_port_where_its_own_is_taken(tmp_path: Path, story_url: str) -> None:
    with serving(tmp_path, "demo", "--web") as first:
        environment = environment_of(tmp_path)
        taken = ask_process(environment, "web", "--database-url", story_url, folder=tmp_path)
        assert (taken.code, "127.0.0.1:9322" in taken.err) == (2, first.url.endswith(":9322"))


def listening_of(program: Program, **keys: str) -> dict[str, str]:
    """Return what ``check`` says of the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program.configure(**{"http_listen": f"127.0.0.1:{port}"} | {k: v.format(port) for k, v in keys.items()})
    (row,) = [row for row in program.ask("check").rows if row["check"] == "http_listen"]
    return {name: str(value) for name, value in row.items()}


def test_check_says_who_will_be_asked_for_a_token(program: Program, simulator: Simulator) -> None:
    assert listening_of(program)["detail"].endswith("is free for the daemon, which asks for no token")
    program.configure(http_token=TOKEN)
    told = listening_of(program, http_listen="0.0.0.0:{}")
    assert (told["state"], told["detail"].partition(", ")[2]) == ("ok", "which asks for the token")
    assert TOKEN not in str(told)


def test_check_warns_of_a_server_that_others_reach_without_a_token(program: Program, simulator: Simulator) -> None:
    told = listening_of(program, http_listen="0.0.0.0:{}")
    assert told["state"] == "warning"
    assert told["detail"].endswith("whoever reaches it reads all of it without a token")
    assert "openssl rand -hex 32" in told["remedy"]


def test_check_reads_the_token_file(program: Program, simulator: Simulator) -> None:
    told = listening_of(program, http_token_file="none")
    assert told["state"] == "failed"
    assert told["detail"].startswith("http_token_file: none cannot be read: No such file or directory")
    assert program.ask("check").code == 2


def test_pages_are_given_a_connection_that_cannot_write(reader: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Source] = []

    def look(source: Source) -> Flask:
        with pytest.raises(DatabaseError), source.database.writing() as connection:
            connection.execute(delete(change))
        given.append(source)
        raise ConfigError("seen enough")

    # Ours, but nothing outside can see whether a page that never writes could.
    monkeypatch.setattr("sync.web.app.create_app", look)
    settings = Settings(database_url=f"sqlite:///{reader.folder}/history.db", regions=("cn-hangzhou",))
    with pytest.raises(ConfigError, match="seen enough"):
        serve_history(settings, "127.0.0.1", 0)
    with pytest.raises(ConfigError, match="seen enough"):
        Station(settings.model_copy(update={"http_listen": "127.0.0.1:9321"}), Process())
    assert len(given) == 2
