"""What the database's planner knows of the tables, made current after much was written at once."""

import logging
from typing import Any

from sqlalchemy import Connection

from sync.errors import DatabaseError
from sync.store.database import Database
from sync.store.schema import availability, image, lease, metadata

LARGE_WRITE = 50_000
"""Intervals opened or closed at once, from which on statistics are refreshed.

PostgreSQL and InnoDB look again by themselves when a tenth of a table has changed, but some minutes late; SQLite never
does. A first load writes far more, a usual run far less: the number lies between them and was not tuned.
"""

ANALYSIS_LIMIT = 1_000
"""Rows of each index that SQLite looks at: 10 ms instead of 2 s for 10 million intervals, and no plan is worse."""

SQLITE_TABLES = (availability, image)
"""What SQLite gathers statistics of. Not of ``target`` and ``change``: knowing that targets are few, and not how few
changes are as new as a question asks for, it reads all changes by their targets: 400 ms of 2 million, not 1 ms."""

TABLES = [table for table in metadata.sorted_tables if table is not lease]

logger = logging.getLogger(__name__)


def refresh_statistics(database: Database) -> None:
    """Let the planner know the tables as they are now; where the database refuses, that is logged and nothing fails."""
    try:
        complaints = _GATHER[database.dialect_name](database)
    except DatabaseError as error:
        complaints = [str(error)]
    if complaints:
        more = f" (and {len(complaints) - 1} more)" if complaints[1:] else ""
        logger.warning(
            "the planner's statistics were not refreshed, questions may be slow: %s%s", complaints[0].rstrip("."), more
        )


def _gather_sqlite(database: Database) -> list[str]:
    with database.writing() as connection:
        connection.exec_driver_sql(f"PRAGMA analysis_limit={ANALYSIS_LIMIT}")
        for table in SQLITE_TABLES:
            connection.exec_driver_sql(f"ANALYZE {table.name}")
    return []


def _gather_postgresql(database: Database) -> list[str]:
    """Analyze and vacuum: after a first load questions then read indexes only, in half the time; autovacuum is late.

    Vacuuming what was only inserted takes hardly longer than analyzing it. Whose tables it may not touch PostgreSQL
    skips with a warning.
    """
    notices: list[str] = []

    def note(diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            notices.append(str(diagnostic.message_primary))

    with database.reading() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        driver: Any = connection.connection.driver_connection
        driver.add_notice_handler(note)
        try:
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {_names(connection)}")
        finally:
            driver.remove_notice_handler(note)
    return notices


def _gather_mysql(database: Database) -> list[str]:
    with database.reading() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        answers = connection.exec_driver_sql(f"ANALYZE TABLE {_names(connection)}").all()
    return [f"{table}: {text}" for table, _, kind, text in answers if str(kind).lower() == "error"]


_GATHER = {"sqlite": _gather_sqlite, "postgresql": _gather_postgresql, "mysql": _gather_mysql}


def _names(connection: Connection) -> str:
    return ", ".join(connection.dialect.identifier_preparer.quote(table.name) for table in TABLES)
