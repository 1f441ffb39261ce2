"""Many rows at the speed of the driver; SQLAlchemy's handling of each parameter would cost more than the insert itself.

A run inserts intervals, the only rows that come by the million: integers and times of ours, whose text form needs no
escaping. A copy of a history inserts rows of any table.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, exc

from sync.inventory import OPEN
from sync.store.types import to_text

COPY_ROWS = 5_000  # below this PostgreSQL's COPY gains nothing over one INSERT
VALUES_ROWS = 5_000  # rows of one multi-row INSERT: about 350 kB, far below MySQL's max_allowed_packet of 16 MB

COLUMNS = "target_id, valid_to, image_key, valid_from"

Group = tuple[int, datetime, Sequence[int]]
"""The intervals of one target: its id, their common beginning, the keys of their images."""


def insert_open_intervals(connection: Connection, groups: Sequence[Group]) -> None:
    """Insert open intervals; in the order of the primary key, which SQLite and InnoDB store by."""
    ordered = sorted((target_id, to_text(since), sorted(keys)) for target_id, since, keys in groups)
    count = sum(len(keys) for _, _, keys in ordered)
    dialect = connection.dialect.name
    if dialect == "sqlite":
        _insert_sqlite(connection, ordered)
    elif dialect == "postgresql" and count > COPY_ROWS:
        _copy_postgresql(connection, ordered)
    else:
        _insert_values(connection, ordered, zone="+00" if dialect == "postgresql" else "")


Plain = str | int | bool | None
"""A value as ``insert_rows`` takes it; a time is its text, see ``types.to_text``."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Plain]]) -> None:
    """Insert rows with all columns of a table, in that order; fastest when the rows come in that of the primary key."""
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote
    into = f"{quote(table.name)} ({', '.join(quote(column.name) for column in table.columns)})"
    if connection.dialect.name == "postgresql":
        _copy_rows(connection, into, rows)
        return
    # PyMySQL makes of many rows statements of 1 MB, with each value escaped; MySQL takes 16 MB and more.
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join([mark] * len(table.columns))
    connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({marks})", list(map(tuple, rows)))


def _copy_rows(connection: Connection, into: str, rows: Sequence[Sequence[Plain]]) -> None:
    with _copying(connection, into) as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def _copying(connection: Connection, into: str) -> Iterator[Any]:
    """Give psycopg's COPY, which no DBAPI knows; its errors become SQLAlchemy's, as those of every statement do."""
    statement = f"COPY {into} FROM STDIN"
    errors: Any = connection.dialect.dbapi
    cursor: Any = connection.connection.cursor()
    try:
        with cursor, cursor.copy(statement) as copy:
            yield copy
    except errors.Error as error:
        raise exc.DBAPIError.instance(statement, None, error, errors.Error, dialect=connection.dialect) from error


TextGroup = tuple[int, str, list[int]]


def _insert_sqlite(connection: Connection, groups: Sequence[TextGroup]) -> None:
    until = to_text(OPEN)
    rows = [(target_id, until, key, since) for target_id, since, keys in groups for key in keys]
    if rows:
        connection.exec_driver_sql(f"INSERT INTO availability ({COLUMNS}) VALUES (?, ?, ?, ?)", rows)


def _copy_postgresql(connection: Connection, groups: Sequence[TextGroup]) -> None:
    until = to_text(OPEN) + "+00"
    with _copying(connection, f"availability ({COLUMNS})") as copy:
        for target_id, since, keys in groups:
            copy.write("".join([f"{target_id}\t{until}\t{key}\t{since}+00\n" for key in keys]))


def _insert_values(connection: Connection, groups: Sequence[TextGroup], *, zone: str) -> None:
    until = to_text(OPEN) + zone
    rows = (f"({target_id},'{until}',{key},'{since}{zone}')" for target_id, since, keys in groups for key in keys)
    for batch in _batches_of(rows, VALUES_ROWS):
        connection.exec_driver_sql(f"INSERT INTO availability ({COLUMNS}) VALUES {','.join(batch)}")


def _batches_of(rows: Iterator[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
