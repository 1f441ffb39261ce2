"""Connections to SQLite, PostgreSQL and MariaDB/MySQL, their errors as sentences, and the migrations."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, exc, inspect, make_url

from sync.errors import ConfigError, DatabaseError, SchemaVersionError
from sync.store.schema import availability, metadata
from sync.store.types import MYSQL_FAMILY

CONNECT_TIMEOUT_S = 10  # a server that does not answer a handshake for this long is down, not busy
IDLE_TRANSACTION_S = 60  # a process that hangs inside a transaction must not keep its locks for longer than the lease
BUSY_TIMEOUT_MS = 30_000  # how long SQLite waits for another writer; a region of 500 targets writes in far less

LONGEST_LIST = 1_048_576  # characters, as in MariaDB; with its 1,024 MySQL cuts lists without a word

SNAPSHOT = "REPEATABLE READ"
"""The isolation of transactions that only read."""

DRIVERS = {"sqlite": "sqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
EXTRAS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


class Database:
    """One database: short reading and writing transactions, with errors turned into sentences."""

    def __init__(self, url: str, *, is_read_only: bool = False) -> None:
        """Prepare connections; nothing is opened yet. Where it ``is_read_only`` the database itself refuses writes.

        Raises:
            ConfigError: the URL cannot be used, or its driver is not installed.
        """
        self._url = _usable_url(url)
        self.label = _label(self._url)
        self.engine = _engine_of(self._url, self.label, is_read_only=is_read_only)
        # An answer is put together from several statements, and a run may commit between two of them. SQLite's
        # transactions are snapshots anyway.
        is_file = self.dialect_name == "sqlite"
        self._snapshots = (
            self.engine if is_file else self.engine.execution_options(isolation_level="REPEATABLE READ", may_rest=True)
        )

    @property
    def dialect_name(self) -> str:
        """Return ``sqlite``, ``postgresql`` or ``mysql`` (MariaDB too)."""
        name = self.engine.dialect.name
        return "mysql" if name in MYSQL_FAMILY else name

    @property
    def is_missing_file(self) -> bool:
        """Return whether this is an SQLite file that does not exist yet; connecting would create it."""
        return self.file is not None and not self.file.exists()

    @property
    def file(self) -> Path | None:
        """Return the SQLite file itself, where a symbolic link names it; None of a server's database."""
        return Path(str(self._url.database)).resolve() if self.dialect_name == "sqlite" else None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection with one consistent snapshot for all its statements; nothing is committed."""
        with self._foreseen_errors(), self._snapshots.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection with a write transaction: committed at the end, rolled back by an error."""
        engine = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with self._foreseen_errors(), engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _foreseen_errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, sqlite3.Error) as error:
            raise DatabaseError(_sentence(error, self.label)) from error


def _usable_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(
            "database_url is not a database URL; write for example sqlite:///ehpc-images.db, "
            "postgresql://user@host/database or mysql://user@host/database"
        ) from None
    family = url.get_backend_name()
    if family == "postgres":
        family, url = "postgresql", url.set(drivername="postgresql")
    if family not in DRIVERS:
        raise ConfigError(f"database_url names {family!r}; use sqlite, postgresql, mysql or mariadb")
    driver = DRIVERS[family]
    if "+" in url.drivername and url.drivername.partition("+")[2] not in {driver, "pysqlite"}:
        raise ConfigError(f"database_url names the driver {url.drivername!r}; use {family}+{driver}")
    if family == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ConfigError("database_url names no file; a history needs one, for example sqlite:///ehpc-images.db")
    if not url.database:
        raise ConfigError(f"database_url names no database; write {family}://user@host/database")
    return url if family == "sqlite" else url.set(drivername=f"{family}+{driver}")


def _label(url: URL) -> str:
    """Return the URL without password and options, which may hold secrets too."""
    return url.set(password=None, query={}).render_as_string()


def _engine_of(url: URL, label: str, *, is_read_only: bool) -> Engine:
    family = url.get_backend_name()
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {"pool_pre_ping": True}
    if family == "sqlite":
        arguments = {"timeout": BUSY_TIMEOUT_MS / 1000}
        options = {}
    elif family == "postgresql":
        settings = f"-c TimeZone=UTC -c idle_in_transaction_session_timeout={IDLE_TRANSACTION_S}s"
        arguments = {"connect_timeout": CONNECT_TIMEOUT_S, "options": settings}
    else:
        arguments = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "charset": "utf8mb4",
            "init_command": "SET time_zone='+00:00', sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
            f"group_concat_max_len={LONGEST_LIST}",
        }
        options["isolation_level"] = "READ COMMITTED"
    try:
        engine = create_engine(url, connect_args=arguments, **options)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{label} needs the driver {error.name!r}, which is not installed; "
            f"run: pip install 'ehpc-image-sync[{EXTRAS.get(family, 'all')}]'"
        ) from error
    event.listen(engine, "do_connect", _open_existing if is_read_only and family == "sqlite" else _connect)
    if is_read_only:
        event.listen(engine, "connect", _FORBIDDING[family])
    if family == "postgresql":
        event.listen(engine, "begin", _begin_postgresql)
    if family in MYSQL_FAMILY:
        event.listen(engine, "connect", _prepare_mysql)
    if family == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect(dialect: Dialect, _: object, arguments: Any, options: Any) -> Any:
    """Connect; what a driver says of the URL's options before it connects is no database error."""
    try:
        return dialect.connect(*arguments, **options)
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"database_url has an option that the driver refuses: {error}") from error


