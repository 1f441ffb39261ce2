"""How a run is asked for, how far it has come, and how it ended."""

from dataclasses import dataclass, field
from datetime import datetime

from sync.errors import ExitCode
from sync.inventory import Counts, Failure, RunStatus
from sync.plan import Restriction


@dataclass(frozen=True, slots=True)
class RunRequest:
    """How a run was asked for."""

    trigger: str = "command"
    restriction: Restriction = field(default_factory=Restriction)
    is_dry: bool = False
    scheduled_at: datetime | None = None
    """The schedule's tick that the run serves; None for a run that asks less than everything."""
    only_if_due: bool = False
    """Make no run where that tick has one already."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: targets answered of targets known to be asked."""

    done_count: int
    asked_count: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; ``run_id`` is None for a dry run, which leaves no row."""

    run_id: int | None
    status: RunStatus
    started_at: datetime
    finished_at: datetime
    counts: Counts
    failures: tuple[Failure, ...] = ()
    error: str | None = None
    baseline_count: int = 0
    """Pairs of target and image that first observations opened; they are no changes."""

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of the command that made the run."""
        if self.status is RunStatus.OK:
            return ExitCode.OK
        is_partial = self.status in {RunStatus.PARTIAL, RunStatus.HELD}
        return ExitCode.PARTIAL if is_partial else ExitCode.FAILED
