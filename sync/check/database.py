"""The database: whether it answers, may be written and has this program's tables. What is written is taken back."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, delete, false, insert, select, text, update

from sync.check.result import CheckResult, State, failed, ok, skipped
from sync.config import Settings
from sync.errors import ConfigError, ExitCode, SchemaVersionError, SyncError
from sync.inventory import OPEN
from sync.store.database import Database, head_revision, schema_revision
from sync.store.history import find_known_names
from sync.store.known import find_region_ids
from sync.store.schema import lease, metadata

OLDEST_SERVERS = {"PostgreSQL": (14,), "MariaDB": (10, 6), "MySQL": (8,)}

GRANT = "give this user SELECT, INSERT, UPDATE and DELETE on all tables of the database, and USAGE on its sequences"


@dataclass(slots=True)
class History:
    """What the history knows, for what the API does not tell; empty where it cannot be read."""

    region_ids: Sequence[str] = ()
    types: frozenset[str] = frozenset()


def check_database(settings: Settings, history: History) -> Iterator[CheckResult]:
    """Connect, try to write, look at the tables' version; fill ``history`` with what it knows."""
    try:
        database = Database(settings.database_url)
    except ConfigError as error:
        yield failed("database", error, "correct database_url")
        yield skipped("migrations", "there is no database")
        return
    with closing(database):
        if database.is_missing_file:
            yield _missing_file(database)
            yield skipped("migrations", "no tables yet; the first run makes them")
            return
        yield from _existing_database(database, history)


def _missing_file(database: Database) -> CheckResult:
    """Tell whether the first run could create the file; effective rights count, and read-only disks too."""
    folder = Path(str(database.engine.url.database)).absolute().parent
    may_write = os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if may_write:
        return ok("database", f"{database.label} does not exist yet; the first run creates it")
    reason = "may not be written" if folder.is_dir() else "does not exist"
    remedy = "create the folder and give it to this user, or name another file in database_url"
    return CheckResult("database", State.FAILED, f"{database.label}: {folder} {reason}", remedy, ExitCode.FAILED)


def _existing_database(database: Database, history: History) -> Iterator[CheckResult]:
    revision, newer = None, None
    try:
        with database.reading() as connection:
            server = _server_of(connection)
            try:
                revision = schema_revision(connection)
            except SchemaVersionError as error:
                newer = error
        written = "writing not tried" if newer else _try_writing(database, revision)
        if revision == head_revision():
            _read_history(database, history)
    except SyncError as error:
        yield failed("database", error, GRANT)
        yield skipped("migrations", "the database cannot be used")
        return
    yield _server_result(database, server, written)
    yield failed("migrations", newer, "upgrade this program") if newer else _migrations(revision)


def _server_of(connection: Connection) -> tuple[str, tuple[int, ...]]:
    """Return the server's name and version."""
    dialect = connection.dialect
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    name = names.get(dialect.name) or ("MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL")
    return name, tuple(part for part in dialect.server_version_info or () if isinstance(part, int))


def _server_result(database: Database, server: tuple[str, tuple[int, ...]], written: str) -> CheckResult:
    name, version = server
    detail = f"{database.label} ({name} {'.'.join(map(str, version))}), {written}"
    oldest = OLDEST_SERVERS.get(name, ())
    if version >= oldest:
        return ok("database", detail)
    remedy = f"upgrade it to {name} {'.'.join(map(str, oldest))} or later: older ones were never tried"
    return CheckResult("database", State.WARNING, detail, remedy)


def _try_writing(database: Database, revision: str | None) -> str:
    """Write into each table and take all of it back; return what that has shown."""
    if revision is None:
        return _try_creating(database)
    with database.writing() as connection:
        row = {"name": f"check {os.getpid()} of {socket.gethostname()}"[:64], "token": 0, "expires_at": OPEN}
        connection.execute(insert(lease).values(row))
        for table in metadata.sorted_tables if revision == head_revision() else ():
            _touch(connection, table)
        sequence = _closed_sequence(connection) if database.dialect_name == "postgresql" else None
        connection.rollback()
    if sequence:
        raise _NoRightError(f"{database.label}: permission denied for the sequence {sequence}; {GRANT}")
    return "may write"


def _closed_sequence(connection: Connection) -> str | None:
    """Return a sequence that this user may not use; to try one would use up a number, whatever is taken back."""
    query = text(
        "SELECT min(relname) FROM pg_class WHERE relnamespace = to_regnamespace(current_schema()) "
        # CASE, because conditions have no order, and the function refuses what is no sequence.
        "AND CASE relkind WHEN 'S' THEN NOT has_sequence_privilege(oid, 'USAGE') ELSE false END"
    )
    name: str | None = connection.execute(query).scalar()
    return name


def _touch(connection: Connection, table: Table) -> None:
    """Insert, update and delete no row: the database checks the rights all the same."""
    key = next(iter(table.primary_key.columns))
    connection.execute(insert(table).from_select(list(table.columns), select(table).where(false())))
    connection.execute(update(table).where(false()).values({key: key}))
    connection.execute(delete(table).where(false()))


def _try_creating(database: Database) -> str:
    with database.writing() as connection:
        if database.dialect_name != "postgresql":  # MySQL cannot take CREATE TABLE back
            connection.rollback()
            return "empty" if database.dialect_name == "sqlite" else "empty; writing not tried"
        may_create = connection.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar()
        connection.rollback()
    if not may_create:
        remedy = "GRANT USAGE, CREATE on its schema to this user"
        raise _NoRightError(f"{database.label} has no tables, and this user may create none; {remedy}")
    return "empty; may create tables"


class _NoRightError(SyncError):
    """The user of the database lacks a right that the database itself has not been asked to exercise."""


def _read_history(database: Database, history: History) -> None:
    with database.reading() as connection:
        history.region_ids = find_region_ids(connection)
        history.types = find_known_names(connection)[1]


def _migrations(revision: str | None) -> CheckResult:
    head = head_revision()
    if revision is None:
        return skipped("migrations", "no tables yet; the first run makes them")
    if revision == head:
        return ok("migrations", f"schema {revision}, that of this program")
    detail = f"schema {revision}, older than this program's {head}; nothing can be asked until it is upgraded"
    remedy = "run: ehpc-image-sync db upgrade; the next run does it too"
    return CheckResult("migrations", State.WARNING, detail, remedy)
