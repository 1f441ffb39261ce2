"""Many rows at the speed of the driver: availability is the only table that takes millions.

The values are integers and times of ours, so their text form needs no escaping; SQLAlchemy's handling of each
parameter would cost more than the insert itself.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

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


TextGroup = tuple[int, str, list[int]]


def _insert_sqlite(connection: Connection, groups: Sequence[TextGroup]) -> None:
    until = to_text(OPEN)
    rows = [(target_id, until, key, since) for target_id, since, keys in groups for key in keys]
    if rows:
        connection.exec_driver_sql(f"INSERT INTO availability ({COLUMNS}) VALUES (?, ?, ?, ?)", rows)


def _copy_postgresql(connection: Connection, groups: Sequence[TextGroup]) -> None:
    until = to_text(OPEN) + "+00"
    cursor: Any = connection.connection.cursor()  # psycopg's, whose copy() no DBAPI knows
    with cursor, cursor.copy(f"COPY availability ({COLUMNS}) FROM STDIN") as copy:
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
