"""The command line: options and answers; what a command does stands in the modules below.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sync.errors import ConfigError, ExitCode, SyncError
from sync.session import (
    filter_of,
    moment_of,
    note_interrupts,
    open_client,
    open_database,
    open_history,
    open_settings,
)
from sync.terminal import data_text, draw_progress, print_rows, say, time_format_of

if TYPE_CHECKING:
    from sync.config import Settings
    from sync.run import RunRequest, RunResult
    from sync.store.database import Database

Command = Callable[..., Any]

FORMATS = ("table", "json", "jsonl", "csv")

PROGRAM = "ehpc-image-sync"


class _Group(click.Group):
    """The program's commands in the order in which a newcomer needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of their definition."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that has closed the pipe (`| head`) has seen enough, which is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The interpreter would complain again when it flushes stdout at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.OK)


def _stored_options(command: Command) -> Command:
    """Add the options that every command with a configuration has, before and after the command's name."""

    @click.option("--config", metavar="FILE", help="Configuration file. [default: ehpc-image-sync.toml]")
    @click.option("--database-url", metavar="URL", help="Database to use, instead of the configured one.")
    @click.option(
        "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Override a configuration key. Repeatable."
    )
    @functools.wraps(command)
    def with_options(
        *args: Any, config: str | None, database_url: str | None, assignments: Sequence[str], **options: Any
    ) -> Any:
        chosen = click.get_current_context().find_root().ensure_object(dict)
        if config is not None:
            chosen["config"] = config
        overrides: dict[str, object] = chosen.setdefault("overrides", {})
        overrides.update(_assigned(assignment) for assignment in assignments)
        if database_url is not None:
            overrides["database_url"] = database_url
        return command(*args, **options)

    return with_options


def _assigned(assignment: str) -> tuple[str, str]:
    key, separator, value = assignment.partition("=")
    if not separator:
        raise ConfigError(f"--set {assignment}: write KEY=VALUE, for example --set calls_per_second=5")
    return key.strip(), value


_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How to print. [default: table on a terminal, else jsonl]",
)
_region_option = click.option(
    "--region", "regions", metavar="REGION", multiple=True, help="Only this region. Repeatable."
)
_type_option = click.option(
    "--instance-type", "types", metavar="TYPE", multiple=True, help="Only this instance type, or glob. Repeatable."
)
_image_option = click.option(
    "--image",
    "images",
    metavar="IMAGE",
    multiple=True,
    help="Only this ImageId, OsTag or name, or glob ('CentOS*7.6*'). Repeatable.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
@_stored_options
def cli() -> None:
    """Record which images Alibaba Cloud E-HPC offers for each instance type, and what changes when.

    `run` asks the API once and writes the answers and their changes into a SQL database; the commands below it ask
    the history. New here? `ehpc-image-sync demo` shows all of it within a minute, without an account.

    Exit codes: 0 all well, 1 failed, 2 usage or configuration, 3 partial or removals held, 4 another run is under way.
    """


# --- runs


@cli.command(short_help="Make one run now: ask the API, record what changed.")
@_region_option
@_type_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Ask everything, print the counts, write nothing.")
@click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Log each region to stderr.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Print the result as data. [default: a summary]")
@_stored_options
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


@cli.command()
@_stored_options
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


@cli.command(cls=_WithFaultHelp, short_help="Serve a simulated E-HPC for your own experiments.")
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


# --- questions


@cli.command()
@click.option("--at", "moment", metavar="TIME", default="now", help="As of this time: 2026-11-22, -2h, yesterday.")
@_region_option
@_type_option
@_image_option
@_format_option
@_stored_options
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


@cli.command(short_help="Show what was added, removed or changed.")
@click.option("--since", metavar="TIME", help="Recorded at or after this time.")
@click.option("--until", metavar="TIME", help="Recorded before this time.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(("added", "removed", "changed", "type_added", "type_retired")),
    multiple=True,
    help="Only this kind. Repeatable.",
)
@_region_option
@_type_option
@_image_option
@_format_option
@_stored_options
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


@cli.command(short_help="Show the life line of an image or an instance type.")
@_region_option
@_type_option
@_image_option
@_format_option
@_stored_options
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


@cli.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@_format_option
@_stored_options
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


# --- decisions


@cli.command("accept-removals", short_help="Show the held removals, and accept them.")
@_region_option
@click.option("--yes", "is_sure", is_flag=True, help="Accept without asking.")
@_format_option
@_stored_options
def accept_removals(regions: Sequence[str], form: str | None, *, is_sure: bool) -> None:
    """Show the held removals, and accept them: say that they are real.

    They are dated to the first observation that missed the image. Without --yes and without a terminal it only
    shows them.
    """
    from sync.accept import accept_removals as accept
    from sync.render import held_grid
    from sync.store.history import list_held

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
        done = accept(database, [(target, image) for target, image, _ in held])
    say(f"accepted as run {done.run_id}: {done.removed_count} removals, {done.retired_count} retired instance types")
    if done.vanished_count:
        say(f"{done.vanished_count} were no longer held when they were to be written, and stay as they are")


def _is_agreed(question: str) -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and click.confirm(question, err=True)


# --- before a run


@cli.command(short_help="Show what a run would ask, and how long it would take.")
@_region_option
@_type_option
@_format_option
@_stored_options
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


@cli.group()
def db() -> None:
    """Look after the database."""


@db.command()
@_stored_options
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


# --- the program


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and end the process with one of the documented exit codes; never with a traceback."""
    sys.excepthook = _report_bug
    try:
        code = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name=PROGRAM, standalone_mode=False
        )
        sys.exit(int(code or 0))
    except click.ClickException as error:
        _fail_usage(error)
    except click.Abort:
        say("interrupted")
        sys.exit(ExitCode.FAILED)
    except SyncError as error:
        _fail(str(error), error.exit_code)
    except PermissionError as error:
        _fail(f"{error.filename} cannot be used: {error.strerror}; check its permissions", ExitCode.FAILED)


def _report_bug(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Say that this program is at fault, and where the traceback is that its authors need."""
    import tempfile
    import traceback

    from sync.logs import redact

    text = redact("".join(traceback.format_exception(kind, error, error.__traceback__)))
    with tempfile.NamedTemporaryFile("w", prefix="ehpc-image-sync-", suffix=".txt", delete=False) as file:
        file.write(text)
    say(f"{PROGRAM}: internal error, please report it with the file {file.name}: {redact(repr(error))}")


def _fail_usage(error: click.ClickException) -> NoReturn:
    """Say in one sentence what is wrong with the call, and where its help is; a call without command shows the help."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) or context is None:
        error.show()
        sys.exit(ExitCode.USAGE)
    text = " ".join(error.format_message().split()).rstrip(".")
    text = (
        text.replace(". Did you mean", ", did you mean").replace(". (Did you mean", ", did you mean").replace("?)", "?")
    )
    link = " See" if text.endswith("?") else "; see"
    _fail(f"{text[:1].lower()}{text[1:]}{link}: {context.command_path} --help", ExitCode.USAGE)


def _fail(text: str, code: int) -> NoReturn:
    from sync.logs import redact

    click.echo(f"{PROGRAM}: {redact(text)}", err=True)
    sys.exit(code)
