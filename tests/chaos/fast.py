"""The program with its waits compressed: ``python -m tests.chaos.fast daemon``; what lasts minutes lasts seconds.

Only constants are exchanged, before anything has read them; the code is the program's.
"""

import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn, SupportsIndex

from sync.errors import ExitCode

LEASE_S = 3
HEARTBEAT_S = 1

COMPRESSED: dict[str, dict[str, float]] = {
    "sync.store.lease": {"LEASE_S": LEASE_S, "HEARTBEAT_S": HEARTBEAT_S},
    "sync.schedule": {
        "WATCH_S": 1,
        "LEASE_POLL_S": 0.3,
        "DATABASE_FIRST_S": 0.3,
        "DATABASE_LONGEST_S": 2,
        "RETRY_FIRST_S": 0.5,
        "RETRY_LONGEST_S": 2,
    },
    "sync.tell": {"BROKEN_FIRST_S": 1, "BROKEN_LONGEST_S": 2, "LEASE_POLL_S": 0.2},
    "sync.job": {"WAIT_FOR_OTHER_S": 1},
    "sync.notify.channels": {"SEND_TIMEOUT_S": 2},
}


PATIENT = "CHAOS_PATIENT"
"""A variable: the command is called again while another run is under way, as a person would."""


def call_until_free(main: Callable[[], NoReturn]) -> NoReturn:
    """Call the program until the lease is free, in one process: to start another takes longer than a run."""
    while True:
        try:
            main()
        except SystemExit as ended:
            if ended.code != ExitCode.LEASE_TAKEN:
                raise
        time.sleep(0.1)


def compress() -> None:
    """Exchange the constants; one that is not there any more is an error, or minutes would pass unnoticed."""
    for module_name, values in COMPRESSED.items():
        module = importlib.import_module(module_name)
        for name, value in values.items():
            if not hasattr(module, name):
                raise AttributeError(f"{module_name} has no {name}; adapt {__file__}")
            setattr(module, name, value)


def sleep_without_nanosleep() -> None:
    """Let ``time.sleep`` wait for a lock: libfaketime 0.9.10 refuses the call that Python sleeps by (EINVAL)."""

    def sleep(seconds: float | SupportsIndex) -> None:
        threading.Event().wait(float(seconds))

    time.sleep = sleep


if __name__ == "__main__":
    compress()
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        sleep_without_nanosleep()
    from sync.cli import main

    if PATIENT in os.environ:
        call_until_free(main)
    main()
