"""A daemon as a process, with its log as rows and its history as plain SQL."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from sync.simulator.server import Simulator
from sync.store.database import Database
from tests.cli.program import environment_of
from tests.cli.story import file_of

PATIENCE_S = 60  # what takes longer hangs, even on a busy machine
ENDING_S = 10  # what a daemon promises
LONGEST_WRITE_S = 5  # of a process that runs; the writes of these small histories take milliseconds


class DaemonProcess:
    """A started daemon, whose log is read from a file."""

    def __init__(self, folder: Path, environment: dict[str, str], name: str, module: str) -> None:
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "daemon"],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    @property
    def messages(self) -> list[str]:
        """Return the messages of the log."""
        return [str(row["message"]) for row in self.rows]

    def says(self, part: str) -> bool:
        """Return whether a message holds a text."""
        return any(part in message for message in self.messages)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the daemon to end, and return its exit code; fails when it takes longer than it promises."""
        self.send(number)
        return self.process.wait(ENDING_S)


def awaited(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} did not come true within {patience_s} s")
        time.sleep(0.05)


class Station:
    """A folder with a database and a simulator, at which daemons are started."""

    def __init__(self, folder: Path, simulator: Simulator, database_url: str) -> None:
        self.folder = folder
        self.simulator = simulator
        self.environment = environment_of(
            folder,
            ALIBABA_CLOUD_ACCESS_KEY_ID=simulator.access_key_id,
            ALIBABA_CLOUD_ACCESS_KEY_SECRET=simulator.access_key_secret,
            EHPC_SYNC_ENDPOINT=simulator.url,
            EHPC_SYNC_REGIONS="all",
            EHPC_SYNC_MAX_ATTEMPTS="1",
            EHPC_SYNC_CALLS_PER_SECOND="1000",
            EHPC_SYNC_DATABASE_URL=database_url,
            EHPC_SYNC_SCHEDULE="every 1000w",
            EHPC_SYNC_SCHEDULE_JITTER_S="0",
        )
        self.database_url = database_url
        self.started: list[DaemonProcess] = []

    def configure(self, **keys: object) -> None:
        """Set configuration keys of daemons that are started from now on."""
        self.environment |= {f"EHPC_SYNC_{key.upper()}": str(value) for key, value in keys.items()}

    def start(self, module: str = "sync", **variables: str) -> DaemonProcess:
        """Start a daemon."""
        daemon = DaemonProcess(self.folder, self.environment | variables, f"daemon-{len(self.started)}", module)
        self.started.append(daemon)
        return daemon

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; nothing where there are no tables yet."""
        database = Database(self.database_url)
        try:
            with database.engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        except (OperationalError, ProgrammingError) as error:
            if "no such table" in str(error) or "does not exist" in str(error):
                return []
            raise
        finally:
            database.close()

    def hang(self, daemon: DaemonProcess) -> None:
        """Stop a daemon, but not while it holds the lock of an SQLite file: that would block everybody."""
        daemon.send(signal.SIGSTOP)
        while self._is_locked():
            daemon.send(signal.SIGCONT)
            time.sleep(0.05)
            daemon.send(signal.SIGSTOP)

    def _is_locked(self) -> bool:
        if not self.database_url.startswith("sqlite"):
            return False  # servers end the transaction of a process that hangs
        with contextlib.closing(sqlite3.connect(file_of(self.database_url), timeout=LONGEST_WRITE_S)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.rollback()
            return False

    def statuses(self) -> list[str]:
        """Return how the runs so far stand, the oldest first."""
        return [row[0] for row in self.ask("SELECT status FROM sync_runs ORDER BY run_id")]


@contextlib.contextmanager
def station_of(folder: Path, simulator: Simulator, database_url: str) -> Iterator[Station]:
    """Give a station whose daemons are killed in the end."""
    station = Station(folder, simulator, database_url)
    try:
        yield station
    finally:
        for daemon in station.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
