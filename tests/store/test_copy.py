"""A copied history: the same rows on another database, verified, all or nothing, and runs that go on there."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from sync.errors import ConfigError, DatabaseError, LeaseLostError, LeaseTakenError, SchemaVersionError, SyncError
from sync.inventory import HeldRemoval, TargetUpdate, digest_of
from sync.simulator.catalogue import with_image_added
from sync.simulator.fault_text import parse_faults
from sync.store import copy, lease
from sync.store.copy import COUNTED, copy_history
from sync.store.database import Database, head_revision, require_history, schema_revision
from sync.store.lease import Holder, Lease, find_holder
from sync.store.schema import change, image, metadata, notification_cursor, open_alert, run, target
from tests.cli.story import EDITS, FAILURES, Recording, an_image, at
from tests.conftest import CREATE, DIALECTS, _created_database
from tests.store.builders import NOON, a_target, contents_of, expire_lease, failed, observed, writer_of
from tests.store.builders import an_image as built_image
from tests.store.test_exactness import MOMENTS, TWINS


@pytest.fixture(params=DIALECTS)
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A second empty database; once for each database server."""
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path / 'copy.db'}")
        yield opened
        opened.close()
        return
    with _created_database(request.getfixturevalue(f"{request.param}_server"), CREATE[request.param]) as url:
        opened = Database(url.render_as_string(hide_password=False))
        yield opened
        opened.close()


@pytest.fixture
def recording(database_url: str) -> Iterator[Recording]:
    """The story of tests/cli, recorded, with its simulator still answering as it did last."""
    recorded = Recording(database_url)
    with recorded.simulator as simulator:
        for hours, edit in enumerate(EDITS):
            recorded.now = at(hours)
            simulator.catalogue = edit(simulator.catalogue)
            simulator.faults = parse_faults(FAILURES) if hours == 3 else ()
            recorded.make_run()
        recorded.now = at(4)
        yield recorded
    recorded.database.close()


def fill(database: Database) -> Database:
    """Write some of everything: odd texts and times, gaps, held removals, what channels were told."""
    images = [built_image(f"m-{number}", os_name=twin) for number, twin in enumerate(TWINS)]
    with writer_of(database) as writer:
        writer.write(observed(a_target(), images), failed(a_target("ecs.a1.large"), message="no\tanswer\\N\r\n"))
        for number, moment in enumerate(MOMENTS[:-1]):
            writer.write(observed(a_target(f"ecs.t{number}.large"), images[:2], moment))
        held = HeldRemoval(NOON, NOON, NOON, missed_runs=1, missed_answers=1)
        kept = TargetUpdate(a_target(), NOON, is_observed=True, held={images[0]: held}, image_digest=digest_of(images))
        writer.write(kept)
    with database.writing() as connection:
        alert = {"channel": "mail", "incident": "stale", "subject": "no run", "told_at": NOON}
        connection.execute(sa.insert(open_alert), [alert])
        connection.execute(sa.insert(notification_cursor), [{"channel": "mail", "change_id": 2**40}])
    return database


@pytest.fixture
def filled(sqlite_url: str) -> Iterator[Database]:
    """A small history of everything, in SQLite."""
    opened = fill(Database(sqlite_url))
    yield opened
    opened.close()


def rows_of(database: Database) -> int:
    return sum(len(rows) for rows in contents_of(database).values())


def test_every_row_of_every_table_arrives(database: Database, destination: Database) -> None:
    before = contents_of(fill(database))
    counts = copy_history(database, destination)
    assert contents_of(destination) == before
    assert contents_of(database) == before
    assert counts == {name: len(rows) for name, rows in before.items()}


def test_indexes_and_references_are_there_after_a_copy(filled: Database, destination: Database) -> None:
    copy_history(filled, destination)
    copied, fresh = (sa.inspect(entry.engine) for entry in (destination, filled))
    for table in ("availability", "change"):
        assert {entry["name"] for entry in fresh.get_indexes(table)} <= {
            entry["name"] for entry in copied.get_indexes(table)
        }
        assert {entry["name"] for entry in copied.get_foreign_keys(table)} == {
            entry["name"] for entry in fresh.get_foreign_keys(table)
        }


def test_a_copy_leaves_the_schema_of_this_process_as_it_was(filled: Database, destination: Database) -> None:
    before = [str(CreateTable(table)) for table in metadata.sorted_tables]
    copy_history(filled, destination)
    assert [str(CreateTable(table)) for table in metadata.sorted_tables] == before


def test_runs_go_on_in_the_copy_and_write_nothing_but_their_rows(recording: Recording, destination: Database) -> None:
    copy_history(recording.database, destination)
    before = contents_of(destination)
    recording.database.close()
    recording.database = destination
    recording.make_run()
    after = contents_of(destination)
    assert len(after.pop("run")) == len(before.pop("run")) + 1
    assert len(after.pop("region_run")) == len(before.pop("region_run")) + 2
    assert after == before


