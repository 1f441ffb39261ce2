"""Commands that look after things: accept-removals, plan, check.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from sync.cli.options import PROGRAM, format_option, region_option, stored_options, type_option
from sync.errors import ExitCode
from sync.session import open_client, open_database, open_history, open_settings
from sync.terminal import data_text, form_of, print_rows, say, time_format_of

if TYPE_CHECKING:
    from sync.accept import Acceptance

WAIT_FOR_RUN_S = 180  # a run over a thousand instance types of a region takes 100 s at the default rate


@click.command("accept-removals", short_help="Show the held removals, and accept them.")
@region_option
@click.option("--yes", "is_sure", is_flag=True, help="Accept without asking.")
@format_option
@stored_options
def accept_removals(regions: Sequence[str], form: str | None, *, is_sure: bool) -> None:
    """Show the held removals, and accept them: say that they are real.

    They are dated to the first observation that missed the image. Without --yes and without a terminal it only
    shows them. A run under way is waited for.
    """
    from sync.accept import accept_removals as accept
    from sync.job import tell_quietly
    from sync.render.tables import held_grid
    from sync.store.history import list_held
    from sync.tell import Teller

    with open_history() as (settings, connection):
        held = list_held(connection, tuple(regions))
    rows = [row for _, _, row in held]
    columns = tuple(rows[0]) if rows else ()
    print_rows(rows, columns, form, lambda: [held_grid(rows, time_format_of(settings))], settings)
    if not held:
        say("no removals are held")
        return
    if not is_sure and not _is_agreed(f"Accept these {len(held)} removals?"):
        say(f"nothing was accepted; to accept: {PROGRAM} accept-removals --yes")
        return
    with open_database(settings) as database:
        teller = Teller(settings, database)
        done = _when_free(lambda: accept(database, [(target, image) for target, image, _ in held]))
        tell_quietly(teller)
    say(f"accepted as run {done.run_id}: {done.removed_count} removals, {done.retired_count} retired instance types")
    if done.vanished_count:
        say(f"{done.vanished_count} were no longer held when they were to be written, and stay as they are")


def _when_free(accept: Callable[[], "Acceptance"]) -> "Acceptance":
    """Accept as soon as no run is under way; one that lasts longer than a person waits is an error as ever."""
    from sync.errors import LeaseTakenError

    end = time.monotonic() + WAIT_FOR_RUN_S
    is_told = False
    while True:
        try:
            return accept()
        except LeaseTakenError:
            if time.monotonic() >= end:
                raise
        if not is_told:
            say("waiting for the run under way to end; Ctrl-C gives up, and nothing is accepted")
            is_told = True
        time.sleep(0.5)


def _is_agreed(question: str) -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and click.confirm(question, err=True)


@click.command(short_help="Show what a run would ask, and how long it would take.")
@region_option
@type_option
@format_option
@stored_options
def plan(regions: Sequence[str], types: Sequence[str], form: str | None) -> ExitCode:
    """Show what a run would ask, with its number of calls and shortest duration; asks only for instance types."""
    from sync.plan import Restriction
    from sync.preview import PLAN_COLUMNS, plan_grid, preview
    from sync.run import check_regions

    settings = open_settings()
    check_regions(settings)
    with open_client(settings) as client, open_database(settings) as database:
        rows = preview(settings, database, client, Restriction(tuple(regions), tuple(types)))
    print_rows(rows, PLAN_COLUMNS, form, lambda: [plan_grid(rows)], settings)
    return ExitCode.PARTIAL if any(row["error"] for row in rows) else ExitCode.OK


@click.command(short_help="Check all that a run needs, one line each with its remedy.")
@region_option
@click.option("--send-test", "sends_test", is_flag=True, help="Send a test message to each notification channel.")
@format_option
@stored_options
def check(regions: Sequence[str], form: str | None, *, sends_test: bool) -> ExitCode:
    """Check configuration, schedule, database, credentials, clock, permissions and channels, one line each.

    It asks the API a little, tries to write into the database and takes that back. It exits as a run would: 2 when
    configuration or credentials cannot be used, 1 when a run would fail, 3 when it would fail in part.
    """
    from sync.check import examine
    from sync.check.result import CHECK_COLUMNS, check_row, check_text, exit_code_of, verdict_text

    settings = open_settings()
    path = click.get_current_context().find_root().ensure_object(dict).get("config")
    form = form_of(form)
    results = []
    for result in examine(settings, path=path, region_ids=regions, sends_test=sends_test):
        results.append(result)
        if form == "table":
            click.echo(check_text(result))
        elif form == "jsonl":
            click.echo(data_text([check_row(result)], CHECK_COLUMNS, form))
    if form == "table":
        click.echo(verdict_text(results))
    elif form != "jsonl":
        click.echo(data_text([check_row(result) for result in results], CHECK_COLUMNS, form))
    return exit_code_of(results)
