"""Migrations: equal to the schema, down and up again, repeatable after any cut, and refused where they must be."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, inspect, select, text

from sync.errors import SchemaVersionError
from sync.store.database import (
    Database,
    alembic_config,
    head_revision,
    migrate,
    migrations_path,
    require_history,
    schema_revision,
)
from sync.store.lease import Lease
from sync.store.schema import lease, metadata, target, views
from tests.store.builders import Writer, a_target, an_image, contents_of, execute, observed

REPOSITORY = Path(__file__).parents[2]

LATER_MIGRATION = """
\"\"\"What a later release might add.\"\"\"
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "later", "{head}", None, None
def upgrade():
    op.add_column("target", sa.Column("note", sa.Integer))
def downgrade():
    op.drop_column("target", "note")
"""

LATER_PROGRAM = """
import sys
from sync.errors import SchemaVersionError
from sync.store.database import Database, require_history
from sync.store.lease import Lease
database = Database(sys.argv[1])
try:
    require_history(database)
except SchemaVersionError as error:
    print(error)
lease = Lease(database)
lease.acquire()
lease.release()
require_history(database)
database.close()
"""


class PulledPlugError(Exception):
    """The power is gone."""


def take_and_give_back(database: Database) -> None:
    """Do what a run does first: take the lease, migrate under it."""
    taken = Lease(database)
    taken.acquire()
    taken.release()


STRUCTURE_OF_POSTGRESQL = (
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """
    SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    """,
    """
    SELECT concat_ws(' ', table_name, column_name, data_type, character_maximum_length, is_nullable, column_default)
    FROM information_schema.columns JOIN pg_tables ON table_name = tablename WHERE schemaname = 'public'
    """,
)


def structure_of(database: Database) -> list[str]:
    """Return the lines by which the database itself describes our tables; the order of a table's parts is free."""
    with database.reading() as connection:
        if database.dialect_name == "sqlite":
            query = "SELECT tbl_name || ' ' || sql FROM sqlite_master WHERE type <> 'view' AND sql IS NOT NULL"
            texts = list(connection.execute(text(query)).scalars())
        elif database.dialect_name == "postgresql":
            texts = [row for query in STRUCTURE_OF_POSTGRESQL for row in connection.execute(text(query)).scalars()]
        else:
            texts = [connection.execute(text(f"SHOW CREATE TABLE `{name}`")).one()[1] for name in metadata.tables]
    described = "\n".join(entry for entry in texts if "alembic_version" not in entry)
    # A column that a migration added stands in the line of the one before it.
    described = re.sub(r",\s+(?![^(]*\))", ",\n", described)
    return sorted(line.strip().rstrip(",") for line in described.splitlines())


def names_in(database: Database) -> set[str]:
    """Return the names of all tables and views."""
    with database.reading() as connection:
        inspector = inspect(connection)
        return {*inspector.get_table_names(), *inspector.get_view_names()}


def downgrade(database: Database) -> None:
    """Take all migrations back."""
    with database.writing() as connection:
        command.downgrade(alembic_config(connection), "base")


def drop_everything(database: Database) -> None:
    """Leave an empty database, as before the first run."""
    downgrade(database)
    execute(database, "DROP TABLE alembic_version")
    execute(database, "DROP TABLE lease")