def _open_existing(dialect: Dialect, record: object, arguments: Any, options: Any) -> Any:
    """Let SQLite open a file that is there and create none; it is ``query_only`` that refuses writes.

    Not ``mode=ro``: such a connection leaves the files -wal and -shm behind, as its own user, whom others may be unable
    to follow.
    """
    file = str(arguments[0])
    uri = file if options.get("uri") else Path(file).absolute().as_uri()
    if "mode=" not in uri:
        uri = f"{uri}{'&' if '?' in uri else '?'}mode=rw"
    return _connect(dialect, record, [uri.replace("mode=rwc", "mode=rw")], {**options, "uri": True})


def _prepare_mysql(connection: Any, _: object) -> None:
    if "MariaDB" in connection.get_server_info():  # MySQL has no such limit
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_write_transaction_timeout={IDLE_TRANSACTION_S}")


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver would begin transactions by itself, too late and never IMMEDIATE; _begin_sqlite does it instead.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    if connection.execute("PRAGMA query_only").fetchone() == (0,):
        _switch_to_wal(connection)
    # In WAL mode NORMAL cannot corrupt the file; only a power cut may lose the last commits, which a run repeats.
    connection.execute("PRAGMA synchronous=NORMAL")


def _forbid_writes_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA query_only=ON")  # also of other files, which a statement may attach


def _forbid_writes_postgresql(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    connection.commit()


def _forbid_writes_mysql(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


_FORBIDDING = {
    "sqlite": _forbid_writes_sqlite,
    "postgresql": _forbid_writes_postgresql,
    "mysql": _forbid_writes_mysql,
    "mariadb": _forbid_writes_mysql,
}


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        # The switch does not wait for others. Who holds the file now switches it too, and the mode stays with the file.
        if "locked" not in str(error):
            raise


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") == SNAPSHOT:
        # Whoever reads may wait long for whoever takes the answer, and holds no lock that runs wait for.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _sentence(error: exc.DBAPIError | sqlite3.Error, label: str) -> str:
    """Return what went wrong with the database and what to do, without SQL and values."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    # PostgreSQL's full text quotes the statement below its first sentence.
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    text = " ".join(str(primary or cause).split())
    if isinstance(cause, sqlite3.Error):
        return _sqlite_sentence(text, label)
    if isinstance(error, exc.OperationalError):
        missing = re.search(r'database "?.*"? does not exist|Unknown database', text)
        remedy = "create it" if missing else "check that the server runs and lets this user in"
        return f"the database {label} cannot be used: {text.rstrip('?.')}; {remedy}"
    return f"the database {label} refused a statement: {text}"


def _sqlite_sentence(text: str, label: str) -> str:
    remedies = {
        "unable to open database file": "check that its folder exists and that you may write there",
        "file is not a database": "it is another kind of file or damaged; name another file, or restore a copy",
        "malformed": "it is damaged; restore a copy, or try: sqlite3 FILE .recover",
        "readonly": "you may read it but not write; check the permissions of the file and its folder",
        "locked": "another program holds it; wait for that program, or end it",
        "full": "the disk is full; make room",
        "disk I/O error": "the disk failed or is full; check it",
        "no such table": "tables or views were removed; ehpc-image-sync db verify says which",
        "no such column": "tables or views were changed; ehpc-image-sync db verify says which",
    }
    remedy = next((hint for part, hint in remedies.items() if part in text), "check the file and its folder")
    return f"the database {label} cannot be used: {text}; {remedy}"


def migrations_path() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def alembic_config(connection: Connection) -> Any:
    """Return Alembic's configuration for one open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def schema_revision(connection: Connection) -> str | None:
    """Return the revision of the database's tables; None where there are none yet.

    Raises:
        SchemaVersionError: a newer program wrote them, or another one.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    present = set(inspect(connection).get_table_names())
    if "alembic_version" not in present:
        if foreign := [name for name in sorted(present & metadata.tables.keys()) if not _is_ours(connection, name)]:
            raise SchemaVersionError(
                f"the database has a table {foreign[0]} that another program made; give this one a database of its own"
            )
        return None
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory(str(migrations_path())).walk_revisions()}
    if revision is not None and revision not in known and availability.name not in present:
        raise SchemaVersionError(
            f"the tables of the database are another program's (its schema is {revision!r}); "
            "give this one a database of its own"
        )
    if revision is not None and revision not in known:
        raise SchemaVersionError(
            f"the database was written by a newer ehpc-image-sync (schema {revision}); "
            "upgrade this program, the database stays as it is"
        )
    return revision


def head_revision() -> str:
    """Return the revision that this program needs."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory(str(migrations_path())).get_current_head()
    if head is None:
        raise SchemaVersionError(f"no migrations in {migrations_path()}; install ehpc-image-sync again")
    return head


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest revision; the caller holds the lease. Repeatable after any interruption."""
    from alembic import command

    command.upgrade(alembic_config(connection), "head")


def require_history(database: Database) -> None:
    """Check that there is a readable history of this program's schema.

    Raises:
        SchemaVersionError: there are no tables yet, or older ones, or newer ones.
    """
    if database.is_missing_file:
        raise SchemaVersionError(_NO_HISTORY.format(label=database.label))
    with database.reading() as connection:
        revision = schema_revision(connection)
    if revision is None:
        raise SchemaVersionError(_NO_HISTORY.format(label=database.label))
    if revision != head_revision():
        raise SchemaVersionError(
            f"the tables of {database.label} are older than this program (schema {revision}); "
            "run: ehpc-image-sync db upgrade"
        )


def _is_ours(connection: Connection, name: str) -> bool:
    """Return whether a table with a name of ours is ours, of whatever version: most of its columns are."""
    wanted = set(metadata.tables[name].columns.keys())
    found = {column["name"] for column in inspect(connection).get_columns(name)}
    return 2 * len(wanted & found) > len(wanted)


_NO_HISTORY = "there is no history in {label} yet; run: ehpc-image-sync run"
