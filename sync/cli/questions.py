"""Commands that ask the history: images, changes, history, runs, status.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

from collections.abc import Sequence

import click

from sync.cli.options import PROGRAM, format_option, image_option, region_option, stored_options, type_option
from sync.errors import ConfigError, ExitCode
from sync.session import filter_of, moment_of, open_history
from sync.terminal import data_text, print_grid, print_rows, say, time_format_of


@click.command()
@click.option("--at", "moment", metavar="TIME", default="now", help="As of this time: 2026-11-22, -2h, yesterday.")
@region_option
@type_option
@image_option
@format_option
@stored_options
def images(moment: str, regions: Sequence[str], types: Sequence[str], images: Sequence[str], form: str | None) -> None:
    """Show which images are, or were, available.

    Instance types with the same images are shown as one group. Where a target was not observed at that time its
    last known images are marked unknown, which is not absent.
    """
    from sync.render import image_grids
    from sync.store.history import columns_of, find_first_observation, list_images_at
    from sync.store.schema import available_images

    with open_history() as (settings, connection):
        at = moment_of(moment, settings)
        rows = list_images_at(connection, at, filter_of(connection, regions, types, images))
        first = find_first_observation(connection)
    columns = columns_of(available_images, "state", "observed_at")
    print_rows(rows, columns, form, lambda: image_grids(rows, time_format_of(settings)), settings)
    if first is None:
        say("nothing has been observed yet")
    elif at < first:
        say(f"nothing was observed at that time; the first observation is of {time_format_of(settings)(first)}")
    elif not rows:
        say("no image matches; what was asked is known to have none at that time")


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
@region_option
@type_option
@image_option
@format_option
@stored_options
def changes(since: str | None, until: str | None, form: str | None, **wanted: Sequence[str]) -> None:
    """Show what was added, removed or changed, in the order in which it was recorded.

    A change that was believed late is recorded late and dated early: --since reads the order of recording, so a
    script that remembers when it last asked misses nothing.
    """
    from sync.render import change_grid
    from sync.store.history import columns_of, list_changes
    from sync.store.schema import image_changes

    with open_history() as (settings, connection):
        start = None if since is None else moment_of(since, settings)
        end = None if until is None else moment_of(until, settings)
        if start and end and end <= start:
            raise ConfigError(f"--until {until} is not after --since {since}; exchange them")
        chosen = filter_of(connection, wanted["regions"], wanted["types"], wanted["images"], wanted["kinds"])
        rows = list_changes(connection, chosen, since=start, until=end)
    print_rows(rows, columns_of(image_changes), form, lambda: [change_grid(rows, time_format_of(settings))], settings)
    if not rows:
        say("no change matches")


@click.command(short_help="Show the life line of an image or an instance type.")
@region_option
@type_option
@image_option
@format_option
@stored_options
def history(regions: Sequence[str], types: Sequence[str], images: Sequence[str], form: str | None) -> None:
    """Show the life line of an image or an instance type: from when to when it was available, and where."""
    from sync.render import image_life_grids, type_life_grids
    from sync.store.history import columns_of, find_run_times, list_intervals
    from sync.store.schema import image_history

    if not types and not images:
        raise ConfigError("history needs --image or --instance-type: a life line of something")
    with open_history() as (settings, connection):
        rows = list_intervals(connection, filter_of(connection, regions, types, images))
        run_times = find_run_times(connection)
    grids = image_life_grids if images else type_life_grids
    show = time_format_of(settings)
    print_rows(rows, columns_of(image_history), form, lambda: grids(rows, show, run_times.run_start_of), settings)
    if not rows:
        say("no image matches")


@click.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@format_option
@stored_options
def runs(limit: int, form: str | None) -> None:
    """Show past runs, the newest first."""
    from sync.render import run_grid
    from sync.store.history import columns_of, list_runs
    from sync.store.schema import sync_runs

    with open_history() as (settings, connection):
        rows = list_runs(connection, limit)
    print_rows(rows, columns_of(sync_runs), form, lambda: [run_grid(rows, time_format_of(settings))], settings)
    if not rows:
        say(f"no run has been made yet; run: {PROGRAM} run")


@click.command(short_help="Say how fresh and complete the data are; exit 0 or 3.")
@format_option
@stored_options
def status(form: str | None) -> ExitCode:
    """Say how fresh and complete the data are, and what needs a look.

    Exits with 0 when all is well and with 3 when data are stale, targets fail, removals are held or the last run was
    lost: for monitoring. --format json prints one object; jsonl and csv one row per region.
    """
    from sync.health import find_health
    from sync.inventory import utc_now
    from sync.report import REGION_COLUMNS, health_row, health_summary, region_grid, region_rows

    now = utc_now()
    with open_history() as (settings, connection):
        health = find_health(connection, settings, now)
    following = settings.due.next_after(now)
    if form in {None, "table"}:
        print_grid(region_grid(health, settings.zone))
        click.echo(health_summary(health, following, settings.zone))
    elif form == "json":
        click.echo(data_text([health_row(health, following)], (), form, is_one=True))
    else:
        click.echo(data_text(region_rows(health), REGION_COLUMNS, form))
    return ExitCode.OK if health.is_well else ExitCode.PARTIAL
