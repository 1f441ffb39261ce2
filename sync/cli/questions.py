"""Commands that ask the history: images, compare, changes, history.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sync.cli.options import Asked, filter_options, format_option, stored_options
from sync.errors import ConfigError
from sync.session import filter_of, moment_of, note_interrupts, open_database, open_history, open_settings
from sync.terminal import form_of, print_batch, print_pages, print_rows, say, time_format_of

if TYPE_CHECKING:
    from datetime import datetime

    from sync.config import Settings
    from sync.render import Grid


@click.command()
@click.option("--at", "moment", metavar="TIME", default="now", help="As of this time: 2026-11-22, -2h, yesterday.")
@filter_options
@format_option
@stored_options
def images(moment: str, asked: Asked, form: str | None) -> None:
    """Show which images are, or were, available.

    Instance types with the same images are shown as one group. Where a target was not observed at that time its
    last known images are marked unknown, which is not absent, with the observations before and after.
    """
    from sync.render.tables import image_grids
    from sync.store.history import columns_of, has_targets
    from sync.store.schema import available_images
    from sync.store.snapshot import COVERAGE_COLUMNS, list_images_at

    with open_history() as (settings, connection):
        at = moment_of(moment, settings)
        wanted = filter_of(connection, **asdict(asked))
        rows = list_images_at(connection, at, wanted)
        is_told = _say_if_too_early(connection, at, settings)
        is_asked = has_targets(connection, wanted)
    columns = columns_of(available_images, *COVERAGE_COLUMNS)
    print_rows(rows, columns, form, lambda: image_grids(rows, time_format_of(settings)), settings)
    if not rows and not is_told:
        known = "no image matches; what was asked is known to have none at that time"
        say(known if is_asked else "nothing is known of that: no run has asked this region and instance type")


def _say_if_too_early(connection: Any, moment: "datetime", settings: "Settings") -> bool:
    """Say so where nothing was observed at a time, and return whether that is so."""
    from sync.store.history import find_first_observation

    first = find_first_observation(connection)
    if first is None:
        say("nothing has been observed yet")
    elif moment < first:
        begin = time_format_of(settings, with_seconds=True)(first)
        say(f"nothing was observed at that time; the first observation is of {begin} ({settings.timezone})")
    return first is None or moment < first


class _TimeArguments(click.Command):
    """A command whose arguments may be times like -2h, which are no options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with such times moved away from the beginning of their word; a time may begin with a blank."""
        return super().parse_args(ctx, [f" {word}" if re.fullmatch(r"-\d+[smhdw]", word) else word for word in args])


@click.command(cls=_TimeArguments, short_help="Show the difference between two times, regions or instance types.")
@click.argument("times", nargs=-1, metavar="[TIME [TIME]]")
@click.option(
    "--at", "moment", metavar="TIME", help="Compare regions or instance types as of this time. [default: now]"
)
@filter_options
@format_option
@stored_options
def compare(times: Sequence[str], moment: str | None, asked: Asked, form: str | None) -> None:
    """Show the difference between two times, or between two regions or two instance types at one time.

    \b
      compare 2026-11-01 2026-11-22          what is there at the second time and was not at the first
      compare -7d                            the same up to now
      compare --region A --region B          what B offers and A does not; --instance-type narrows it
      compare --instance-type S --instance-type T

    What was not observed on either side is told as unknown, never as removed.
    """  # noqa: D301 - click wants the character itself
    from sync.compare import COMPARE_COLUMNS, find_comparison
    from sync.inventory import utc_now
    from sync.render.tables import compare_grid

    with open_history() as (settings, connection):
        moments = [moment_of(text, settings) for text in times]
        at = None if moment is None else moment_of(moment, settings)
        wanted = filter_of(connection, **asdict(asked))
        found = find_comparison(connection, wanted, moments, at, utc_now(), time_format_of(settings))
        _say_if_too_early(connection, found.earliest, settings)
    grids = [compare_grid(found.rows, found.title, found.labels)]
    print_rows(found.rows, COMPARE_COLUMNS, form, lambda: grids, settings)
    if not found.rows:
        say("no difference")


@click.command(short_help="Show what was added, removed or changed.")
@click.option("--since", metavar="TIME", help="Recorded at or after this time.")
@click.option("--until", metavar="TIME", help="Recorded before this time.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(("added", "removed", "changed", "type_added", "type_retired")),
    multiple=True,
    help="Only this kind. Repeatable.",
)
@click.option(
    "--follow", "is_followed", is_flag=True, help="Go on and show changes as they are recorded, until Ctrl-C."
)
@filter_options
@format_option
@stored_options
def changes(
    since: str | None, until: str | None, kinds: Sequence[str], asked: Asked, form: str | None, *, is_followed: bool
) -> None:
    """Show what was added, removed or changed, in the order in which it was recorded.

    A change that was believed late is recorded late and dated early: --since reads the order of recording, so a
    script that remembers when it last asked misses nothing. --follow begins with now, or with --since.
    """
    from sync.render.tables import change_grid
    from sync.store.database import require_history
    from sync.store.history import columns_of, list_changes, stream_changes
    from sync.store.schema import image_changes

    if is_followed:
        _follow(since, until, kinds, asked, form)
        return
    settings = open_settings()
    with open_database(settings) as database:
        require_history(database)
        start = None if since is None else moment_of(since, settings)
        end = None if until is None else moment_of(until, settings)
        if start and end and end <= start:
            raise ConfigError(f"--until {until} is not after --since {since}; exchange them")
        with database.reading() as connection:
            wanted = filter_of(connection, **asdict(asked), kinds=kinds)
        columns, form = columns_of(image_changes), form_of(form)
        if form == "table":
            with database.reading() as connection:
                rows = list_changes(connection, wanted, since=start, until=end)
            print_rows(rows, columns, form, lambda: [change_grid(rows, time_format_of(settings))], settings)
            row_count = len(rows)
        else:
            row_count = print_pages(stream_changes(database, wanted, since=start, until=end), columns, form)
    if not row_count:
        say("no change matches")


def _follow(since: str | None, until: str | None, kinds: Sequence[str], asked: Asked, form: str | None) -> None:
    from sync.follow import follow_changes
    from sync.render.tables import followed_lines
    from sync.store.database import require_history
    from sync.store.history import columns_of, find_id_before, find_last_change_id
    from sync.store.schema import image_changes

    if until is not None:
        raise ConfigError("--follow goes on without end; leave out --until")
    if form == "json":
        raise ConfigError("--follow cannot write a JSON array, which has an end; use --format jsonl")
    settings = open_settings()
    show = time_format_of(settings, with_seconds=True)
    columns = columns_of(image_changes)
    with open_database(settings) as database, note_interrupts() as stop:
        require_history(database)
        with database.reading() as connection:
            wanted = filter_of(connection, **asdict(asked), kinds=kinds)
            start = None if since is None else moment_of(since, settings)
            cursor = find_last_change_id(connection) if start is None else find_id_before(connection, start)
        if form_of(form) == "table":
            say(f"times in {settings.timezone}; Ctrl-C ends it")
        is_first = True
        for rows in follow_changes(database, wanted, cursor, stop):
            print_batch(rows, columns, form, followed_lines(rows, show), is_first=is_first)
            is_first = False


@click.command(short_help="Show the life line of an image, an OS or an instance type.")
@filter_options
@format_option
@stored_options
def history(asked: Asked, form: str | None) -> None:
    """Show the life line of an image, an OsTag or an instance type: from when to when it was available, and where."""
    from sync.inventory import utc_now
    from sync.render.tables import gap_sentence, image_life_grids, type_life_grids
    from sync.store.history import columns_of, find_unknown_since, list_gaps, list_intervals
    from sync.store.runs import find_run_times
    from sync.store.schema import image_history
    from sync.store.snapshot import find_complete_run

    if not asked.types and not asked.images and not asked.os_tags:
        raise ConfigError("history needs --image, --os-tag or --instance-type: a life line of something")
    with open_history() as (settings, connection):
        wanted = filter_of(connection, **asdict(asked))
        rows = list_intervals(connection, wanted)
        run_times = find_run_times(connection)
        unknown = find_unknown_since(connection, wanted)
        gaps = list_gaps(connection, wanted)
        region_ids = {row["region_id"] for row in rows}
        runs = [find_complete_run(connection, region_id, utc_now()) for region_id in region_ids]
    show = time_format_of(settings)
    is_of_images = bool(asked.images or asked.os_tags)
    observed = [moment for moment in runs if moment]
    note = f"; observed until {show(min(observed))}" if observed else ""
    if gaps and is_of_images:
        note += f"\n{gap_sentence(gaps)}"
    columns = columns_of(image_history)

    def grids() -> "list[Grid]":
        if is_of_images:
            return image_life_grids(rows, show, run_times.run_start_of, unknown)
        return type_life_grids(rows, show, run_times.run_start_of, unknown, gaps)

    print_rows(rows, columns, form, grids, settings, note)
    if not rows:
        say(f"no image matches; {gap_sentence(gaps)}" if gaps else "no image matches")
