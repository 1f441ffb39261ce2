"""How a command speaks: rows in the asked format and progress on a terminal; answers to stdout, the rest to stderr.

Everything beyond click is imported when it is needed, so that ``--help`` answers at once.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from sync.config import Settings
    from sync.render import Grid


@contextmanager
def draw_progress() -> Iterator[Callable[[Any], None]]:
    """Give a function that draws a bar with counts and rate; it draws nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("asking"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking", total=None, rate="")

        def draw(progress: Any) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} targets/s" if speed else ""
            bar.update(task, completed=progress.done_count, total=progress.asked_count or None, rate=rate)

        yield draw


def time_format_of(settings: "Settings", *, with_seconds: bool = False) -> Callable[[Any], str]:
    """Return the function that shows a time in the configured zone."""
    from sync.moments import format_moment

    return functools.partial(format_moment, zone=settings.zone, with_seconds=with_seconds)


def print_rows(
    rows: Sequence[Any],
    columns: Sequence[str],
    form: str | None,
    grids: "Callable[[], list[Grid]]",
    settings: "Settings",
    note: str = "",
) -> None:
    """Print rows in a format: tables from ``grids``, which group and shorten; the others give every row and column.

    Tables end with their time zone and the ``note``.
    """
    form = form_of(form)
    if form != "table":
        print_pages([rows], columns, form)
        return
    shown = grids()
    _print_grids(shown)
    if rows or any(grid.title for grid in shown):
        click.echo(f"times in {settings.timezone}{note}")


def form_of(form: str | None) -> str:
    """Return the format that was asked for, else that which suits stdout."""
    return form or ("table" if sys.stdout.isatty() else "jsonl")


def print_pages(pages: Iterable[Sequence[Any]], columns: Sequence[str], form: str) -> int:
    """Print rows as data while they come, page by page, and return how many there were."""
    from sync.render import render_pages

    row_count = 0

    def counted() -> Iterator[Sequence[Any]]:
        nonlocal row_count
        for rows in pages:
            row_count += len(rows)
            yield rows

    for text in render_pages(counted(), columns, form):
        click.echo(text, nl=False)
    return row_count


def print_batch(
    rows: Sequence[Any], columns: Sequence[str], form: str | None, lines: Sequence[str], *, is_first: bool
) -> None:
    """Print rows that came while others are still to come, at once; ``lines`` say them to people."""
    form = form_of(form)
    if form == "table":
        text = "\n".join(lines)
    else:
        text = data_text(rows, columns, form)
        if form == "csv" and not is_first:
            text = text.partition("\n")[2]
    click.echo(text)
    sys.stdout.flush()


def data_text(rows: Sequence[Any], columns: Sequence[str], form: str | None, *, is_one: bool = False) -> str:
    """Return rows as data; ``is_one`` makes JSON of a single row an object."""
    from sync.render import render_rows, to_jsonl

    if is_one and form == "json":
        return to_jsonl(rows)
    return render_rows(rows, columns, form or "jsonl")


def print_grid(grid: "Grid") -> None:
    """Print one table."""
    _print_grids([grid])


def _print_grids(grids: "Sequence[Grid]") -> None:
    from rich.console import Console

    console = Console(soft_wrap=False, highlight=False)
    # Captured, because rich itself ends the process with 1 when the reader closes the pipe (`| head`).
    with console.capture() as captured:
        for grid in grids:
            if not grid.title and not grid.rows:
                continue
            if grid.title:
                console.print(grid.title, style="bold", markup=False)
            if grid.rows:
                console.print(_table(grid), markup=False)
            console.print()
    click.echo(captured.get(), nl=False)


def _table(grid: "Grid") -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in grid.columns:
        table.add_column(column, no_wrap=column not in grid.wrapping, overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table


def say(text: str) -> None:
    """Print a sentence that is no answer to stderr."""
    click.echo(text, err=True)
