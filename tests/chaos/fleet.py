"""The daemons as an init system keeps them: started again when they end, whoever ended them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.clock import Clock, forget_process
from tests.chaos.fast import PATIENT

RESTART_S = 0.3  # how long the init system waits before it starts a daemon again
READY = b"runs on "  # the first line of a daemon that makes runs
END_S = 10  # how long a daemon may take to end when it is asked to
POLL_S = 0.05
COMMAND_TIMEOUT_S = 60
CRASHES = ("Traceback (most recent call last)", "internal error", "Fatal Python error", "Exception in thread")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Daemon:
    """One daemon: its process, and its log over all of its lives."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path, clock: Clock | None) -> None:
        self.name = name
        self.clock = clock
        self._environment = {**environment, "PYTHONFAULTHANDLER": "1", **(clock.environment if clock else {})}
        self._folder = folder
        self.log = folder / f"{name}.log"
        self.is_expected_to_end = False
        self.process = self._started()

    @property
    def is_up(self) -> bool:
        """Return whether its process has said that it makes runs; how long that takes depends on the machine."""
        log = self.log.read_bytes()[self._log_start :]
        return self.process.poll() is None and READY in log

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.fast", "daemon"],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_again(self) -> None:
        """Begin another life."""
        forget_process(self.process.pid)
        self.is_expected_to_end = False
        self.process = self._started()

    def signal(self, number: signal.Signals, *, ends_it: bool = False) -> None:
        """Send a signal; one that ends the process is noted first, so that its end is no surprise."""
        self.is_expected_to_end = self.is_expected_to_end or ends_it
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def crashes(self) -> list[str]:
        """Return the lines of the log that no operator should ever see."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [f"{self.name}: {line}" for line in lines if any(sign in line for sign in CRASHES)]


class Fleet:
    """Keeps daemons alive, and runs commands beside them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="init", daemon=True)
        self.daemons: list[Daemon] = []
        self.troubles: list[str] = []

    def add(self, name: str, clock: Clock | None, **variables: str) -> Daemon:
        """Start one more daemon."""
        daemon = Daemon(name, {**self._environment, **variables}, self._folder, clock)
        with self._lock:
            self.daemons.append(daemon)
        return daemon

    def daemon_of(self, process_id: int | None) -> Daemon | None:
        """Return the daemon with this process id; None where it is no daemon's."""
        return next((daemon for daemon in self.daemons if daemon.process.pid == process_id), None)

    def command(self, *arguments: str, clock: Clock | None = None, is_patient: bool = False) -> Ended:
        """Run a command of the program to its end; a patient one again while another run is under way."""
        patience = {PATIENT: "1"} if is_patient else {}
        ended = subprocess.run(
            [sys.executable, "-m", "tests.chaos.fast", *arguments],
            env={**self._environment, **(clock.environment if clock else {}), **patience},
            cwd=self._folder,
            capture_output=True,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
        )
        if any(sign in ended.stderr for sign in CRASHES):
            self.troubles.append(f"{' '.join(arguments)}: {ended.stderr.strip()}")
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def terminate(self, daemon: Daemon) -> float:
        """Ask a daemon to end and return how many seconds it took; too long is trouble."""
        process, begun, was_up = daemon.process, time.monotonic(), daemon.is_up
        daemon.signal(signal.SIGTERM, ends_it=True)
        return self._awaited(daemon.name, process, begun, was_up=was_up)

    def _awaited(self, name: str, process: subprocess.Popen[bytes], begun: float, *, was_up: bool) -> float:
        try:
            code = process.wait(END_S + 5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # its log then says where each of its threads hangs
            code = process.wait()
        took_s = time.monotonic() - begun
        # One that still starts takes no signals yet: the system ends it.
        good = {0} if was_up else {0, -signal.SIGTERM}
        if took_s > END_S or code not in good:
            self.troubles.append(f"{name}: ended with {code} {took_s:.1f} s after SIGTERM")
        return took_s

    def end(self) -> None:
        """Ask all daemons to end, at once, and wait for them."""
        self._stop.set()
        self._thread.join()
        begun = time.monotonic()
        were_up = [daemon.is_up for daemon in self.daemons]
        for daemon in self.daemons:
            # A second SIGTERM would end it at once: all of them are asked before one is awaited.
            daemon.signal(signal.SIGTERM, ends_it=True)
        for daemon, was_up in zip(self.daemons, were_up, strict=True):
            self._awaited(daemon.name, daemon.process, begun, was_up=was_up)
            forget_process(daemon.process.pid)
        self.troubles += [line for daemon in self.daemons for line in daemon.crashes()]

    def _keep(self) -> None:
        while not self._stop.wait(POLL_S):
            with self._lock:
                ended = [daemon for daemon in self.daemons if daemon.process.poll() is not None]
            for daemon in ended:
                if not daemon.is_expected_to_end:
                    code, process_id = daemon.process.returncode, daemon.process.pid
                    self.troubles.append(f"{daemon.name}: process {process_id} died by itself with {code}")
                if not self._stop.wait(RESTART_S):
                    daemon.start_again()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for daemon in self.daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon.process.pid, signal.SIGKILL) if daemon.process.poll() is None else None
            daemon.process.wait()
            forget_process(daemon.process.pid)
