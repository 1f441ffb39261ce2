"""A view as a file: Parquet, CSV or JSON lines, written in little memory and complete or not at all."""

import difflib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import BigInteger, Boolean, Float, Integer, Table
from sqlalchemy.types import TypeEngine

from sync.errors import ConfigError, SyncError
from sync.render import render_pages
from sync.store.history import columns_of
from sync.store.schema import views
from sync.store.types import UtcTimestamp

STDOUT = "-"
FORMATS = ("parquet", "csv", "jsonl")

ROW_GROUP_ROWS = 122_880
"""Rows of one row group: what DuckDB reads in one thread. Fewer compress worse, and more cost memory."""

Row = Mapping[str, Any]
Pages = Iterable[Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an export goes, and how it is written."""

    name: str
    """As it was typed; ``-`` is stdout."""
    form: str

    @property
    def is_stdout(self) -> bool:
        """Return whether the rows go to stdout."""
        return self.name == STDOUT

    @property
    def path(self) -> Path:
        """Return the file itself, where a symbolic link names it."""
        return Path(self.name).resolve()


def view_named(name: str) -> Table:
    """Return a public view.

    Raises:
        ConfigError: there is none of that name; the message lists the nearest ones.
    """
    if name in views.tables:
        return views.tables[name]
    nearest = difflib.get_close_matches(name, sorted(views.tables), n=3, cutoff=0.4) or sorted(views.tables)
    raise ConfigError(f"there is no view {name}; the nearest are {', '.join(nearest)}")


def destination_of(name: str, form: str | None, *, is_forced: bool) -> Destination:
    """Return where to write, by a file's name and the format that was asked for, which is else the file's suffix.

    Raises:
        ConfigError: the format is unknown or does not fit, its package is missing, or the file must not be replaced.
    """
    form = form or Path(name).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        what = "stdout has no suffix" if name == STDOUT else f"{name} has no suffix that names a format"
        raise ConfigError(f"{what}; write --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    wanted = Destination(name, form)
    if form == "parquet":
        if wanted.is_stdout:
            raise ConfigError("parquet cannot be written to stdout; name a file, or use --format csv or jsonl")
        _import_pyarrow()
    if not wanted.is_stdout:
        _check_file(wanted, is_forced=is_forced)
    return wanted


def _check_file(wanted: Destination, *, is_forced: bool) -> None:
    if not wanted.path.parent.is_dir():
        raise ConfigError(f"{wanted.name} cannot be written: there is no folder {wanted.path.parent}; make it first")
    if wanted.path.exists() and not wanted.path.is_file():
        raise ConfigError(f"{wanted.name} is no file that can be replaced; name another, or {STDOUT} for stdout")
    if wanted.path.exists() and not is_forced:
        raise ConfigError(f"{wanted.name} exists already; name another file, or replace it with --force")


def write_file(pages: Pages, view: Table, wanted: Destination, facts: Mapping[str, str]) -> int:
    """Write a view's rows into a file in one go and return its size in bytes; ``facts`` stand in Parquet's metadata.

    Where anything fails, what was there before is there still, and nothing else.

    Raises:
        SyncError: the file cannot be written.
    """
    with _replaced(wanted) as file:
        if wanted.form == "parquet":
            _write_parquet(pages, view, file, facts)
        else:
            for text in render_pages(pages, columns_of(view), wanted.form):
                file.write(text.encode())
    return wanted.path.stat().st_size


@contextmanager
def _replaced(wanted: Destination) -> Iterator[BinaryIO]:
    """Give a new file that takes the name of the wanted one at the end."""
    path = wanted.path
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "make room" if is_full else "check the folder and its permissions"
        raise SyncError(f"{wanted.name} cannot be written: {error.strerror or error}; {remedy}") from error
    finally:
        part.unlink(missing_ok=True)


def _write_parquet(pages: Pages, view: Table, file: BinaryIO, facts: Mapping[str, str]) -> None:
    arrow, parquet = _import_pyarrow()
    fields = [arrow.field(column.name, _arrow_type(arrow, column.type)) for column in view.columns]
    schema = arrow.schema(fields, {f"ehpc-image-sync.{name}": text for name, text in facts.items()})
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _row_groups_of(arrow, pages, schema):
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)


def _row_groups_of(arrow: Any, pages: Pages, schema: Any) -> Iterator[Any]:
    """Yield Arrow tables of ROW_GROUP_ROWS, at last what is left; rows wait as Arrow's, which are far smaller."""
    waiting: list[Any] = []
    for rows in pages:
        waiting.append(arrow.Table.from_pylist(rows, schema=schema))
        while sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
            joined = arrow.concat_tables(waiting)
            yield joined.slice(0, ROW_GROUP_ROWS)
            waiting = [joined.slice(ROW_GROUP_ROWS)]
    if waiting and waiting[0].num_rows:
        yield arrow.concat_tables(waiting)


def _arrow_type(arrow: Any, column_type: TypeEngine[Any]) -> Any:
    kinds: list[tuple[tuple[type[TypeEngine[Any]], ...], Callable[[], Any]]] = [
        ((UtcTimestamp,), lambda: arrow.timestamp("ms", tz="UTC")),
        ((Boolean,), arrow.bool_),
        ((Integer, BigInteger), arrow.int64),
        ((Float,), arrow.float64),
    ]
    return next((make() for types, make in kinds if isinstance(column_type, types)), arrow.string())


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"parquet needs the package {error.name}, which is not installed; "
            "run: pip install 'ehpc-image-sync[parquet]'"
        ) from None
    return pa, parquet
