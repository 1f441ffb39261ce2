"""Commands that make runs: run, demo, simulate.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sync.cli.options import FORMATS, region_option, stored_options, type_option
from sync.errors import ExitCode
from sync.session import note_interrupts, open_client, open_database, open_settings
from sync.terminal import data_text, draw_progress

if TYPE_CHECKING:
    from sync.config import Settings
    from sync.run import RunRequest, RunResult
    from sync.store.database import Database


@click.command(short_help="Make one run now: ask the API, record what changed.")
@region_option
@type_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Ask everything, print the counts, write nothing.")
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Log each region to stderr.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Print the result as data. [default: a summary]")
@stored_options
def run(regions: Sequence[str], types: Sequence[str], form: str | None, **flags: bool) -> ExitCode:
    """Make one run now: ask every target, record what changed.

    With --region or --instance-type it asks less, and touches nothing of what it did not ask. Prints one summary;
    a run in which targets failed or removals are held exits with 3 and says why.
    """
    from sync.plan import Restriction
    from sync.run import RunRequest

    settings = open_settings(is_verbose=flags["is_verbose"])
    request = RunRequest("command", Restriction(tuple(regions), tuple(types)), flags["is_dry"])
    with open_database(settings) as database:
        result = _made_run(settings, database, request)
        click.echo(_run_text(result, form, settings, database))
    return result.exit_code


def _made_run(settings: "Settings", database: "Database", request: "RunRequest") -> "RunResult":
    from sync.run import check_regions, run_once

    check_regions(settings)
    with open_client(settings) as client, note_interrupts() as interrupt, draw_progress() as on_progress:
        return run_once(settings, database, client, request, interrupt=interrupt, on_progress=on_progress)


def _run_text(result: "RunResult", form: str | None, settings: "Settings", database: "Database") -> str:
    from sync.report import run_row, run_summary
    from sync.store.history import list_run_changes

    if form not in {None, "table"}:
        return data_text([run_row(result)], tuple(run_row(result)), form, is_one=True)
    changes = []
    if result.run_id is not None:
        with database.reading() as connection:
            changes = list_run_changes(connection, result.run_id)
    return run_summary(result, changes, settings.zone)


@click.command()
@stored_options
@click.option("--file", "path", metavar="FILE", default="ehpc-demo.db", show_default=True, help="SQLite file to write.")
def demo(path: str) -> ExitCode:
    """Show the product in a minute, without an account.

    Starts the simulator on loopback and makes real runs against it, over HTTP and with signatures, while its
    catalogue changes; prints what each run saw and recorded, and what to try next on the file it leaves.
    """
    from sync.demo import play

    play(path, click.echo)
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
@click.option("--types", "type_count", default=32, show_default=True, help="Instance types per region.")
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
