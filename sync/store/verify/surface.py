"""What is checked before the history is read: that the views are there, and that SQLite's texts are times."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Connection, Table, inspect
from sqlalchemy.types import NullType

from sync.inventory import Target
from sync.store.schema import metadata, target, views
from sync.store.types import UtcTimestamp
from sync.store.verify.verdict import Check, Findings

TIME = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]"
"""A time as all statements compare it on SQLite, as a pattern of GLOB: any other spelling sorts elsewhere."""


def judge_views(connection: Connection, findings: Findings) -> None:
    """Note views that are not there or have other columns than those that are documented."""
    present = set(inspect(connection).get_view_names())
    for view in views.sorted_tables:
        findings.examine(Check.VIEWS)
        wanted = [column.name for column in view.columns]
        found = (
            [column["name"] for column in inspect(connection).get_columns(view.name)] if view.name in present else []
        )
        if found != wanted:
            what = "has other columns" if found else "is missing"
            findings.note(Check.VIEWS, f"the view {view.name} {what}; db copy into a new database makes all views anew")


def has_times(connection: Connection, findings: Findings) -> bool:
    """Return whether every time can be read, and note those that cannot; only SQLite takes any text for one."""
    if connection.dialect.name != "sqlite":
        return True
    is_readable = True
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, UtcTimestamp):
                is_readable = _judge_column(connection, table, column, findings) and is_readable
    return is_readable


def _judge_column(connection: Connection, table: Table, column: "Column[Any]", findings: Findings) -> bool:
    raw = sa.type_coerce(column, NullType())
    is_time = sa.and_(raw.op("GLOB")(TIME), sa.func.julianday(raw).is_not(None))
    of_target = "target_id" in table.c
    place = (target.c.region_id, target.c.instance_type, target.c.base_os_tag)
    keys = [sa.type_coerce(key, NullType()) for key in table.primary_key.columns]
    query = sa.select(raw, *keys, *(place if of_target else ())).where(raw.is_not(None), ~is_time)
    if of_target:
        query = query.select_from(table.outerjoin(target, target.c.id == table.c.target_id))
    findings.examine(Check.TIMES)
    rows = connection.execute(query).all()
    for value, *rest in rows:
        named = ", ".join(f"{key.name} {part}" for key, part in zip(table.primary_key.columns, rest, strict=False))
        where = Target(*(part or "" for part in rest[len(keys) :])) if of_target else ""
        findings.note(Check.TIMES, f"{table.name}.{column.name} of {named} is {value!r}, which is no time", where)
    return not rows
