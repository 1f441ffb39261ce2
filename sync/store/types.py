"""Column types that mean the same on every database; migrations use them too, so they never change.

A later need gets a new type instead of another behaviour of these.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, String
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

MYSQL_FAMILY = frozenset({"mysql", "mariadb"})


def to_text(moment: datetime) -> str:
    """Return an aware UTC time as SQLite stores it: ``YYYY-MM-DD HH:MM:SS.mmm``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


class UtcTimestamp(TypeDecorator[datetime]):
    """A UTC time with milliseconds: TIMESTAMPTZ, DATETIME(3), and on SQLite a text that sorts by time."""

    impl = String(23)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of one database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in MYSQL_FAMILY:
            return dialect.type_descriptor(mysql.DATETIME(fsp=3))
        return dialect.type_descriptor(String(23))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return what the driver takes; a naive time is a bug and fails here."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without zone reached the database: {value}")
        if dialect.name == "sqlite":
            return to_text(value)
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name in MYSQL_FAMILY else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return an aware UTC time."""
        if value is None:
            return None
        if isinstance(value, str):
            return datetime.fromisoformat(f"{value}+00:00")
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class ExactText(String):
    """Text that equals only itself, letter case and trailing blanks included.

    The default collations of MySQL and MariaDB ignore case and padding, which would merge images that differ.
    """


@compiles(ExactText, "mysql", "mariadb")
def _exact_text_on_mysql(column_type: ExactText, compiler: Any, **_: Any) -> str:
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR({column_type.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


BigKey = BigInteger().with_variant(Integer, "sqlite")
"""A growing key: 64 bits everywhere; on SQLite INTEGER, the only type that can autoincrement there."""
