"""Commands that move the history elsewhere: export, db copy.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sync.cli.options import PROGRAM, format_option, region_option, stored_options
from sync.errors import ConfigError, SyncError
from sync.session import filter_of, note_interrupts, open_database, open_settings
from sync.terminal import data_text, form_of, print_grid, print_pages, say

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from sqlalchemy import Table

    from sync.export import Destination
    from sync.store.database import Database


class Tally:
    """How many rows have passed, drawn on a terminal."""

    def __init__(self, verb: str, bar: Any = None) -> None:
        self.row_count = 0
        self._verb = verb
        self._bar = bar
        self._task = None if bar is None else bar.add_task(verb, total=None)

    def count(self, row_count: int, what: str) -> None:
        """Note that further rows of a table or view have passed."""
        self.row_count += row_count
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._verb} {what}: {self.row_count:,} rows")


@contextmanager
def _draw_rows(verb: str, *, is_quiet: bool = False) -> Iterator[Tally]:
    """Give a counter of rows that draws itself on a terminal."""
    if is_quiet or not sys.stderr.isatty():
        yield Tally(verb)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Tally(verb, bar)


@click.command(short_help="Write a view into a Parquet, CSV or JSON lines file.")
@click.argument("view_name", metavar="VIEW")
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice(("parquet", "csv", "jsonl")),
    help="How to write. [default: the suffix of FILE]",
)
@click.option("--force", "is_forced", is_flag=True, help="Replace FILE where it exists.")
@region_option
@stored_options
def export(view_name: str, file: str, form: str | None, regions: Sequence[str], *, is_forced: bool) -> None:
    """Write all rows of a public view into FILE; `-` is stdout.

    VIEW is available_images, image_history, image_lifetimes, image_changes, images, target_status, observation_gaps,
    sync_runs or region_runs. All rows are of one moment, and sorted: images, changes and runs by their ids, all else by
    region, instance type, BaseOsTag filter, image and time. So equal data give equal files, but for the lived_days of
    what is available still and for Parquet's metadata. FILE appears when it is complete.
    """
    from sync.export import destination_of, view_named
    from sync.store.stream import has_region

    settings = open_settings()
    view = view_named(view_name)
    if regions and not has_region(view):
        raise ConfigError(f"the rows of {view.name} belong to no region; leave out --region, or export region_runs")
    wanted = destination_of(file, form, is_forced=is_forced)
    with open_database(settings) as database, note_interrupts() as stop:
        if not wanted.is_stdout and database.file and wanted.path in _files_of(database.file):
            raise ConfigError(f"{file} is the configured database itself; name another file")
        text = _exported(database, view, regions, wanted, stop)
    say(text)


def _files_of(database: "Path") -> list["Path"]:
    """Return an SQLite file and those that it keeps beside it."""
    return [database, *(database.with_name(f"{database.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))]


def _exported(database: "Database", view: "Table", regions: Sequence[str], wanted: "Destination", stop: "Event") -> str:
    """Write the rows and return what to say about it."""
    from sync.export import write_file
    from sync.inventory import utc_now
    from sync.render import counted, iso
    from sync.store.database import require_history
    from sync.store.history import columns_of
    from sync.store.stream import stream_view

    require_history(database)
    is_drawn = not (wanted.is_stdout and sys.stdout.isatty())
    snapshot_at = utc_now()
    with database.reading() as connection, _draw_rows("exporting", is_quiet=not is_drawn) as tally:
        chosen = filter_of(connection, regions=regions).region_ids
        pages = _watched(stream_view(connection, view, chosen), view.name, tally, stop)
        if wanted.is_stdout:
            print_pages(pages, columns_of(view), wanted.form)
            return f"{counted(tally.row_count, 'row')} of {view.name}"
        facts = {
            "version": _version(),
            "view": view.name,
            "database": database.label,
            "snapshot_at": iso(snapshot_at),
        }
        size = write_file(pages, view, wanted, facts)
    return f"{counted(tally.row_count, 'row')} of {view.name} in {wanted.name} ({_size_text(size)})"


def _version() -> str:
    from importlib.metadata import version

    return version(PROGRAM)


def _watched(pages: Iterable[Any], name: str, tally: Tally, stop: "Event") -> Iterator[Any]:
    """Yield pages, count their rows, and end where the program is asked to."""
    for rows in pages:
        if stop.is_set():
            raise SyncError("interrupted before all rows were written; no file was made or replaced")
        tally.count(len(rows), name)
        yield rows


def _size_text(size: int) -> str:
    """Return a number of bytes as people read it: ``1.2 MB``."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@click.command(short_help="Copy the whole history into another, empty database.")
@click.argument("url", metavar="URL")
@format_option
@stored_options
def copy(url: str, form: str | None) -> None:
    """Copy the whole history into the empty database at URL: from SQLite to a server, or from any to any.

    No run can begin meanwhile. All rows keep their ids, are read back and compared, and are there all at once or not
    at all; what channels were told is copied too, so nobody is told anything twice. The configured database stays as
    it is.
    """
    from sync.store.copy import copy_history
    from sync.store.database import Database

    with open_database(open_settings()) as source, note_interrupts() as stop, _draw_rows("copying") as tally:
        try:
            destination = Database(url)
        except ConfigError as error:
            raise ConfigError(str(error).replace("database_url", "URL", 1)) from None

        def watch(row_count: int, table: str) -> None:
            if stop.is_set():
                raise SyncError(f"interrupted; nothing was copied, {destination.label} has no history")
            tally.count(row_count, table)

        try:
            counts = copy_history(source, destination, watch)
        finally:
            destination.close()
    rows = [{"table": name, "rows": count} for name, count in counts.items()]
    _print_copied(rows, form)
    after = f"next: set database_url to {destination.label}, with its password and options if it has any; "
    told = f"{after}{source.label} stays as it is"
    click.echo(told) if form_of(form) == "table" else say(told)


def _print_copied(rows: Sequence[dict[str, Any]], form: str | None) -> None:
    from sync.render import Grid

    columns = ("table", "rows")
    if form_of(form) == "table":
        print_grid(Grid("", columns, [(row["table"], f"{row['rows']:,}") for row in rows]))
    else:
        click.echo(data_text(rows, columns, form_of(form)))
