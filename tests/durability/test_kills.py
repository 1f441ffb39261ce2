"""A run that is killed before any of its writes leaves whole targets, and the next run ends what it began."""

import contextlib
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url, text

from sync.simulator.catalogue import catalogue_of
from sync.simulator.server import Simulator
from sync.store.database import Database
from tests.durability.jobs import FEW, after, broken_promises, failing, make_run, repair, timeless_views
from tests.store.builders import an_image, expire_lease

REPOSITORY = Path(__file__).parents[2]
MOST_WRITES = 500  # more than any run of these tests makes; a run that never ends would make the test never end

pytestmark = pytest.mark.slow

Copies = Callable[[str], contextlib.AbstractContextManager[str]]


@pytest.fixture
def victims(simulator: Simulator) -> Iterator[subprocess.Popen[str]]:
    """The process whose forks die."""
    command = [sys.executable, "-m", "tests.durability.victims", simulator.url]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def fate_of(victims: subprocess.Popen[str], url: str, write_number: int) -> str:
    """Make a run that dies before its n-th write, and return how it ended."""
    print(url, write_number, file=victims.stdin, flush=True)
    return victims.stdout.readline().strip() if victims.stdout else ""


@contextlib.contextmanager
def copy_of_file(url: str) -> Iterator[str]:
    file = Path(str(make_url(url).database))
    copied = file.with_name(f"{uuid.uuid4().hex}.db")
    if file.exists():
        shutil.copy(file, copied)
    yield f"sqlite:///{copied}"


@contextlib.contextmanager
def copy_on_server(url: str) -> Iterator[str]:
    """Give a copy of a PostgreSQL database to which nobody is connected."""
    original = make_url(url)
    name = f"{original.database}_{uuid.uuid4().hex[:8]}"
    admin = original.set(drivername="postgresql+psycopg", database="postgres")
    execute_as(admin, f"CREATE DATABASE {name} TEMPLATE {original.database}")
    try:
        yield original.set(database=name).render_as_string(hide_password=False)
    finally:
        execute_as(admin, f"DROP DATABASE {name} WITH (FORCE)")


def execute_as(admin: URL, statement: str) -> None:
    engine = create_engine(admin, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


def survive(url: str, copies: Copies, victims: subprocess.Popen[str], endpoint: str, write_numbers: range) -> int:
    """Kill runs before every n-th write, each on a fresh copy, and repair them; return how many died."""
    with copies(url) as whole, contextlib.closing(Database(whole)) as database:
        make_run(database, endpoint)
        expected = timeless_views(database)
    for death_count, write_number in enumerate(write_numbers):
        with copies(url) as copied:
            fate = fate_of(victims, copied, write_number)
            with contextlib.closing(Database(copied)) as database:
                assert (write_number, broken_promises(database)) == (write_number, [])
                if fate == "killed":
                    repair(database, endpoint)
                assert (write_number, timeless_views(database)) == (write_number, expected)
                assert broken_promises(database) == []
        if fate != "killed":
            assert fate == "0"
            return death_count
    pytest.fail("the run makes more writes than it should")


def change_everything(simulator: Simulator, url: str) -> None:
    """Make the first run, then change the offer in every way."""
    with contextlib.closing(Database(url)) as database:
        make_run(database, simulator.url)
    simulator.catalogue, simulator.faults = after(), [failing("ecs.u7.large")]


def test_a_first_run_may_die_before_any_write_on_sqlite(
    sqlite_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    assert survive(sqlite_url, copy_of_file, victims, simulator.url, range(1, MOST_WRITES, 5)) > 8


def test_a_run_with_every_kind_of_change_may_die_before_any_write_on_sqlite(
    sqlite_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    change_everything(simulator, sqlite_url)
    assert survive(sqlite_url, copy_of_file, victims, simulator.url, range(1, MOST_WRITES, 2)) > 15


def test_a_first_run_may_die_before_any_write_on_postgresql(
    postgresql_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    assert survive(postgresql_url, copy_on_server, victims, simulator.url, range(1, MOST_WRITES, 16)) > 2


def test_a_run_with_every_kind_of_change_may_die_before_any_write_on_postgresql(
    postgresql_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    change_everything(simulator, postgresql_url)
    assert survive(postgresql_url, copy_on_server, victims, simulator.url, range(2, MOST_WRITES, 8)) > 3


def test_runs_may_die_again_and_again_on_mariadb(
    mariadb_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    change_everything(simulator, mariadb_url)
    with contextlib.closing(Database(mariadb_url)) as database:
        for write_number in range(1, 24, 4):
            assert fate_of(victims, mariadb_url, write_number) == "killed"
            assert broken_promises(database) == []
            expire_lease(database)
        repair(database, simulator.url)
        assert broken_promises(database) == []


def test_a_region_of_several_transactions_may_die_between_them(
    sqlite_url: str, simulator: Simulator, victims: subprocess.Popen[str]
) -> None:
    names = [f"ecs.t{number:03}.large" for number in range(510)]
    simulator.faults = []
    simulator.catalogue = catalogue_of({"cn-hangzhou": dict.fromkeys(names, FEW)})
    with contextlib.closing(Database(sqlite_url)) as database:
        make_run(database, simulator.url)
    simulator.catalogue = catalogue_of({"cn-hangzhou": dict.fromkeys(names, (*FEW, an_image("m-new")))})
    assert survive(sqlite_url, copy_of_file, victims, simulator.url, range(13, MOST_WRITES, 9)) > 1
