"""A whole history copied to another database: all rows with their ids, in one transaction, verified before it ends."""

import functools
import hashlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CHAR, Boolean, Column, ColumnElement, Connection, String, Table, exc, inspect
from sqlalchemy.schema import AddConstraint, DropConstraint
from sqlalchemy.types import NullType

from sync.errors import ConfigError, DatabaseError, LeaseLostError
from sync.store.bulk import Plain, insert_rows
from sync.store.database import Database, require_history, schema_revision
from sync.store.lease import Lease, find_holder
from sync.store.schema import availability, change, image, lease, metadata, run, target
from sync.store.statistics import refresh_statistics
from sync.store.types import MYSQL_FAMILY, UtcTimestamp, to_text

BATCH_BYTES = 4_000_000
"""What the rows of one batch hold at most, if every text is as long as its column allows: some 100 images, but 10,000
intervals. It bounds the memory; it was not tuned."""

BATCH_ROWS = 10_000

TABLES = [table for table in metadata.sorted_tables if table is not lease]
"""What is copied, those that others refer to first. The lease is each database's own."""

COUNTED = (target, image, run, change)
"""The tables whose ids the database hands out."""

LARGE = (availability, change)
"""The tables that take millions of rows: an index is made faster of all of them than row by row."""

Row = tuple[Plain, ...]
OnRows = Callable[[int, str], None]
"""Is told how many further rows of a table have been copied or verified; may raise an error to stop the copy."""


@dataclass(slots=True)
class Sum:
    """The number of rows and a digest of them that does not depend on their order, which databases see differently."""

    row_count: int = 0
    digest: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; their values are the same on every database."""
        self.row_count += len(rows)
        for row in rows:
            self.digest += int.from_bytes(hashlib.sha256(repr(row).encode()).digest())
        self.digest %= 2**256


def copy_history(source: Database, destination: Database, on_rows: OnRows = lambda _, __: None) -> dict[str, int]:
    """Copy the whole history into an empty database and return the number of rows of each table.

    No run writes into either database meanwhile. All or nothing is copied: what was read back from the destination,
    before it was committed, equals what was read from the source.

    Raises:
        ConfigError: the destination is the source, or has a history.
        LeaseTakenError: a run is under way in one of them.
        DatabaseError: a database failed or refused a row, or what arrived is not what was sent; nothing was copied.
    """
    require_history(source)
    if _is_same(source, destination):
        raise ConfigError(f"{destination.label} is the configured database itself; name another one")
    with _held(source) as ours:
        _check_empty(destination, ours.owner)
        with _held(destination, is_renewed=False) as theirs:
            counts = _copy(source, ours, destination, theirs, on_rows)
    refresh_statistics(destination)
    return counts


def _is_same(source: Database, destination: Database) -> bool:
    if source.dialect_name == destination.dialect_name == "sqlite":
        return source.file == destination.file
    ours, theirs = (
        (of.dialect_name, of.engine.url.host, of.engine.url.port, of.engine.url.database, of.engine.url.query)
        for of in (source, destination)
    )
    return ours == theirs


@contextmanager
def _held(database: Database, *, is_renewed: bool = True) -> Iterator[Lease]:
    """Hold a database's lease; a thread renews it, because a single statement may take longer than it lasts."""
    held = Lease(database)
    held.acquire()
    try:
        with _renewed(held) if is_renewed else nullcontext():
            yield held
    finally:
        held.release()


@contextmanager
def _renewed(held: Lease) -> Iterator[None]:
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(held.heartbeat_s):
            try:
                held.renew()
            except DatabaseError:
                continue  # the next time may go well; else the renewal before the commit says so
            except LeaseLostError:
                return

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _check_empty(destination: Database, our_owner: str) -> None:
    if destination.is_missing_file:
        return
    with destination.reading() as connection:
        if schema_revision(connection) is not None:
            holder = find_holder(connection)
            if holder and holder.owner == our_owner:
                raise ConfigError(f"{destination.label} is the configured database itself; name another one")
        _require_empty(connection, destination.label)


