"""Commands that look after the database: db upgrade, verify, prune, copy.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sync.cli.options import format_option, stored_options
from sync.errors import ExitCode
from sync.session import open_database, open_history, open_settings
from sync.terminal import data_text, form_of, say, time_format_of

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sync.config import Settings
    from sync.store.prune import Pruned
    from sync.store.verify import CheckResult, Violation

VIOLATION_COLUMNS = ("check", "region_id", "instance_type", "base_os_tag_filter", "image_id", "message")

SHOWN = 20  # violations of one check in the table; the other formats give all that were kept


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@stored_options
def upgrade() -> None:
    """Bring the tables to this version; `run` does so by itself."""
    from sync.store.database import head_revision
    from sync.store.lease import Lease

    settings = open_settings()
    with open_database(settings) as database:
        lease = Lease(database)
        lease.acquire()
        lease.release()
        click.echo(f"{database.label} has the tables of this version (schema {head_revision()})")


@db.command(short_help="Prove that the stored history does not contradict itself.")
@format_option
@stored_options
def verify(form: str | None) -> ExitCode:
    """Prove that the stored history does not contradict itself.

    It only reads, and a run may go on meanwhile. It exits 0 when the history is sound, 1 when it is not; json, jsonl
    and csv give a row per violation.
    """
    from dataclasses import asdict

    from sync.store.verify import verify as examine

    with open_history() as (_, connection), _draw_targets() as draw:
        verdict = examine(connection, draw)
    form = form_of(form)
    if form == "table":
        lines = [line for result in verdict.results for line in _result_lines(result)]
        click.echo("\n".join(lines))
    elif text := data_text([asdict(entry) for entry in verdict.violations], VIOLATION_COLUMNS, form):
        click.echo(text)
    if not verdict.is_sound:
        say(UNSOUND)
    elif form == "table":
        click.echo("the history is sound")
    return ExitCode.OK if verdict.is_sound else ExitCode.FAILED


UNSOUND = (
    "the history contradicts itself, so some answers are wrong: restore a copy of the database from before, "
    "keep this one, and report what is said of it here"
)


@contextmanager
def _draw_targets() -> "Iterator[Callable[[int, int], None]]":
    """Give a function that shows how far the targets are; it shows nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    yield lambda done, total: click.echo(f"\rverifying: {done:,} of {total:,} targets", err=True, nl=False)
    click.echo("\r\033[K", err=True, nl=False)


def _result_lines(result: "CheckResult") -> list[str]:
    """Return the line of one check, and those of its first violations."""
    from sync.render import counted

    count = result.violation_count
    head = f"{result.check}: {result.examined_count:,} examined, {counted(count, 'violation') if count else 'sound'}"
    lines = [f"  {_place_of(entry)}{entry.message}" for entry in result.violations[:SHOWN]]
    return [head, *lines, *([f"  … and {count - len(lines):,} more"] if count > len(lines) else [])]


def _place_of(violation: "Violation") -> str:
    tag = f"[{violation.base_os_tag_filter}]" if violation.base_os_tag_filter else ""
    place = "/".join(part for part in (violation.region_id, violation.instance_type) if part)
    parts = " ".join(part for part in (place, tag, violation.image_id) if part)
    return f"{parts}: " if parts else ""


@db.command(short_help="Drop the history that is older than a span of time.")
@click.option(
    "--keep", "span", metavar="SPAN", required=True, help="How much of the history to keep, such as 730d or 104w."
)
@click.option("--dry-run", "is_dry", is_flag=True, help="Only say what would be dropped.")
@stored_options
def prune(span: str, *, is_dry: bool) -> None:
    """Drop the history that is older than a span of time.

    Each region is cut at its last complete run before that. Every answer about a later time stays what it is; about an
    earlier one it becomes unknown, never absent. It may be interrupted at any moment; the next one does what is left.
    """
    from sync.inventory import utc_now
    from sync.store.database import require_history
    from sync.store.prune import count_prunable
    from sync.store.prune import prune as drop

    settings = open_settings()
    now = utc_now()
    cutoff = _cutoff_of(span, now)
    with open_database(settings) as database:
        require_history(database)
        pruned = (count_prunable if is_dry else drop)(database, cutoff, now)
        click.echo(_pruned_text(pruned, cutoff, settings, is_dry=is_dry))
        if database.dialect_name == "sqlite" and pruned.row_count and not is_dry:
            click.echo("The file does not shrink, what it holds free is used again; to shrink it: sqlite3 FILE VACUUM")


def _cutoff_of(span: str, now: "datetime") -> "datetime":
    """Return the time before which the history may go."""
    from sync.errors import ConfigError

    try:
        keep = _span_of(span)
        return now - keep
    except ValueError as error:
        raise ConfigError(f"--keep {span}: {error}") from None
    except OverflowError:
        raise ConfigError(f"--keep {span}: no history is that old; write for example 730d") from None


def _span_of(text: str) -> "timedelta":
    from sync.ticks import parse_span

    keep = parse_span(text)
    if not keep:
        raise ValueError("it would keep nothing; write for example 730d")
    return keep


def _pruned_text(pruned: "Pruned", cutoff: "datetime", settings: "Settings", *, is_dry: bool) -> str:
    """Return what was dropped, or would be, and from when on the history is kept."""
    from sync.render import counted

    def show(moment: "datetime") -> str:
        return f"{time_format_of(settings, with_seconds=True)(moment)} {settings.timezone}"

    if not pruned.kept_from:
        return f"nothing to drop: no region has a complete run before {show(cutoff)} with anything older"
    of_time = defaultdict(list)
    for region_id, moment in pruned.kept_from.items():
        of_time[moment].append(region_id)
    since = ", ".join(
        f"from {show(moment)} on" + (f" in {', '.join(sorted(names))}" if len(of_time) > 1 else "")
        for moment, names in sorted(of_time.items())
    )
    if not pruned.row_count and pruned.cut_count:
        what = "would be unknown" if is_dry else "is unknown now"
        return f"no rows to drop, but what is older {what}: the history is kept {since}"
    if not pruned.row_count:
        return f"nothing to drop: the history is kept {since}, and nothing older is left"
    parts = [
        counted(pruned.interval_count, "interval"),
        counted(pruned.change_count, "change"),
        counted(pruned.gap_count, "gap"),
        counted(pruned.region_run_count, "region run"),
    ]
    verb, kept = ("would be dropped", "would be kept") if is_dry else ("were dropped", "is kept")
    return f"{', '.join(parts[:-1])} and {parts[-1]} {verb}; the history {kept} {since}."