def test_ids_whose_rows_are_gone_are_never_handed_out_again(recording: Recording, destination: Database) -> None:
    with recording.database.writing() as connection:
        last = connection.execute(sa.select(sa.func.max(change.c.id))).scalar_one()
        connection.execute(sa.delete(change).where(change.c.id > last - 3))
    copy_history(recording.database, destination)
    recording.database.close()
    recording.database = destination
    recording.simulator.catalogue = with_image_added(
        recording.simulator.catalogue, an_image("m-new", "Debian", "13"), region_id="cn-hangzhou", instance_type="*"
    )
    recording.make_run()
    with destination.reading() as connection:
        ids = list(
            connection.execute(sa.select(change.c.id).where(change.c.id > last - 3).order_by(change.c.id)).scalars()
        )
    assert ids
    assert ids[0] > last


def test_an_interrupted_copy_leaves_an_empty_history_and_can_be_repeated(
    filled: Database, destination: Database
) -> None:
    def interrupt(_: int, table: str) -> None:
        if table == "availability":
            raise SyncError("enough")

    with pytest.raises(SyncError, match="enough"):
        copy_history(filled, destination, interrupt)
    assert rows_of(destination) == 0
    copy_history(filled, destination)
    assert contents_of(destination) == contents_of(filled)


FORGING = {
    "sqlite": ["CREATE TRIGGER forge AFTER INSERT ON target BEGIN UPDATE target SET instance_type = 'x'||id; END"],
    "postgresql": [
        "CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.image_digest = 1; RETURN NEW; END'",
        "CREATE TRIGGER forge BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION forge()",
    ],
    "mysql": ["CREATE TRIGGER forge BEFORE INSERT ON target FOR EACH ROW SET NEW.instance_type = NEW.id"],
}
"""Triggers that let other values arrive than were sent."""


def migrate(database: Database) -> None:
    taken = Lease(database)
    taken.acquire()
    taken.release()


def test_a_row_that_arrives_with_other_values_is_an_error_and_nothing_is_copied(
    filled: Database, destination: Database
) -> None:
    migrate(destination)
    for statement in FORGING[destination.dialect_name]:
        with destination.writing() as connection:
            connection.exec_driver_sql(statement)
    with pytest.raises(DatabaseError, match="the table target did not arrive"):
        copy_history(filled, destination)
    assert rows_of(destination) == 0


@pytest.mark.parametrize("text", ["x" * 1025, "nul\0"], ids=["too long", "nul"])
def test_a_text_that_the_destination_cannot_hold_is_an_error_that_names_the_table(
    filled: Database, postgresql_url: str, text: str
) -> None:
    with filled.writing() as connection:
        connection.execute(sa.update(image).where(image.c.id == 1).values(os_name=text))
    destination = Database(postgresql_url)
    with pytest.raises(DatabaseError, match=r"refused a row of the table image: .*; nothing was copied"):
        copy_history(filled, destination)
    assert rows_of(destination) == 0
    destination.close()


def test_a_text_that_is_too_long_for_mariadb_is_never_cut(filled: Database, mariadb_url: str) -> None:
    with filled.writing() as connection:
        connection.execute(sa.update(target).where(target.c.id == 1).values(region_id="x" * 65))
    destination = Database(mariadb_url)
    with pytest.raises(DatabaseError, match=r"refused a row of the table target: .*too long.*; nothing was copied"):
        copy_history(filled, destination)
    assert rows_of(destination) == 0
    destination.close()


def test_a_destination_with_a_history_is_refused_and_stays_as_it_is(filled: Database, destination: Database) -> None:
    with writer_of(destination) as writer:
        writer.write(observed(a_target("ecs.other.large"), [built_image()]))
    before = contents_of(destination)
    with pytest.raises(ConfigError, match=r"has a history already: its table .* has rows; name a new, empty database"):
        copy_history(filled, destination)
    assert contents_of(destination) == before


def test_a_migrated_destination_without_rows_is_taken(filled: Database, destination: Database) -> None:
    migrate(destination)
    copy_history(filled, destination)
    assert contents_of(destination) == contents_of(filled)