def _require_empty(connection: Connection, label: str) -> None:
    present = set(inspect(connection).get_table_names())
    if foreign := sorted(present - metadata.tables.keys() - {"alembic_version"}):
        raise ConfigError(f"{label} has tables of another program, such as {foreign[0]}; name a new, empty database")
    for table in TABLES:
        anything = sa.select(sa.literal(1)).select_from(table).limit(1)
        if table.name in present and connection.execute(anything).first() is not None:
            raise ConfigError(
                f"{label} has a history already: its table {table.name} has rows; "
                "name a new, empty database, or delete that one first"
            )


def _copy(source: Database, ours: Lease, destination: Database, theirs: Lease, on_rows: OnRows) -> dict[str, int]:
    with source.reading() as connection:
        last_ids = {table.name: _last_id(connection, table) for table in COUNTED}
    if destination.dialect_name == "mysql":
        _continue_ids_of_mysql(destination, last_ids)
    with destination.writing() as connection:
        # It keeps the row locked until the end: nobody can take over meanwhile, however long it takes.
        theirs.guard(connection)
        _require_empty(connection, destination.label)
        sums = _load(source, connection, destination.label, on_rows)
        _verify(connection, sums, destination.label, on_rows)
        if destination.dialect_name != "mysql":
            _continue_ids(connection, last_ids)
        ours.renew()
    return {name: total.row_count for name, total in sums.items()}


def _load(source: Database, connection: Connection, label: str, on_rows: OnRows) -> dict[str, Sum]:
    """Insert all rows of the source and return their sums."""
    sums = {table.name: Sum() for table in TABLES}
    with _without_indexes(connection), closing(_read_all(source)) as batches:
        for table, rows in batches:
            _insert(connection, table, rows, label)
            sums[table.name].add(rows)
            on_rows(len(rows), table.name)
    return sums


def _insert(connection: Connection, table: Table, rows: Sequence[Row], label: str) -> None:
    try:
        insert_rows(connection, table, rows)
    except (exc.DataError, exc.IntegrityError) as error:
        # PostgreSQL's full text quotes the row below its first sentence.
        text = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
        raise DatabaseError(f"{label} refused a row of the table {table.name}: {text}; nothing was copied") from error


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    """Do without the indexes of the large tables, and on PostgreSQL without a look at each row's references.

    All within the transaction; MySQL's ends with every such statement, so there the indexes stay.
    """
    dialect = connection.dialect.name
    indexes = [index for table in LARGE for index in table.indexes] if dialect in {"sqlite", "postgresql"} else []
    keys = [key for table in LARGE for key in table.foreign_key_constraints] if dialect == "postgresql" else []
    for index in indexes:
        index.drop(connection)
    for key in keys:
        connection.execute(DropConstraint(key))
    yield
    for index in indexes:
        index.create(connection)
    for key in keys:
        # Without this the schema of this process would lack the key from now on.
        connection.execute(AddConstraint(key, isolate_from_table=False))


def _verify(connection: Connection, sums: dict[str, Sum], label: str, on_rows: OnRows) -> None:
    """Compare what the destination holds with what was sent."""
    for table in TABLES:
        arrived, sent = Sum(), sums[table.name]
        for rows in _read(connection, table):
            arrived.add(rows)
            on_rows(0, f"{table.name} (verifying)")
        if arrived != sent:
            raise DatabaseError(
                f"the table {table.name} did not arrive in {label} as it was sent: {arrived.row_count} of "
                f"{sent.row_count} rows, with {'other' if arrived.row_count == sent.row_count else 'these'} values; "
                "nothing was copied"
            )


def _read_all(source: Database) -> Generator[tuple[Table, list[Row]]]:
    """Yield the rows of all tables at one moment; errors of the source are told as those of the source."""
    with source.reading() as connection:
        for table in TABLES:
            for rows in _read(connection, table):
                yield table, rows