def pull_plug_at(database: Database, statement_number: int) -> Callable[[], None]:
    """Raise instead of the n-th statement that changes the structure; return how to end that."""
    numbers = iter(range(1, 10_000))

    def count(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if (
            statement.split(maxsplit=1)[0] in {"ALTER", "CREATE", "DROP", "INSERT"}
            and next(numbers) == statement_number
        ):
            raise PulledPlugError

    event.listen(database.engine, "before_cursor_execute", count)
    return lambda: event.remove(database.engine, "before_cursor_execute", count)


def test_autogenerate_finds_no_difference_between_schema_and_migrations(database: Database) -> None:
    take_and_give_back(database)
    options = {"compare_type": True, "compare_server_default": True}
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    take_and_give_back(database)
    migrated = structure_of(database)
    drop_everything(database)
    with database.writing() as connection:
        metadata.create_all(connection)
    assert structure_of(database) == migrated


def test_down_and_up_again_gives_the_same_structure(database: Database) -> None:
    take_and_give_back(database)
    names, structure = names_in(database), structure_of(database)
    downgrade(database)
    assert names_in(database) == {"alembic_version", "lease"}
    take_and_give_back(database)
    assert names_in(database) == names == {"alembic_version", *metadata.tables, *views.tables}
    assert structure_of(database) == structure


def test_migrating_twice_changes_nothing(database: Database) -> None:
    take_and_give_back(database)
    structure = structure_of(database)
    with database.writing() as connection:
        migrate(connection)
    assert structure_of(database) == structure


@pytest.mark.parametrize("statement_number", [1, 3, 7, 13, 25, 32])
def test_a_migration_that_was_cut_short_is_finished_by_the_next_run(database: Database, statement_number: int) -> None:
    plug_in_again = pull_plug_at(database, statement_number)
    with pytest.raises(PulledPlugError):
        take_and_give_back(database)
    plug_in_again()
    take_and_give_back(database)
    require_history(database)
    assert names_in(database) == {"alembic_version", *metadata.tables, *views.tables}


def test_tables_that_exist_already_stand_with_their_rows_when_a_migration_is_repeated(
    database: Database, writer: Writer
) -> None:
    writer.write(observed(a_target(), [an_image()]))
    before = contents_of(database)
    writer.lease.release()
    execute(database, "DELETE FROM alembic_version")
    execute(database, "DROP VIEW image_changes")
    execute(database, "DROP TABLE notification_cursor")
    take_and_give_back(database)
    assert contents_of(database) == before
    assert names_in(database) == {"alembic_version", *metadata.tables, *views.tables}


def test_a_database_of_a_newer_program_is_refused_and_left_as_it_is(database: Database) -> None:
    take_and_give_back(database)
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    with database.reading() as connection:
        before = connection.execute(select(lease)).all()
    for attempt in (take_and_give_back, require_history):
        with pytest.raises(SchemaVersionError, match=r"newer ehpc-image-sync \(schema 9999\); upgrade this program"):
            attempt(database)
    with database.reading() as connection:
        assert connection.execute(select(lease)).all() == before


def test_a_later_program_refuses_to_read_older_tables_and_its_next_run_migrates_them(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    take_and_give_back(database)
    later = tmp_path / "later"
    for name in ("sync", "migrations"):
        shutil.copytree(REPOSITORY / name, later / name, ignore=shutil.ignore_patterns("__pycache__"))
    (later / "migrations/versions/9999_later.py").write_text(LATER_MIGRATION.format(head=head_revision()))
    done = subprocess.run(
        [sys.executable, "-c", LATER_PROGRAM, database_url],
        capture_output=True,
        check=False,
        cwd=later,
        env=os.environ | {"PYTHONPATH": str(later)},
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"older than this program (schema {head_revision()}); run: ehpc-image-sync db upgrade" in done.stdout
    with database.reading() as connection:
        assert "note" in {column["name"] for column in inspect(connection).get_columns(target.name)}


def test_an_empty_database_has_no_history_to_read(database: Database) -> None:
    with pytest.raises(SchemaVersionError, match=r"no history in .* yet; run: ehpc-image-sync run"):
        require_history(database)


def test_asking_for_a_history_does_not_create_its_file(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    with pytest.raises(SchemaVersionError):
        require_history(database)
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_a_history_is_at_the_newest_revision_after_the_first_run(database: Database) -> None:
    take_and_give_back(database)
    with database.reading() as connection:
        assert schema_revision(connection) == head_revision()


def test_the_migrations_are_one_line() -> None:
    scripts = ScriptDirectory(str(migrations_path()))
    assert scripts.get_heads() == [head_revision()]
    assert len(scripts.get_bases()) == 1
