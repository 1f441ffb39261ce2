"""What goes wrong with a database is told in one sentence, without traceback and without password."""

import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import URL, Connection, func, insert, make_url, select, text

from sync.errors import ConfigError, DatabaseError, ExitCode, SyncError
from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.schema import run
from tests.store.builders import NOON, a_target, an_image, contents_of, observed, writer_of
from tests.store.loginserver import RefusingServer

CANARY = "canary-secret-77c1"
NOBODY = 65534  # the user without rights, on every Linux and BSD


def refusal_of(url: str) -> SyncError:
    """Return the error of a first run on that database."""
    with pytest.raises(SyncError) as caught:
        take_lease(url)
    return caught.value


def take_lease(url: str) -> None:
    database = Database(url)
    try:
        Lease(database).acquire()
    finally:
        database.close()


def assert_is_sentence(error: SyncError, *words: str) -> None:
    """Assert that the message is one line that holds the words, and that the password is nowhere in sight."""
    message = str(error)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert CANARY not in "".join(traceback.format_exception(error))
    assert "sqlalche.me" not in message


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_server_that_is_down_is_named_with_what_to_check(scheme: str, closed_port: int) -> None:
    error = refusal_of(f"{scheme}://reader:{CANARY}@127.0.0.1:{closed_port}/history")
    assert isinstance(error, DatabaseError)
    assert error.exit_code is ExitCode.FAILED
    assert_is_sentence(error, f"reader:***@127.0.0.1:{closed_port}/history", "check that the server runs")


def test_a_wrong_password_on_mariadb_is_told(mariadb_server: URL) -> None:
    url = mariadb_server.set(username="nobody_here", password=CANARY, database="history")
    error = refusal_of(url.render_as_string(hide_password=False))
    assert_is_sentence(error, "Access denied", "nobody_here", "check that the server runs")


def test_a_wrong_password_on_postgresql_is_told() -> None:
    with RefusingServer() as server:
        error = refusal_of(f"postgresql://reader:{CANARY}@127.0.0.1:{server.port}/history")
    assert_is_sentence(error, "password authentication failed", "reader", "check that the server runs")


@pytest.mark.parametrize("family", ["postgresql", "mariadb"])
def test_an_unknown_database_is_told(request: pytest.FixtureRequest, family: str) -> None:
    server: URL = request.getfixturevalue(f"{family}_server")
    url = server.set(database="ehpc_test_never_created")
    error = refusal_of(url.render_as_string(hide_password=False))
    assert isinstance(error, DatabaseError)
    assert_is_sentence(error, "ehpc_test_never_created", "the database")


def test_a_password_among_the_options_is_not_shown(closed_port: int) -> None:
    error = refusal_of(f"postgresql://127.0.0.1:{closed_port}/history?user=reader&password={CANARY}")
    assert_is_sentence(error, "check that the server runs")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://127.0.0.1:{port}/history?no_such_option=1", "no_such_option"),
        ("mysql://127.0.0.1:{port}/history?no_such_option=1", "no_such_option"),
        ("mysql://127.0.0.1:{port}/history?ssl_ca=/no/such/file", "No such file"),
    ],
)
def test_an_option_that_the_driver_refuses_is_told(url: str, word: str, closed_port: int) -> None:
    assert_is_sentence(refusal_of(url.format(port=closed_port)), word)


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    error = refusal_of(f"sqlite:///{tmp_path}/no/such/folder/history.db")
    assert isinstance(error, DatabaseError)
    assert_is_sentence(error, "no/such/folder/history.db", "check that its folder exists")


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    assert_is_sentence(refusal_of(f"sqlite:///{tmp_path}"), str(tmp_path), "cannot be used")


def test_a_file_of_another_kind_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "letter.txt"
    other.write_text("Dear reader, this is no database. " * 200)
    before = other.read_bytes()
    assert_is_sentence(refusal_of(f"sqlite:///{other}"), "file is not a database", "restore a copy")
    assert other.read_bytes() == before


def test_a_damaged_file_is_told(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [an_image(f"m-{number}") for number in range(200)]))
    database.close()
    file = Path(str(make_url(sqlite_url).database))
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\xa5" * (len(whole) - 8192))
    damaged = Database(sqlite_url)
    with pytest.raises(DatabaseError) as caught:
        contents_of(damaged)
    damaged.close()
    assert_is_sentence(caught.value, "malformed", "restore a copy")


@pytest.fixture
def history_url(sqlite_url: str) -> str:
    """The URL of a file that holds a history."""
    database = Database(sqlite_url)
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [an_image()]))
    database.close()
    return sqlite_url