def _read(connection: Connection, table: Table) -> Iterator[list[Row]]:
    """Yield the rows of a table in batches, in the order of its primary key; values are the same on every database."""
    columns = [_raw(column, connection) for column in table.columns]
    plain = [_PLAIN.get(type(column.type)) for column in table.columns]
    query = sa.select(*columns).order_by(*table.primary_key.columns)
    options = {"stream_results": True, "yield_per": _batch_rows_of(table)}
    with connection.execute(query, execution_options=options) as found:
        for batch in found.partitions():
            yield [_plain_row(row, plain) for row in batch]


def _raw(column: Column[Any], connection: Connection) -> ColumnElement[Any]:
    """Return a column as its driver gives it; of MySQL's times the text, because its driver makes them in Python."""
    if isinstance(column.type, UtcTimestamp) and connection.dialect.name in MYSQL_FAMILY:
        return sa.type_coerce(sa.cast(column, CHAR(23)), NullType())
    return sa.type_coerce(column, NullType())


def _batch_rows_of(table: Table) -> int:
    width = sum(4 * (column.type.length or 0) for column in table.columns if isinstance(column.type, String))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, width)))


def _plain_row(row: Sequence[Any], plain: Sequence[Callable[[Any], Plain] | None]) -> Row:
    return tuple([value if to is None or value is None else to(value) for to, value in zip(plain, row, strict=True)])


@functools.lru_cache(maxsize=100_000)  # the rows of a run share their times, and every open interval its end
def _moment_text(value: str | datetime) -> str:
    return value if isinstance(value, str) else to_text(value)


_PLAIN: dict[type[Any], Callable[[Any], Plain]] = {UtcTimestamp: _moment_text, Boolean: bool}


def _last_id(connection: Connection, table: Table) -> int:
    """Return the last id that was handed out, though its row may be gone: nobody may get it again."""
    largest = connection.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0
    dialect = connection.dialect.name
    if dialect == "sqlite":
        noted = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).scalar()
    elif dialect == "postgresql":
        value = "CASE WHEN is_called THEN last_value ELSE last_value - 1 END"
        sequence = _sequence_of(connection, table)
        noted = connection.exec_driver_sql(f"SELECT {value} FROM {sequence}").scalar() if sequence else None
    else:
        noted = _last_id_of_mysql(connection, table)
    return max(largest, noted or 0)


def _last_id_of_mysql(connection: Connection, table: Table) -> int | None:
    dialect: Any = connection.dialect
    if not dialect.is_mariadb:
        connection.exec_driver_sql("SET SESSION information_schema_stats_expiry = 0")  # else it may be a day old
    query = (
        "SELECT auto_increment - 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s"
    )
    noted: int | None = connection.exec_driver_sql(query, (table.name,)).scalar()
    return noted


def _sequence_of(connection: Connection, table: Table) -> str | None:
    """Return the quoted name of PostgreSQL's sequence; None where a restored table has lost its tie to it."""
    quoted = connection.dialect.identifier_preparer.quote(table.name)
    name: str | None = connection.exec_driver_sql("SELECT pg_get_serial_sequence(%s, 'id')", (quoted,)).scalar()
    return name


def _continue_ids(connection: Connection, last_ids: dict[str, int]) -> None:
    """Let SQLite's and PostgreSQL's ids go on after the source's last ones."""
    for table in COUNTED:
        last = last_ids[table.name]
        if connection.dialect.name == "postgresql" and last:
            connection.exec_driver_sql("SELECT setval(%s, %s)", (_sequence_of(connection, table), last))
        elif connection.dialect.name == "sqlite" and table.dialect_options["sqlite"]["autoincrement"]:
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))


def _continue_ids_of_mysql(destination: Database, last_ids: dict[str, int]) -> None:
    """Let MySQL's ids go on after the source's last ones; in the empty tables, because it ends a transaction."""
    with destination.writing() as connection:
        quote = connection.dialect.identifier_preparer.quote
        for name, last in last_ids.items():
            connection.exec_driver_sql(f"ALTER TABLE {quote(name)} AUTO_INCREMENT = {last + 1}")
