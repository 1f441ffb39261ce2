"""The Containerfile, read by its words: nothing here can build an image, but each step's outside can be checked."""

import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.sources import CHECKOUT, DEPLOY, PROGRAM, TOOL_TIMEOUT_S, documents_of, told_by

TEXT = (DEPLOY / "Containerfile").read_text("utf-8")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]

Steps = list[tuple[str, str]]


def steps_of(text: str) -> Steps:
    """Return the instructions with their arguments, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [
        (word, rest.strip()) for line in joined.splitlines() if line.strip() for word, _, rest in [line.partition(" ")]
    ]


STEPS = steps_of(TEXT)
FINAL = STEPS[max(index for index, (word, _) in enumerate(STEPS) if word == "FROM") :]


def arguments_of(word: str, steps: Steps = STEPS) -> list[str]:
    """Return the arguments of every instruction of a kind."""
    return [rest for name, rest in steps if name == word]


def copied() -> list[str]:
    """Return what is copied from the checkout."""
    sources = [shlex.split(rest)[:-1] for rest in arguments_of("COPY") if "--from=" not in rest]
    return [name for names in sources for name in names]


def variables() -> dict[str, str]:
    """Return the environment of the image."""
    pairs = [pair.partition("=") for rest in arguments_of("ENV", FINAL) for pair in shlex.split(rest)]
    return {name: value for name, _, value in pairs}


def test_every_file_that_is_copied_is_in_the_checkout_and_seen_by_the_build() -> None:
    shown = set((DEPLOY / "Containerfile.dockerignore").read_text("utf-8").splitlines())
    assert "*" in shown
    for name in copied():
        assert (CHECKOUT / name).exists(), name
        assert f"!{name}" in shown
    assert {line.removeprefix("!") for line in shown if line.startswith("!")} == set(copied())


def test_the_wheel_is_whole_when_built_from_what_is_copied(tmp_path: Path) -> None:
    context = tmp_path / "src"
    context.mkdir()
    for name in copied():
        source = CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, context / name)
    told_by(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "wheel", context)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "sync").rglob("*.py")}
    wanted |= {f"sync/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "migrations").rglob("*.py")}
    assert sorted(wanted - names) == []


def test_the_first_step_finds_uv_with_its_hashes_in_the_lock() -> None:
    command = next(rest for rest in arguments_of("RUN") if rest.startswith("sed "))
    select, _, _ = command.partition(" > ")
    found = subprocess.run(shlex.split(select), cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    lines = found.splitlines()
    assert re.fullmatch(r"uv==[\d.]+ \\", lines[0])
    assert lines[-1].lstrip().startswith("# via")
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:-1])
    assert len(lines) > 2


def needed_packages() -> Iterator[str]:
    """Yield the names of all packages that the program with all extras needs here, its own included."""
    waiting, seen = [(PROGRAM, frozenset(PROJECT["optional-dependencies"]))], set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield name
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            marker = wanted.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                waiting.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))


def test_the_lock_pins_whatever_the_image_installs() -> None:
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (CHECKOUT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    assert sorted(set(needed_packages()) - locked) == [PROGRAM]
    (install,) = [rest for rest in arguments_of("RUN") if "uv pip install" in rest]
    assert "--constraint requirements.lock" in install
    assert install.endswith('[all]"')


def test_both_stages_begin_with_the_same_supported_python() -> None:
    images = {rest.removesuffix(" AS build") for rest in arguments_of("FROM")}
    (image,) = images
    tag = re.fullmatch(r"docker\.io/library/python:3\.(\d+)-slim-[a-z]+", image)
    assert tag
    assert int(tag[1]) >= 11
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_image_runs_the_script_of_the_project_as_a_daemon() -> None:
    (entry,), (command,) = arguments_of("ENTRYPOINT"), arguments_of("CMD")
    assert json.loads(entry) == [PROGRAM]
    assert PROGRAM in PROJECT["scripts"]
    assert json.loads(command) == ["daemon"]
    (venv,) = [rest.split()[-1] for rest in arguments_of("COPY", FINAL) if "--from=build" in rest]
    assert variables()["PATH"].split(":")[0] == f"{venv}/bin"


def test_the_user_is_a_number_that_is_not_root_and_owns_the_data() -> None:
    (user,) = arguments_of("USER", FINAL)
    identity, _, group = user.partition(":")
    assert int(identity) >= 10_000
    assert int(group) >= 10_000
    (folder,) = arguments_of("VOLUME", FINAL)
    assert arguments_of("WORKDIR", FINAL) == [folder]
    assert variables()["HOME"] == folder
    assert any(f"-o {identity} -g {group}" in rest and rest.endswith(folder) for rest in arguments_of("RUN", FINAL))


def test_kubernetes_runs_the_image_as_its_own_user() -> None:
    (user,) = arguments_of("USER", FINAL)
    (deployment,) = documents_of(DEPLOY / "kubernetes" / "deployment.yaml")
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_nothing_secret_is_in_the_image() -> None:
    words = re.compile(r"secret|password|token|access_key", re.IGNORECASE)
    assert [rest for word, rest in STEPS if word in {"ENV", "ARG", "COPY", "RUN"} and words.search(rest)] == []


class _Livez(http.server.BaseHTTPRequestHandler):
    """A daemon that lives and whose data are bad."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a daemon that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Livez) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health_check(port: int) -> int:
    """Return how the image's health check ends where a daemon should listen on this port."""
    (check,) = arguments_of("HEALTHCHECK", FINAL)
    program, *rest = json.loads(check[check.index("CMD ") + 4 :])
    assert program == "python"
    environment = {"EHPC_SYNC_HTTP_LISTEN": f"0.0.0.0:{port}", "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run(
        [sys.executable, *rest], env=environment, capture_output=True, check=False, timeout=TOOL_TIMEOUT_S
    ).returncode


def test_the_health_check_is_content_with_a_daemon_that_lives(listening: int) -> None:
    assert health_check(listening) == 0


def test_the_health_check_fails_where_nobody_listens(unused_port: int) -> None:
    assert health_check(unused_port) == 1


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Livez) as server:
        return server.server_port
