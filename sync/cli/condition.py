"""Commands that ask how things went and how they stand: runs, status.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import click

from sync.cli.options import PROGRAM, format_option, stored_options
from sync.errors import ConfigError, ExitCode
from sync.session import open_history
from sync.terminal import data_text, form_of, print_grid, print_rows, say, time_format_of

LARGEST = 2**31 - 1  # what every database takes as an integer


@click.command(short_help="Show past runs, or one with what it could not observe.")
@click.argument("run_id", type=click.IntRange(1, LARGEST), required=False, metavar="[ID]")
@click.option(
    "--limit", type=click.IntRange(1, LARGEST), default=20, show_default=True, help="How many, the newest first."
)
@format_option
@stored_options
def runs(run_id: int | None, limit: int, form: str | None) -> None:
    """Show past runs, the newest first; with ID that run, its regions and what it could not observe.

    With ID --format json prints one object; jsonl and csv one row per target that was not observed.
    """
    if run_id is not None:
        _show_run(run_id, form)
        return
    from sync.render.tables import run_grid
    from sync.store.history import columns_of
    from sync.store.runs import list_runs
    from sync.store.schema import sync_runs

    with open_history() as (settings, connection):
        rows = list_runs(connection, limit)
    print_rows(rows, columns_of(sync_runs), form, lambda: [run_grid(rows, time_format_of(settings))], settings)
    if not rows:
        say(f"no run has been made yet; run: {PROGRAM} run")


def _show_run(run_id: int, form: str | None) -> None:
    from sync.render.tables import run_detail_grids
    from sync.store.runs import FAILURE_COLUMNS, find_run, list_region_runs, list_run_failures, list_runs

    with open_history() as (settings, connection):
        run = find_run(connection, run_id)
        if run is None:
            newest = list_runs(connection, 1)
            hint = f"the newest is {newest[0]['run_id']}" if newest else f"none has been made yet; run: {PROGRAM} run"
            raise ConfigError(f"the history has no run {run_id}; {hint}")
        regions = list_region_runs(connection, run_id)
        failures = list_run_failures(connection, run_id)
    if form == "json":
        click.echo(data_text([run | {"regions": regions, "failures": failures}], (), form, is_one=True))
        return
    show = time_format_of(settings)
    is_table = form_of(form) == "table"
    shown = [run] if is_table else failures
    print_rows(shown, FAILURE_COLUMNS, form, lambda: run_detail_grids(run, regions, failures, show), settings)
    if run["targets_failed"] > len(failures):
        say(f"{run['targets_failed']} targets failed; which ones is no longer known of {'some' if failures else 'any'}")
    elif not failures:
        say(f"run {run_id} observed all that it asked")


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
