"""Commands that make runs: run, daemon, demo, simulate.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sync.cli.options import FORMATS, region_option, stored_options, type_option
from sync.cli.web import DEFAULT_ADDRESS, serve_history
from sync.errors import ConfigError, ExitCode
from sync.session import note_interrupts, open_client, open_database, open_settings
from sync.terminal import data_text, draw_progress, say

if TYPE_CHECKING:
    from sync.config import Settings
    from sync.run import RunRequest, RunResult
    from sync.store.database import Database


@click.command(short_help="Make one run now: ask the API, record what changed.")
@region_option
@type_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Ask everything, print the counts, write nothing.")
@click.option(
    "--if-due",
    "is_due",
    is_flag=True,
    help="Only when the schedule's last tick has had no run: for cron on several machines.",
)
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Log each region to stderr.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Print the result as data. [default: a summary]")
@stored_options
def run(regions: Sequence[str], types: Sequence[str], form: str | None, **flags: bool) -> ExitCode:
    """Make one run now: ask every target, record what changed.

    With --region or --instance-type it asks less, and touches nothing of what it did not ask. Prints one summary;
    a run in which targets failed or removals are held exits with 3 and says why.
    """
    from sync.errors import RunNotDueError
    from sync.run import check_regions

    settings = open_settings(is_verbose=flags["is_verbose"])
    check_regions(settings)
    request = _request_of(settings, regions, types, is_dry=flags["is_dry"], is_due=flags["is_due"])
    with open_database(settings) as database:
        try:
            result = _made_run(settings, database, request)
        except RunNotDueError as error:
            say(str(error))
            return ExitCode.OK
        click.echo(_run_text(result, form, settings, database))
    return result.exit_code


def _request_of(
    settings: "Settings", regions: Sequence[str], types: Sequence[str], *, is_dry: bool, is_due: bool
) -> "RunRequest":
    from sync.inventory import utc_now
    from sync.job import scheduled_request
    from sync.plan import Restriction
    from sync.run import RunRequest

    restriction = Restriction(tuple(regions), tuple(types))
    if is_due and (is_dry or not restriction.covers_everything):
        raise ConfigError("--if-due is for whole runs; leave out --dry-run, --region and --instance-type")
    if is_dry or not restriction.covers_everything:
        return RunRequest("command", restriction, is_dry)
    return scheduled_request(settings, "command", utc_now(), only_if_due=is_due)


def _made_run(settings: "Settings", database: "Database", request: "RunRequest") -> "RunResult":
    from sync.job import Workshop, make_job
    from sync.run import check_turn
    from sync.tell import Teller

    workshop = Workshop(settings, database, Teller(settings, database))
    if not request.is_dry:
        check_turn(database, request)
    with open_client(settings) as client, note_interrupts() as interrupt, draw_progress() as on_progress:
        return make_job(workshop, client, request, interrupt=interrupt, on_progress=on_progress)


def _run_text(result: "RunResult", form: str | None, settings: "Settings", database: "Database") -> str:
    from sync.report import run_row, run_summary
    from sync.store.runs import list_run_changes

    if form not in {None, "table"}:
        return data_text([run_row(result)], tuple(run_row(result)), form, is_one=True)
    changes = []
    if result.run_id is not None:
        with database.reading() as connection:
            changes = list_run_changes(connection, result.run_id)
    return run_summary(result, changes, settings.zone)


@click.command(short_help="Make a run at every tick of the schedule, until SIGTERM.")
@stored_options
def daemon() -> ExitCode:
    """Make a run at every tick of `schedule`, until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Any number of daemons and cron jobs on one database make one run per tick. A tick that nobody has served when the
    daemon starts is served at once. With `http_listen` it serves the dashboard,
    /healthz, /livez and /metrics.
    """
    from sync.daemon import serve

    serve(lambda: open_settings(is_verbose=True))
    return ExitCode.OK


@click.command()
@stored_options
@click.option("--file", "path", metavar="FILE", default="ehpc-demo.db", show_default=True, help="SQLite file to write.")
@click.option("--web", "has_web", is_flag=True, help="Then serve the dashboard of that file, and open it.")
def demo(path: str, *, has_web: bool) -> ExitCode:
    """Show the product in a minute, without an account.

    Starts the simulator on loopback and makes real runs against it, over HTTP and with signatures, while its
    catalogue changes; prints what each run saw and recorded, and what to try next on the file it leaves. With --web
    it serves the dashboard of that file until Ctrl-C.
    """
    from sync.demo import play, settings_of

    if has_web:
        from sync.web.extra import require_extra

        require_extra("--web is given, but")
    play(path, click.echo)
    if has_web:
        click.echo()
        serve_history(settings_of(path), *DEFAULT_ADDRESS, opens=True, takes_any_port=True)
    return ExitCode.OK


class _WithFaultHelp(click.Command):
    """A command whose help ends with how faults are written."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description of faults, which is imported only when it is asked for."""
        from sync.simulator.fault_text import FAULT_HELP

        with formatter.section("Faults"):
            for paragraph in FAULT_HELP.split("\n\n"):
                formatter.write_paragraph()
                formatter.write("\n".join(f"  {line}" for line in paragraph.replace("\b\n", "").splitlines()) + "\n")


@click.command(cls=_WithFaultHelp, short_help="Serve a simulated E-HPC for your own experiments.")
@click.option("--port", default=8390, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--region", "regions", metavar="REGION", multiple=True, help="Region to simulate. Repeatable.")
@click.option("--types", "type_count", default=32, show_default=True, help="Instance types per region, 18 to 2000.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Go on to the next state this often.",
)
@click.option("--fault", "faults", metavar="FAULT", multiple=True, help="Fault to inject, see below. Repeatable.")
@click.option(
    "--calls-per-second",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Throttle each region beyond this rate.",
)
def simulate(port: int, regions: Sequence[str], every_s: float | None, **options: Any) -> ExitCode:
    """Serve a simulated E-HPC on loopback for your own experiments.

    It verifies signatures, so any official SDK can talk to it. Its catalogue tells a story in steps; a POST to
    /_simulator/advance goes on to the next one.
    """
    from sync.simulator.serve import serve

    with note_interrupts() as interrupt:
        serve(port, regions, interrupt, click.echo, every_s=every_s, **options)
    return ExitCode.OK
