"""The command line: the program, its commands and exit codes; what a command does stands in the modules below.

Everything beyond click is imported inside the commands, so that ``--help`` answers at once.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from sync.cli.condition import runs, status
from sync.cli.database import db
from sync.cli.jobs import daemon, demo, run, simulate
from sync.cli.options import PROGRAM, stored_options
from sync.cli.questions import changes, compare, history, images
from sync.cli.transfer import copy, export
from sync.cli.upkeep import accept_removals, check, plan
from sync.cli.web import web
from sync.errors import ExitCode, SyncError
from sync.terminal import say


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
            _drop_stdout()
            ctx.exit(ExitCode.OK)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
@stored_options
def cli() -> None:
    """Record which images Alibaba Cloud E-HPC offers for each instance type, and what changes when.

    `run` asks the API once and writes the answers and their changes into a SQL database; the commands below it ask
    the history. New here? `ehpc-image-sync demo` shows all of it within a minute, without an account.

    Exit codes: 0 all well, 1 failed, 2 usage or configuration, 3 partial or removals held, 4 another run is under way.
    """


for _command in (
    run,
    daemon,
    demo,
    simulate,
    images,
    compare,
    changes,
    history,
    runs,
    status,
    web,
    accept_removals,
    plan,
    check,
    export,
    db,
):
    cli.add_command(_command)
db.add_command(copy)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and end the process with one of the documented exit codes; never with a traceback."""
    sys.excepthook = _report_bug
    _fill_closed_streams()
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
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_stdout()
        _fail("the answer cannot be written: no space is left there; make room", ExitCode.FAILED)


def _fill_closed_streams() -> None:
    """Put /dev/null where a stream was closed at the start (`2>&-`): the next file opened would take its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _drop_stdout() -> None:
    """Let nobody write to stdout again: the interpreter would complain once more when it flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