def test_a_database_of_another_program_is_left_as_it_is(filled: Database, destination: Database) -> None:
    with destination.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE foreign_table (id INTEGER)"))
    with pytest.raises(ConfigError, match="tables of another program, such as foreign_table; name a new, empty"):
        copy_history(filled, destination)
    assert sa.inspect(destination.engine).get_table_names() == ["foreign_table"]


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE TABLE run (id INTEGER)"], "has a table run that another program made"),
        (
            ["CREATE TABLE alembic_version (version_num VARCHAR(32))", "INSERT INTO alembic_version VALUES ('abc123')"],
            "another program's \\(its schema is 'abc123'\\)",
        ),
    ],
)
def test_tables_of_another_program_are_never_touched(database: Database, statements: list[str], words: str) -> None:
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    before = sa.inspect(database.engine).get_table_names()
    with pytest.raises(SchemaVersionError, match=words):
        Lease(database).acquire()
    with pytest.raises(SchemaVersionError, match=words):
        require_history(database)
    assert sa.inspect(database.engine).get_table_names() == before


def test_a_database_is_not_copied_to_itself(database: Database, database_url: str) -> None:
    fill(database)
    again = Database(database_url)
    with pytest.raises(ConfigError, match="is the configured database itself"):
        copy_history(database, again)


def test_a_file_is_not_copied_to_itself_by_another_name(filled: Database, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is the configured database itself"):
        copy_history(filled, Database(f"sqlite:///{tmp_path / 'link' / 'history.db'}"))


def test_a_server_is_not_copied_to_itself_by_another_name(postgresql_url: str) -> None:
    source = Database(postgresql_url)
    migrate(source)
    other_name = source.engine.url.update_query_dict({"application_name": "another"})
    other = Database(other_name.render_as_string(hide_password=False))
    with pytest.raises(ConfigError, match="is the configured database itself"):
        copy_history(source, other)
    source.close()
    other.close()


def test_a_source_without_history_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(SchemaVersionError, match="there is no history"):
        copy_history(database, Database(f"sqlite:///{tmp_path / 'copy.db'}"))
    assert not (tmp_path / "copy.db").exists()


def test_nothing_is_copied_while_a_run_is_under_way(filled: Database, destination: Database) -> None:
    run = Lease(filled)
    run.acquire()
    with pytest.raises(LeaseTakenError):
        copy_history(filled, destination)
    run.release()
    copy_history(filled, destination)
    assert contents_of(destination) == contents_of(filled)


def test_no_run_can_begin_during_a_copy_and_both_databases_are_free_afterwards(
    filled: Database, destination: Database
) -> None:
    refused = []

    def begin(_: int, table: str) -> None:
        if table == "run":
            with pytest.raises(LeaseTakenError):
                Lease(filled).take()
            refused.append(table)

    copy_history(filled, destination, begin)
    assert refused == ["run"]
    for database in (filled, destination):
        migrate(database)


def test_a_copy_that_lost_its_lease_writes_nothing(filled: Database, destination: Database) -> None:
    def lose(_: int, table: str) -> None:
        if table == "image":
            expire_lease(filled)
            Lease(filled).take()

    with pytest.raises(SyncError, match="another run took over"):
        copy_history(filled, destination, lose)
    assert rows_of(destination) == 0


def test_a_copy_renews_its_lease_while_it_goes_on(
    filled: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    holders = []

    def linger(_: int, table: str) -> None:
        if table == "image":
            expire_lease(filled)
            holders.append(wait_for_holder(filled))

    copy_history(filled, destination, linger)
    assert holders
    assert None not in holders


def wait_for_holder(database: Database) -> Holder | None:
    """Return who holds the lease, as soon as anybody does; None where nobody does within seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with database.reading() as connection:
            if holder := find_holder(connection):
                return holder
    return None


def between_the_lease_and_the_copy(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen when the copy has taken both leases and has not begun to write."""
    last_id = copy._last_id

    def interfere(connection: sa.Connection, table: sa.Table) -> int:
        if table is COUNTED[0]:
            happens()
        return last_id(connection, table)

    monkeypatch.setattr(copy, "_last_id", interfere)


def test_a_copy_whose_destination_another_took_over_writes_nothing(
    filled: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_over() -> None:
        expire_lease(destination)
        Lease(destination).take()

    between_the_lease_and_the_copy(monkeypatch, take_over)
    with pytest.raises(LeaseLostError):
        copy_history(filled, destination)
    assert rows_of(destination) == 0


def test_rows_that_came_into_the_destination_since_it_was_looked_at_are_left_alone(
    filled: Database, destination: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with destination.writing() as connection:
            row = {"started_at": NOON, "status": "failed", "trigger": "test"}
            connection.execute(sa.insert(run).values(row))

    between_the_lease_and_the_copy(monkeypatch, write)
    with pytest.raises(ConfigError, match="its table run has rows"):
        copy_history(filled, destination)
    assert rows_of(destination) == 1


def test_the_copy_has_the_tables_of_this_version(filled: Database, destination: Database) -> None:
    copy_history(filled, destination)
    with destination.reading() as connection:
        assert schema_revision(connection) == head_revision()
