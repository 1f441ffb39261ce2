"""docs/duckdb.md: its statements run as they stand and give what the page shows."""

import contextlib
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sync.store.schema import views
from tests.docs.pages import Block, blocks_of, text_of

ATTACH, OVER_TIME, AGAIN, LIVED = blocks_of("duckdb.md", "sql")
EXTENSION = "sqlite_scanner.duckdb_extension"


@pytest.fixture
def duck(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the SQLite extension at hand, so that the page's INSTALL has nothing to fetch."""
    extension = files("duckdb_extension_sqlite_scanner") / f"extensions/v{duckdb.__version__}/{EXTENSION}"
    with duckdb.connect(config={"extension_directory": str(folder / "extensions")}) as connection:
        connection.execute(f"INSTALL '{extension}'")
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def shown(duck: duckdb.DuckDBPyConnection, block: Block) -> str:
    """Return what DuckDB prints of the last statement."""
    return str(duck.sql(block.code)).rstrip() + "\n"


@pytest.mark.parametrize("block", [OVER_TIME, AGAIN], ids=["over time", "again"])
def test_a_question_to_the_attached_file_gives_what_the_page_shows(
    duck: duckdb.DuckDBPyConnection, block: Block
) -> None:
    duck.execute(ATTACH.code)
    assert shown(duck, block) == block.output


@pytest.mark.parametrize("name", sorted(views.tables))
def test_each_view_gives_what_sqlite_gives(duck: duckdb.DuckDBPyConnection, name: str) -> None:
    duck.execute(ATTACH.code)
    columns = ", ".join(column.name for column in views.tables[name].columns if column.name != "lived_days")
    with contextlib.closing(sqlite3.connect("ehpc-images.db")) as file:
        expected = file.execute(f"SELECT {columns} FROM {name}").fetchall()
    assert texts(duck.sql(f"SELECT {columns} FROM {name}").fetchall()) == texts(expected)


def texts(rows: list[tuple[Any, ...]]) -> list[list[str]]:
    """Return the rows in one order, booleans as SQLite has them."""
    return sorted([str(int(value)) if isinstance(value, bool) else str(value) for value in row] for row in rows)


@pytest.mark.usefixtures("exported")
def test_a_question_to_the_parquet_file_gives_what_the_page_shows(duck: duckdb.DuckDBPyConnection) -> None:
    assert shown(duck, LIVED) == LIVED.output


def types_of(duck: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in duck.sql(f"DESCRIBE FROM {source}").fetchall()}


@pytest.mark.usefixtures("exported")
def test_the_types_are_those_that_the_page_names(duck: duckdb.DuckDBPyConnection) -> None:
    duck.execute(ATTACH.code)
    assert types_of(duck, "image_history")["valid_from"] == "VARCHAR"
    assert set(types_of(duck, "image_lifetimes").values()) == {"VARCHAR"}
    assert types_of(duck, "'history.parquet'")["valid_from"] == "TIMESTAMP WITH TIME ZONE"
    hours = "SELECT DISTINCT round(lived_days::DOUBLE * 24, 3) AS hours FROM image_lifetimes WHERE valid_to IS NOT NULL"
    assert sorted(duck.sql(hours).fetchall()) == [(1,), (2,)]


def test_the_attached_file_cannot_be_written(duck: duckdb.DuckDBPyConnection) -> None:
    duck.execute(ATTACH.code)
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        duck.execute("DELETE FROM change")


def test_the_page_owns_up_to_what_is_not_run() -> None:
    assert "this line, unlike the others here, is not run by our tests" in text_of("duckdb.md")
