"""The program as a test calls it: in this process where speed matters, in one of its own where the process does."""

import contextlib
import csv
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_credentials.utils import auth_util

from sync import logs
from sync.cli import main
from sync.simulator.signatures import Account

CHECKOUT = Path(__file__).parents[2]
ENDING_TIMEOUT_S = 60  # a process that takes longer hangs, even on a busy machine

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of the program wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Row]:
        """Return the rows of an answer in JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def one(self) -> Any:
        """Return the answer as one JSON value."""
        return json.loads(self.out)

    @property
    def records(self) -> list[list[str]]:
        """Return the lines of an answer in CSV, the header first."""
        return list(csv.reader(io.StringIO(self.out)))

    @property
    def sentence(self) -> str:
        """Return what was written to stderr, which must be exactly one line."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        return line


class _Terminal(io.StringIO):
    """A text stream that claims to be a terminal; before something is read from it, something else may happen."""

    def __init__(self, typed: str = "", meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(typed)
        self._meanwhile = meanwhile

    def isatty(self) -> bool:
        """Return that it is one."""
        return True

    # mypy holds this against the bytes of the root of all streams, as it would hold StringIO's own.
    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """Return what was typed, after what happened meanwhile."""
        self._meanwhile()
        return super().readline(-1 if size is None else size)


class Program:
    """The program in this process, with a folder, an environment and an account of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = patch
        self.folder = folder
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("NO_COLOR", "1")
        patch.setenv("TERM", "dumb")
        patch.setenv("COLUMNS", "120")
        self.use_account(Account())

    def use_account(self, account: Account) -> None:
        """Let the credential chain find this account; its library read the environment when it was imported."""
        for name in ("access_key_id", "access_key_secret", "security_token"):
            value = getattr(account, name)
            self._patch.setenv(f"ALIBABA_CLOUD_{name.upper()}", value)
            self._patch.setattr(auth_util, f"environment_{name}", value or None)

    def configure(self, **keys: object) -> None:
        """Set configuration keys by the environment."""
        for key, value in keys.items():
            self._patch.setenv(f"EHPC_SYNC_{key.upper()}", str(value))

    def forget(self, key: str) -> None:
        """Take a configuration key out of the environment."""
        self._patch.delenv(f"EHPC_SYNC_{key.upper()}")

    def write_configuration(self, text: str) -> None:
        """Write the configuration file of the working folder."""
        (self.folder / "ehpc-image-sync.toml").write_text(text)

    def ask(self, *arguments: str) -> Answer:
        """Call the program without a terminal, as cron or a script does."""
        return self._call(arguments, io.StringIO(), io.StringIO(), io.StringIO())

    def ask_on_terminal(
        self, *arguments: str, typed: str = "", meanwhile: Callable[[], object] = lambda: None
    ) -> Answer:
        """Call the program on a terminal on which a person types, after something has happened meanwhile."""
        return self._call(arguments, _Terminal(typed, meanwhile), _Terminal(), _Terminal())

    def rows(self, *arguments: str) -> list[Row]:
        """Return the rows of a question that must be answered."""
        answer = self.ask(*arguments, "--format", "jsonl")
        assert answer.code == 0, answer.err
        return answer.rows

    def _call(self, arguments: tuple[str, ...], typed: io.StringIO, out: io.StringIO, err: io.StringIO) -> Answer:
        with self._patch.context() as patch, _kept_logging():
            for name, stream in (("stdin", typed), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "excepthook", sys.excepthook)
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        return Answer(int(str(ended.value.code)), out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _kept_logging() -> Iterator[None]:
    """Put logging back as it was, and the secrets that it hides."""
    loggers = (logging.getLogger(), logging.getLogger("sync"))
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    hidden = set(logs._hidden)
    try:
        yield
    finally:
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
        logs._hidden.clear()
        logs._hidden.update(hidden)


def environment_of(folder: Path, **variables: str) -> dict[str, str]:
    """Return the whole environment of a process: nothing of the person who runs the tests but the way to Python."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(CHECKOUT),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        **variables,
    }


def ask_process(environment: Mapping[str, str], *arguments: str, folder: Path) -> Answer:
    """Call the program in a process of its own and return its answer."""
    ended = subprocess.run(
        [sys.executable, "-m", "sync", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=ENDING_TIMEOUT_S,
    )
    return Answer(ended.returncode, ended.stdout, ended.stderr)


@contextlib.contextmanager
def started_process(environment: Mapping[str, str], *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Give the program as a running process, which is killed where the test has not ended it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sync", *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended_by(process: subprocess.Popen[str], number: signal.Signals) -> Answer:
    """Send the signal and return what the process has written since, and its exit code."""
    process.send_signal(number)
    out, err = process.communicate(timeout=ENDING_TIMEOUT_S)
    return Answer(process.returncode, out, err)
