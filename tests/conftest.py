"""Fixtures of all tests: a quiet environment without outside network, and a fresh database on each server."""

import contextlib
import getpass
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from pytest_socket import socket_allow_hosts
from sqlalchemy import URL, NullPool, create_engine, exc, make_url, text

from sync.store.database import Database

DIALECTS = ("sqlite", "postgresql", "mariadb")

CREATE = {
    "postgresql": "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
    "mariadb": "CREATE DATABASE {}",
}

PROBE_TIMEOUT_S = 3  # a local server that needs longer for a handshake is not one to test with
START_TIMEOUT_S = 60  # a first start on a busy machine with slow disks

LOCAL_POSTGRESQL = tuple(
    f"postgresql+psycopg://{user}@{place}"
    for user in ("postgres", "root")
    for place in ("/postgres", "127.0.0.1:5432/postgres")
)
LOCAL_MARIADB = (
    "mariadb+pymysql://root@localhost/?unix_socket=/run/mysqld/mysqld.sock",
    "mariadb+pymysql://root@127.0.0.1:3306/",
)

INHERITED = re.compile(r"(ALIBABA_CLOUD|ALICLOUD|ALIYUN|EHPC_SYNC)_.*|(.+_)?PROXY", re.IGNORECASE)
"""Variables of the person who runs the tests that would change what the program does."""


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def _quiet_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if INHERITED.fullmatch(name)]:
            patch.delenv(name)
        patch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        yield


@pytest.fixture(params=DIALECTS)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, empty database that is dropped after the test; once for each database server."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh, empty database; once for each database server."""
    opened = Database(database_url)
    yield opened
    opened.close()


class Shelf:
    """Databases that are filled once for all tests of a process, which only read them."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path, stack: contextlib.ExitStack) -> None:
        self._request = request
        self._folder = folder
        self._stack = stack
        self._urls: dict[tuple[str, str], str] = {}

    def url_of(self, dialect: str, fill: Callable[[str], object]) -> str:
        """Return the URL of the database that ``fill`` has filled; the name of the function is its label."""
        key = dialect, f"{fill.__module__}.{fill.__qualname__}"
        if key not in self._urls:
            url = self._create(dialect)
            fill(url)
            self._urls[key] = url
        return self._urls[key]

    def _create(self, dialect: str) -> str:
        if dialect == "sqlite":
            return f"sqlite:///{self._folder / uuid.uuid4().hex}.db"
        server: URL = self._request.getfixturevalue(f"{dialect}_server")
        url = self._stack.enter_context(_created_database(server, CREATE[dialect]))
        return url.set(drivername=url.get_backend_name().replace("mariadb", "mysql")).render_as_string(
            hide_password=False
        )


@pytest.fixture(scope="session")
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Databases that tests share, and only read."""
    with contextlib.ExitStack() as stack:
        yield Shelf(request, tmp_path_factory.mktemp("shelf"), stack)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'history.db'}"


