"""Runs by hand, and statements as people ask them."""

from collections.abc import Iterable, Mapping

from sqlalchemy import insert, text

from sync.store.database import Database
from sync.store.schema import region_run, run
from tests.store.builders import at


def begin_runs(database: Database, run_id: int, minutes: Mapping[str, Iterable[float]]) -> None:
    """Write that runs began with regions at so many minutes after noon; the runs' ids follow ``run_id``."""
    moments = [(region_id, at(number)) for region_id, numbers in minutes.items() for number in numbers]
    with database.writing() as connection:
        for key, (region_id, moment) in enumerate(moments, start=run_id + 1):
            connection.execute(insert(run).values(id=key, started_at=moment, status="ok", trigger="test"))
            begun = {"run_id": key, "region_id": region_id, "started_at": moment, "status": "ok", "is_complete": True}
            connection.execute(insert(region_run).values(begun))


def rows_of_statement(database: Database, statement: str) -> list[dict[str, object]]:
    """Return what a statement gives that a person pastes into a client, in UTC."""
    with database.reading() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET TIME ZONE 'UTC'"))
        cursor = connection.connection.cursor()
        cursor.execute(statement)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