def test_a_file_that_may_only_be_read_is_told_to_who_would_write(history_url: str) -> None:
    file = make_url(history_url).database
    error = refusal_of(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert_is_sentence(error, "readonly", "check the permissions")


def test_a_file_that_may_only_be_read_can_be_read(history_url: str) -> None:
    file = make_url(history_url).database
    database = Database(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert len(contents_of(database)["availability"]) == 1
    database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_who_may_not_write_beside_the_file_is_told_so(history_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = shutil.copy(str(make_url(history_url).database), folder)
        Path(file).chmod(0o644)
        os.seteuid(NOBODY)
        try:
            error = refusal_of(f"sqlite:///{file}")
        finally:
            os.seteuid(0)
    assert_is_sentence(error, "readonly", "check the permissions of the file and its folder")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        (f"postgresql://reader:{CANARY}@127.0.0.1/history", "psycopg", "postgresql"),
        (f"mysql://reader:{CANARY}@127.0.0.1/history", "pymysql", "mysql"),
        (f"mariadb://reader:{CANARY}@127.0.0.1/history", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_is_told_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, url: str, driver: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    error = refusal_of(url)
    assert isinstance(error, ConfigError)
    assert_is_sentence(error, driver, f"pip install 'ehpc-image-sync[{extra}]'")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "is not a database URL"),
        ("history.db", "is not a database URL"),
        (f"postgresql//reader:{CANARY}@host/history", "is not a database URL"),
        (f"postgresql://reader:{CANARY}@host:port/history", "is not a database URL"),
        (f"oracle://reader:{CANARY}@host/history", "'oracle'"),
        (f"mysql+aiomysql://reader:{CANARY}@host/history", "'mysql+aiomysql'"),
        (f"postgresql+psycopg2://reader:{CANARY}@host/history", "use postgresql+psycopg"),
        (f"mysql://reader:{CANARY}@host", "names no database"),
        (f"postgresql://reader:{CANARY}@host/", "names no database"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_with_an_example(url: str, word: str) -> None:
    error = refusal_of(url)
    assert isinstance(error, ConfigError)
    assert error.exit_code is ExitCode.USAGE
    assert_is_sentence(error, "database_url", word)


def test_an_older_name_of_postgresql_is_understood() -> None:
    database = Database(f"postgres://reader:{CANARY}@host/history?sslpassword={CANARY}")
    assert database.label == "postgresql+psycopg://reader:***@host/history"
    database.close()


def test_a_statement_that_fails_shows_neither_sql_nor_values(database: Database) -> None:
    with pytest.raises(DatabaseError) as caught, database.reading() as connection:
        connection.execute(text("SELECT no_such_column FROM no_such_table WHERE x = :value"), {"value": CANARY})
    assert "SELECT" not in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_the_locks_of_a_process_that_hangs_inside_a_transaction_are_freed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url = request.getfixturevalue(f"{name}_url")
    make_tables(url)  # before: on a busy machine a migration rests for a second too
    monkeypatch.setattr("sync.store.database.IDLE_TRANSACTION_S", 1)
    database = Database(url)
    lease = Lease(database)
    lease.take()
    with pytest.raises(DatabaseError):
        hang_while(lease.renew, database, lease)  # it waits for the lock until the server ends the transaction
    database.close()


def make_tables(url: str) -> None:
    """Make the tables of an empty database, as the first run does."""
    database = Database(url)
    lease = Lease(database)
    lease.acquire()
    lease.release()
    database.close()


def hang_while(action: Callable[[], object], database: Database, lease: Lease) -> None:
    """Hold the lease's lock in a transaction without a statement while something else is done."""
    with database.writing() as hanging:
        lease.guard(hanging)
        action()
        lease.guard(hanging)


READ_ONLY = "(?i)read.?only"

WRITES = (
    "INSERT INTO lease (name, token) VALUES ('mine', 1)",
    "UPDATE image SET os_tag = 'mine'",
    "DELETE FROM availability",
    "CREATE TABLE mine (x INTEGER)",
    "DROP VIEW available_images",
)


@pytest.fixture
def written(database: Database) -> Iterator[Database]:
    """A database with one image, and a writer that holds it; once for each server."""
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [an_image()]))
        yield database


@pytest.fixture
def read_only(written: Database, database_url: str) -> Iterator[Database]:
    """The same database for reading only."""
    opened = Database(database_url, is_read_only=True)
    yield opened
    opened.close()


def execute_in(transaction: AbstractContextManager[Connection], *statements: str) -> None:
    """Execute statements, each in a transaction of its own, of one connection."""
    with transaction as connection:
        for statement in statements:
            connection.execute(text(statement))
            connection.commit()


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("way", ["reading", "writing"])
def test_a_database_that_is_read_only_refuses_every_write_by_itself(
    written: Database, read_only: Database, way: str, statement: str
) -> None:
    before = contents_of(written)
    for _ in range(3):  # the connection comes back from the pool, after an error too
        with pytest.raises(DatabaseError, match=READ_ONLY):
            execute_in(getattr(read_only, way)(), statement)
        assert len(contents_of(read_only)["image"]) == 1
    assert contents_of(written) == before


@pytest.mark.parametrize("statement", WRITES)
def test_a_second_transaction_of_one_connection_is_read_only_too(
    written: Database, read_only: Database, statement: str
) -> None:
    execute_in(read_only.reading(), "SELECT 1", "SELECT 2")
    with pytest.raises(DatabaseError, match=READ_ONLY):
        execute_in(read_only.reading(), "SELECT 1", statement)


def test_a_connection_that_comes_after_a_lost_one_is_read_only_too(written: Database, read_only: Database) -> None:
    with read_only.reading() as connection:
        connection.invalidate()
    with pytest.raises(DatabaseError, match=READ_ONLY):
        execute_in(read_only.writing(), WRITES[0])


def test_reading_goes_on_while_a_writer_writes_and_sees_what_is_committed(
    written: Database, read_only: Database
) -> None:
    with written.writing() as writing:
        writing.execute(text("UPDATE image SET os_tag = 'changed'"))
        with read_only.reading() as connection:
            assert connection.execute(text("SELECT os_tag FROM image")).scalar() != "changed"
    with read_only.reading() as connection:
        assert connection.execute(text("SELECT os_tag FROM image")).scalar() == "changed"


@pytest.mark.parametrize("form", ["{}", "file:{}?uri=true", "file:{}?mode=rwc&uri=true"])
def test_a_missing_file_is_not_created_by_who_only_reads(tmp_path: Path, form: str) -> None:
    database = Database(f"sqlite:///{form.format(tmp_path / 'history.db')}", is_read_only=True)
    with pytest.raises(DatabaseError, match="unable to open database file"):
        contents_of(database)
    database.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plain.db", "a b?c#d%41&e=ü.db"])
@pytest.mark.parametrize(
    "form", ["{}", "file:{}?uri=true", "file:{}?mode=rwc&uri=true&cache=private", "file:{}?mode=ro&uri=true"]
)
def test_every_way_to_name_a_file_can_be_read_only(history_url: str, tmp_path: Path, form: str, name: str) -> None:
    file = shutil.copy(str(make_url(history_url).database), tmp_path / name)
    quoted = quote(quote(str(file)) if "uri" in form else str(file))
    database = Database(f"sqlite:///{form.format(quoted)}", is_read_only=True)
    assert len(contents_of(database)["availability"]) == 1
    with pytest.raises(DatabaseError, match=READ_ONLY):
        execute_in(database.writing(), WRITES[0])
    database.close()


def test_a_file_that_a_statement_attaches_cannot_be_written_either(history_url: str, tmp_path: Path) -> None:
    database = Database(history_url, is_read_only=True)
    with database.reading() as connection, closing(connection.connection.cursor()) as cursor:
        connection.rollback()  # nothing can be attached inside a transaction
        cursor.execute(f"ATTACH '{tmp_path / 'other.db'}' AS other")
        with pytest.raises(sqlite3.OperationalError, match=READ_ONLY):
            cursor.execute("CREATE TABLE other.mine (x)")
    database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_read_beside_a_writer(history_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = shutil.copy(str(make_url(history_url).database), folder)
        Path(file).chmod(0o644)
        writer, reader = Database(f"sqlite:///{file}"), Database(f"sqlite:///{file}", is_read_only=True)
        with writer.reading():
            os.seteuid(NOBODY)
            try:
                assert len(contents_of(reader)["availability"]) == 1
            finally:
                os.seteuid(0)
        reader.close()
        writer.close()


def test_one_reading_is_one_snapshot_however_often_others_write(database: Database) -> None:
    lease = Lease(database)
    lease.acquire()
    lease.release()
    counted = select(func.count()).select_from(run)
    with database.reading() as connection:
        assert connection.execute(counted).scalar() == 0
        with database.writing() as other:
            other.execute(insert(run).values(started_at=NOON, status="ok", trigger="test"))
        assert connection.execute(counted).scalar() == 0
    with database.reading() as connection:
        assert connection.execute(counted).scalar() == 1


def test_a_reader_may_rest_for_as_long_as_its_answer_is_read(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    ask = text("SHOW idle_in_transaction_session_timeout")
    with database.reading() as connection:
        assert connection.execute(ask).scalar() == "0"
    with database.writing() as connection:
        assert connection.execute(ask).scalar() == "1min"
    database.close()