@pytest.fixture
def postgresql_url(postgresql_server: URL) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    with _created_database(postgresql_server, CREATE["postgresql"]) as url:
        yield url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def mariadb_url(mariadb_server: URL) -> Iterator[str]:
    """The URL of a fresh, empty MariaDB database."""
    with _created_database(mariadb_server, CREATE["mariadb"]) as url:
        yield url.set(drivername="mysql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    """The URL of a user who may create databases: the configured server, the local service, or one of our own."""
    with contextlib.ExitStack() as stack:
        configured = os.environ.get("TEST_POSTGRESQL_URL")
        server = _answering([configured] if configured else LOCAL_POSTGRESQL, "postgresql+psycopg")
        if server is None and configured is None:
            server = stack.enter_context(_temporary_postgresql())
        yield server or _unavailable("TEST_POSTGRESQL_URL names a server that does not answer")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[URL]:
    """The URL of a user who may create databases: the configured server, the local service, or one of our own."""
    with contextlib.ExitStack() as stack:
        configured = os.environ.get("TEST_MARIADB_URL")
        server = _answering([configured] if configured else LOCAL_MARIADB, "mariadb+pymysql")
        if server is None and configured is None:
            server = stack.enter_context(_temporary_mariadb())
        yield server or _unavailable("TEST_MARIADB_URL names a server that does not answer")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"{reason}; in CI every database must be there")
    pytest.skip(reason)


def _answering(candidates: Sequence[str], driver: str) -> URL | None:
    """Return the first URL whose server answers and whose user is not refused; None if there is none."""
    for candidate in candidates:
        url = make_url(candidate).set(drivername=driver)
        with contextlib.suppress(exc.DBAPIError):
            _execute(url, "SELECT 1")
            return url
    return None


def _execute(url: URL, statement: str) -> None:
    arguments = {"connect_timeout": PROBE_TIMEOUT_S}
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    with engine.connect() as connection:
        connection.execute(text(statement))


@contextlib.contextmanager
def _created_database(server: URL, statement: str) -> Iterator[URL]:
    name = f"ehpc_test_{uuid.uuid4().hex}"
    _execute(server, statement.format(name))
    try:
        yield server.set(database=name)
    finally:
        force = " WITH (FORCE)" if server.get_backend_name() == "postgresql" else ""
        _execute(server, f"DROP DATABASE {name}{force}")


def _binary(name: str) -> str:
    """Return the path of an installed server program; Debian keeps PostgreSQL's outside PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or (str(versions[-1]) if versions else None)
    return found or _unavailable(f"no server answers, and {name} is not installed to start one")


def _unprivileged_user() -> str:
    """Return who shall run a server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run_as(user: str, *command: str) -> None:
    """Run a program to its end; what it wrote is shown when it fails."""
    is_other = user != getpass.getuser()
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd="/",
        text=True,
        timeout=START_TIMEOUT_S,
        user=user if is_other else None,
        extra_groups=[] if is_other else None,
    )
    if done.returncode:
        pytest.fail(f"{command[0]} failed: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def _server_folder(user: str) -> Iterator[Path]:
    # Not below tmp_path: its path is too long for a socket's, and another user may not enter it.
    with tempfile.TemporaryDirectory(prefix="ehpc-test-", ignore_cleanup_errors=True) as name:
        if user != getpass.getuser():
            shutil.chown(name, user)
        yield Path(name)


@contextlib.contextmanager
def _temporary_postgresql() -> Iterator[URL]:
    initdb, pg_ctl = _binary("initdb"), _binary("pg_ctl")
    user = _unprivileged_user()
    with _server_folder(user) as folder:
        data, log = str(folder / "data"), str(folder / "log")
        _run_as(user, initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        _run_as(user, pg_ctl, "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield make_url(f"postgresql+psycopg://postgres@/postgres?host={folder}")
        finally:
            _run_as(user, pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")


@contextlib.contextmanager
def _temporary_mariadb() -> Iterator[URL]:
    install, server = _binary("mariadb-install-db"), _binary("mariadbd")
    user = getpass.getuser()
    with _server_folder(user) as folder:
        data, socket = str(folder / "data"), str(folder / "socket")
        own = ("--no-defaults", f"--datadir={data}", f"--user={user}")
        _run_as(user, install, *own, "--auth-root-authentication-method=normal", "--skip-test-db")
        log = (folder / "log").open("wb")
        settings = (f"--socket={socket}", f"--pid-file={folder / 'pid'}", "--skip-networking")
        with log, subprocess.Popen([server, *own, *settings, "--skip-sync-frm"], stdout=log, stderr=log) as process:
            try:
                yield _awaited(process, f"mariadb+pymysql://root@localhost/?unix_socket={socket}", folder / "log")
            finally:
                process.terminate()


def _awaited(process: subprocess.Popen[bytes], url: str, log: Path) -> URL:
    """Return the URL once its server answers; fail with the server's own words when it ends."""
    for _ in range(START_TIMEOUT_S * 10):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
        answering = _answering([url], "mariadb+pymysql")
        if answering:
            return answering
    pytest.fail(f"the temporary server does not answer: {log.read_text(errors='replace')}")
