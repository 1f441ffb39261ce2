"""One result of a check, how it is shown, and what all results together end the command with."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from sync.errors import ExitCode, SyncError
from sync.render import counted

WIDTH = 100  # characters, as in all summaries, where the terminal has them

CHECK_COLUMNS = ("check", "state", "detail", "remedy")

IMAGES_CHECK = "ehpc:ListImages"
"""What the names of those checks begin with whose success makes a run worth while."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line: what was tried, how it ended, what was found, and what to do about it; without secrets."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    exit_code: ExitCode = ExitCode.PARTIAL
    """What it ends the command with where it failed: that of a run in the same condition."""


def check_row(result: CheckResult) -> dict[str, str]:
    """Return a result with the columns of ``CHECK_COLUMNS``."""
    return {"check": result.name, "state": result.state.value, "detail": result.detail, "remedy": result.remedy}


def check_text(result: CheckResult) -> str:
    """Return a result as people read it: a line, broken to the terminal's width, and its remedy below it."""
    width = min(shutil.get_terminal_size().columns, WIDTH)
    fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
    head = f"{result.state.value:<9}{result.name:<13}"
    line = fill(f"{head}  {result.detail}", subsequent_indent=" " * (24 if len(head) == 22 else 13))
    if not result.remedy:
        return line
    return f"{line}\n{fill(' ' * 11 + '→ ' + result.remedy, subsequent_indent=' ' * 13)}"


def verdict_text(results: Iterable[CheckResult]) -> str:
    """Return the last line: whether all is well, and how much is not."""
    states = [result.state for result in results]
    failures, warnings = states.count(State.FAILED), states.count(State.WARNING)
    warned = f", {counted(warnings, 'warning')}" if warnings else ""
    return f"needs a look: {failures} failed{warned}" if failures else f"all is well{warned}"


def exit_code_of(results: Sequence[CheckResult]) -> ExitCode:
    """Return what a run in this condition would end with; warnings do not matter."""
    codes = {result.exit_code for result in results if result.state is State.FAILED}
    asked = [result.state for result in results if result.name.startswith(IMAGES_CHECK)]
    if ExitCode.USAGE in codes:
        return ExitCode.USAGE
    if ExitCode.FAILED in codes or (asked and State.OK not in asked):
        return ExitCode.FAILED
    return ExitCode.PARTIAL if codes else ExitCode.OK


def ok(name: str, detail: str) -> CheckResult:
    """Return that a check found all well."""
    return CheckResult(name, State.OK, detail)


def skipped(name: str, reason: str) -> CheckResult:
    """Return that there was nothing to try, or that it could not be tried."""
    return CheckResult(name, State.SKIPPED, reason)


def failed(name: str, error: SyncError, remedy: str, exit_code: ExitCode | None = None) -> CheckResult:
    """Return a failure told by its error; ``remedy`` is for one whose sentence does not end with its own."""
    detail, _, own = str(error).rpartition("; ")
    code = error.exit_code if exit_code is None else exit_code
    return CheckResult(name, State.FAILED, detail or own, own if detail else remedy, code)
