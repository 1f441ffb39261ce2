"""The error tree of the package, and the exit code that each branch ends a command with.

The text of an error is the user's message: what failed, on what, with which value, and what to do.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes that the command line promises."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    LEASE_TAKEN = 4


class SyncError(Exception):
    """A failure that the program foresaw: its text is shown as one sentence, without a traceback."""

    exit_code = ExitCode.FAILED


class ConfigError(SyncError):
    """The configuration, an option or an argument cannot be used; nothing has been asked or written."""

    exit_code = ExitCode.USAGE


class DatabaseError(SyncError):
    """The database cannot be reached, read or written; what had been committed before is intact."""


class SchemaVersionError(SyncError):
    """The database's tables are missing, older or newer than this program needs."""

    exit_code = ExitCode.USAGE


class LeaseTakenError(SyncError):
    """Another run holds the lease; this one has written nothing."""

    exit_code = ExitCode.LEASE_TAKEN


class LeaseLostError(SyncError):
    """This run stalled for longer than its lease lasts and another run has taken over; it must not write."""


class RunNotDueError(SyncError):
    """Only a due run was asked for, and the schedule's tick has been served; nothing was written, nothing is wrong."""

    exit_code = ExitCode.OK


class RunInterruptedError(SyncError):
    """The run was asked to stop before it had ended; whole targets stay written, the next run does the rest."""


class CallError(SyncError):
    """A call to the API ended without a readable answer: unknown, which is never "no images".

    Attributes:
        code: Alibaba Cloud's error code, or one of ours in lower case (``network.timeout``, ``http.502``,
            ``answer.unreadable``...).
        message: one sentence for the operator, without secrets.
        request_id: Alibaba Cloud's id of the request; empty where no answer came.
        stops_region: the same failure would meet every other call in that region (credentials, permission,
            caller), so nothing more is asked there.
    """

    def __init__(self, code: str, message: str, *, request_id: str = "", stops_region: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id
        self.stops_region = stops_region
