"""The databases that the benchmarks use: those of the environment or the local ones."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url, text

DEFAULT_SERVERS = {
    "sqlite": "",
    "postgresql": os.environ.get("TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres@/postgres"),
    "mariadb": os.environ.get(
        "TEST_MARIADB_URL", "mariadb+pymysql://root@localhost/?unix_socket=/run/mysqld/mysqld.sock"
    ),
}

LASTING = "ehpc_bench_two_years"


@contextmanager
def fresh_database(name: str) -> Iterator[str]:
    """Give the URL of a new, empty database that is dropped at the end."""
    if name == "sqlite":
        with tempfile.TemporaryDirectory(prefix="ehpc-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'history.db'}"
        return
    own = f"ehpc_bench_{uuid.uuid4().hex}"
    _execute(name, f"CREATE DATABASE {own}")
    try:
        yield _url_of(name, own)
    finally:
        _execute(name, f"DROP DATABASE {own}")


def lasting_url(name: str) -> str:
    """Return the URL of the one that stays: a file in the temporary folder, or a database of the server."""
    if name == "sqlite":
        return f"sqlite:///{Path(tempfile.gettempdir()) / LASTING}.db"
    return _url_of(name, LASTING)


def create_lasting_database(name: str) -> None:
    """Create the one that stays, empty, in place of the one before."""
    if name == "sqlite":
        for ending in ("", "-wal", "-shm"):
            Path(f"{make_url(lasting_url(name)).database}{ending}").unlink(missing_ok=True)
    else:
        _execute(name, f"DROP DATABASE IF EXISTS {LASTING}")
        _execute(name, f"CREATE DATABASE {LASTING}")


def _url_of(name: str, database: str) -> str:
    return make_url(DEFAULT_SERVERS[name]).set(database=database).render_as_string(hide_password=False)


def _execute(name: str, statement: str) -> None:
    engine = create_engine(DEFAULT_SERVERS[name], poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
