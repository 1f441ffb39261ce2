"""Runs that are asked to stop, and databases that refuse in the middle."""

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, Connection, event, select

from sync.errors import DatabaseError, ExitCode, RunInterruptedError
from sync.inventory import RunStatus
from sync.run import Progress
from sync.simulator.catalogue import catalogue_of
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.schema import lease, run
from tests.durability.jobs import after, broken_promises, failing, make_run, repair
from tests.store.builders import an_image, contents_of, execute


def statuses_of(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(run.c.status).order_by(run.c.id)).scalars())


def lease_owner_of(database: Database) -> str | None:
    with database.reading() as connection:
        return connection.execute(select(lease.c.owner)).scalar()


def stop_after(steps: int, interrupt: threading.Event) -> Callable[[Progress], None]:
    """Return a listener that asks the run to stop after its n-th step."""
    numbers = iter(range(1, 10_000))

    def listen(_: Progress) -> None:
        if next(numbers) == steps:
            interrupt.set()

    return listen


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_an_interrupted_run_leaves_whole_targets_and_gives_the_lease_back(
    database: Database, simulator: Simulator, steps: int
) -> None:
    make_run(database, simulator.url)
    simulator.catalogue = after()
    interrupt = threading.Event()
    with pytest.raises(RunInterruptedError, match="asked to stop"):
        make_run(database, simulator.url, interrupt=interrupt, on_progress=stop_after(steps, interrupt))
    assert statuses_of(database)[-1] == "interrupted"
    assert lease_owner_of(database) is None
    assert broken_promises(database) == []


def test_the_run_after_an_interrupted_one_ends_what_it_began(database: Database, simulator: Simulator) -> None:
    interrupt = threading.Event()
    interrupt.set()
    with pytest.raises(RunInterruptedError):
        make_run(database, simulator.url, interrupt=interrupt)
    simulator.faults = []
    assert make_run(database, simulator.url).status is RunStatus.OK
    assert statuses_of(database) == ["interrupted", "ok"]
    assert broken_promises(database) == []


def lose_connection_at(database: Database, write_number: int) -> None:
    """Let the server hang up on whoever writes, in place of the n-th write."""
    numbers = iter(range(1, 10_000))
    ways = {"postgresql": "SELECT pg_terminate_backend(pg_backend_pid())", "mysql": "KILL CONNECTION_ID()"}

    def hang_up(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.split(maxsplit=1)[0] in {"INSERT", "UPDATE", "DELETE"} and next(numbers) == write_number:
            connection.exec_driver_sql(ways[database.dialect_name])

    event.listen(database.engine, "before_cursor_execute", hang_up)


@pytest.fixture(params=["postgresql", "mariadb"])
def server_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database on a server."""
    opened = Database(request.getfixturevalue(f"{request.param}_url"))
    yield opened
    opened.close()


@pytest.mark.parametrize("write_number", [4, 9, 15, 26])
def test_a_server_that_hangs_up_in_the_middle_fails_the_run_and_leaves_whole_targets(
    server_database: Database, simulator: Simulator, write_number: int
) -> None:
    make_run(server_database, simulator.url)
    simulator.catalogue, simulator.faults = after(), [failing("ecs.u7.large")]
    lose_connection_at(server_database, write_number)
    with pytest.raises(DatabaseError) as caught:
        make_run(server_database, simulator.url)
    assert caught.value.exit_code is ExitCode.FAILED
    assert broken_promises(server_database) == []
    assert repair(server_database, simulator.url).status is RunStatus.HELD
    assert broken_promises(server_database) == []


def test_a_run_that_the_database_failed_is_closed_as_failed(server_database: Database, simulator: Simulator) -> None:
    make_run(server_database, simulator.url)
    simulator.catalogue = after()
    lose_connection_at(server_database, 12)
    with pytest.raises(DatabaseError):
        make_run(server_database, simulator.url)
    assert statuses_of(server_database) == ["partial", "failed"]
    assert lease_owner_of(server_database) is None


def test_a_full_disk_fails_the_run_and_leaves_whole_targets(sqlite_url: str, simulator: Simulator) -> None:
    database = Database(sqlite_url)
    make_run(database, simulator.url)
    expected = contents_of(database)["availability"]
    many = [an_image(f"m-{number}", os_name="x" * 1000) for number in range(200)]
    simulator.catalogue = catalogue_of({"cn-hangzhou": {"ecs.c7.large": many}, "cn-beijing": {"ecs.c7.large": many}})
    database.close()
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1"))
    with pytest.raises(DatabaseError, match="make room") as caught:
        make_run(database, simulator.url)
    assert caught.value.exit_code is ExitCode.FAILED
    assert contents_of(database)["availability"] == expected
    assert broken_promises(database) == []
    database.close()


def test_a_database_that_is_away_before_the_end_fails_the_run(
    postgresql_server: URL, postgresql_url: str, simulator: Simulator
) -> None:
    database, server = Database(postgresql_url), Database(postgresql_server.render_as_string(hide_password=False))
    make_run(database, simulator.url)
    before_run = contents_of(database)
    simulator.catalogue = after()

    def close_doors(_: Progress) -> None:
        name = database.engine.url.database
        execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        execute(server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    with pytest.raises(DatabaseError, match="check that the server runs") as caught:
        make_run(database, simulator.url, on_progress=close_doors)
    execute(server, f"ALTER DATABASE {database.engine.url.database} ALLOW_CONNECTIONS true")
    assert caught.value.exit_code is ExitCode.FAILED
    assert contents_of(database)["availability"] == before_run["availability"]
    assert repair(database, simulator.url).status is RunStatus.HELD
    assert statuses_of(database) == ["partial", "interrupted", "held"]
    database.close()
    server.close()
