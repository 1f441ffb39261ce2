"""docs/dataframes.md: its Python runs as it stands and prints what the page shows."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from tests.cli.story import record_story
from tests.docs.pages import Block, blocks_of

PANDAS, PIVOT, LIVES, OVER_TIME, POLARS, LAZY = blocks_of("dataframes.md", "python")
ENGINE = 'create_engine("sqlite:///file:ehpc-images.db?mode=ro&uri=true")'
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


def printed(*blocks: Block, names: dict[str, Any] | None = None) -> str:
    """Run the blocks one after the other, as a notebook does, and return what the last one printed."""
    names = {} if names is None else names
    for block in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.code, "page", "exec"), names)
    return out.getvalue()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("block", [PIVOT, LIVES, OVER_TIME], ids=["pivot", "lives", "over time"])
def test_a_question_in_pandas_prints_what_the_page_shows(block: Block) -> None:
    assert printed(PANDAS, block) == block.output


def on_database(block: Block, url: str) -> Block:
    """Return the block with another database's address."""
    assert ENGINE in block.code
    family, _, rest = url.partition("://")
    return Block("python", block.code.replace(ENGINE, f'create_engine("{DRIVERS[family]}://{rest}")'), "")


@pytest.fixture(params=["postgresql_url", "mariadb_url"])
def server_url(request: pytest.FixtureRequest) -> str:
    """The recorded story on a server."""
    url: str = request.getfixturevalue(request.param)
    record_story(url)
    return url


def test_pandas_gives_the_same_with_a_servers_address(server_url: str) -> None:
    names: dict[str, Any] = {}
    assert printed(on_database(PANDAS, server_url), PIVOT, names=names) == PIVOT.output
    assert str(names["history"].valid_to.dtype).endswith(", UTC]")
    assert printed(LIVES, names=names) == LIVES.output
    names["engine"].dispose()


def test_polars_gets_the_times_that_the_page_says(server_url: str) -> None:
    block = on_database(POLARS, server_url)
    names: dict[str, Any] = {}
    printed(Block("python", block.code.partition("times =")[0], ""), names=names)
    names["engine"].dispose()
    kind = names["history"].schema["valid_from"]
    assert isinstance(kind, pl.Datetime)
    assert (kind.time_zone is None) == server_url.startswith("mysql")


@pytest.mark.usefixtures("folder")
def test_polars_makes_times_of_the_texts() -> None:
    names: dict[str, Any] = {}
    printed(POLARS, names=names)
    ends = names["history"]["valid_to"].drop_nulls().unique().sort().to_list()
    assert ends == [pd.Timestamp("2024-03-01 13:00", tz="UTC"), pd.Timestamp("2024-03-01 14:00", tz="UTC")]


@pytest.mark.usefixtures("exported")
def test_polars_reads_the_exported_file() -> None:
    assert printed(Block("python", "import polars as pl\n", ""), LAZY, names={"pl": pl}) == LAZY.output


def test_the_pages_engine_cannot_write(folder: Path) -> None:
    names: dict[str, Any] = {}
    printed(PANDAS, names=names)
    with names["engine"].connect() as connection, pytest.raises(Exception, match="readonly database"):
        connection.exec_driver_sql("DELETE FROM change")
    (folder / "ehpc-images.db").unlink()
    names["engine"].dispose()
    with pytest.raises(Exception, match="unable to open database file"):
        printed(PANDAS)
