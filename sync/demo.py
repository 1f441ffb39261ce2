"""The demo: real runs against the simulator while its catalogue changes, told run by run."""

import shlex
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sync.config import Settings, load_settings
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from sync.errors import ConfigError
from sync.inventory import Clock, utc_now
from sync.report import run_summary, wrapped
from sync.run import RunRequest, RunResult, run_once
from sync.simulator.fault_text import parse_fault
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.runs import list_run_changes

TRIGGER = "demo"

BETWEEN_RUNS = timedelta(days=1)
"""As if the job had run for a week: of runs that are seconds apart nothing can be asked, or seen in a picture."""

SHORT_WAITS = BackoffPolicy(first_s=0.05, longest_s=0.2)  # a simulator on this machine recovers at once


@dataclass(frozen=True, slots=True)
class Chapter:
    """One run of the demo: the simulator's step, a fault if there is one, and what to look at."""

    step: str
    lesson: str
    happening: str = ""
    fault: str = ""


STORY = (
    Chapter(
        "baseline",
        "The first run is the baseline: it opens the history and reports no changes, since nobody knows how long "
        "these images have been there.",
    ),
    Chapter("quiet-day", "Equal answers cost nothing: not one row of the history was written."),
    Chapter("rocky-appears", "Each image is dated to the first answer that had it, instance type by instance type."),
    Chapter(
        "centos-withdrawn-first",
        "Before a removal is believed the API is asked again; a launched type is one change, not fifty.",
    ),
    Chapter(
        "centos-withdrawn-first",
        "No answer is unknown, which is not absent: a gap opens, nothing is removed, and the exit code is 3.",
        happening="cn-shanghai answers every call with 503 ServiceUnavailable.",
        fault="status=503 code=ServiceUnavailable region=cn-shanghai",
    ),
    Chapter(
        "centos-withdrawn-second",
        "cn-shanghai answers again: its gap closes, and what changed in the meantime is dated as exactly as it can "
        "be known: after the last good answer, at the latest now.",
    ),
    Chapter(
        "accident",
        "So many images gone at once are more likely an accident: the removals are held and stay available until "
        "a person or the third run in a row accepts them.",
    ),
    Chapter("recovered", "The images are back: the accident left no trace in the history."),
)


def play(path: str, tell: Callable[[str], None]) -> None:
    """Make the demo's runs into the SQLite file ``path``, which an earlier demo may have left.

    Raises:
        ConfigError: the file holds something else.
    """
    _remove_earlier(Path(path))
    clock = _Clock()
    with Simulator(clock=clock) as simulator:
        settings = settings_of(path, endpoint=simulator.url, calls_per_second="500", max_attempts="2")
        database = Database(settings.database_url)
        tell(_opening(simulator, path))
        try:
            for number, chapter in enumerate(STORY, 1):
                tell(_announcement(number, chapter, simulator))
                clock.age = BETWEEN_RUNS * (len(STORY) - number)
                tell(_run(settings, database, simulator, clock))
                tell(wrapped(f"  → {chapter.lesson}"))
        finally:
            database.close()
    tell(_closing(path))


def settings_of(path: str, **keys: str) -> Settings:
    """Return the settings with which the demo's file is read; nothing that somebody has configured counts."""
    return load_settings(None, {"database_url": f"sqlite:///{path}", "regions": "all", **keys}, {}, has_file=False)


class _Clock:
    """The clock of all that takes part in the demo: it is behind by an age."""

    age = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() - self.age


def _run(settings: Settings, database: Database, simulator: Simulator, clock: Clock) -> str:
    credential = Credential(simulator.access_key_id, simulator.access_key_secret)
    limits = ClientSettings(
        settings.endpoint, settings.workers, settings.calls_per_second, max_attempts=settings.max_attempts
    )
    with Client(limits, lambda: credential, now=clock, backoff=SHORT_WAITS) as client:
        result: RunResult = run_once(
            settings,
            database,
            client,
            RunRequest(TRIGGER, scheduled_at=clock()),
            interrupt=threading.Event(),
            now=clock,
        )
    with database.reading() as connection:
        changes = list_run_changes(connection, result.run_id or 0)
    return f"{run_summary(result, changes, ZoneInfo('UTC'))}\n  exit code {result.exit_code.value}"


def _announcement(number: int, chapter: Chapter, simulator: Simulator) -> str:
    simulator.go_to(chapter.step)
    simulator.faults = (parse_fault(chapter.fault),) if chapter.fault else ()
    happening = chapter.happening or simulator.step.description
    return f"\n━━ {number} of {len(STORY)}: {happening}"


def _opening(simulator: Simulator, path: str) -> str:
    catalogue = simulator.catalogue
    return (
        f"A simulated E-HPC listens on {simulator.url}: {len(catalogue.region_ids)} regions, "
        f"{catalogue.type_count} instance types, {catalogue.pair_count:,} pairs of type and image.\n"
        f"Each run below asks it over HTTP, with signatures, and writes into {path}. They are dated a day apart, the\n"
        "last one now, so that there is a past to ask about."
    )


def _closing(path: str) -> str:
    program = f"{_program()} --database-url {shlex.quote(f'sqlite:///{path}')}"
    return (
        "\nThe history is yours now. Try:\n"
        f"  {program} images --instance-type ecs.c7.large --at -6d\n"
        f"  {program} changes --image 'CentOS*7.6*'\n"
        f"  {program} history --image 'Rocky*9.3*'\n"
        f"  {program} web --open\n"
        f"or ask in SQL: SELECT * FROM image_changes; the views are described in README.md."
    )


def _program() -> str:
    """Return how the user can call this program again from where they are."""
    called = Path(sys.argv[0])
    found = shutil.which("ehpc-image-sync")
    if found and Path(found).resolve() == called.resolve():
        return "ehpc-image-sync"
    return shlex.quote(str(called)) if called.name == "ehpc-image-sync" else "python -m sync"


def _remove_earlier(path: Path) -> None:
    if not path.exists():
        return
    if not _is_of_demo(path):
        raise ConfigError(f"{path} holds something else than an earlier demo; name another file with --file")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _is_of_demo(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            triggers = connection.execute('SELECT DISTINCT "trigger" FROM run').fetchall()
    except sqlite3.Error:
        return False
    return triggers in ([], [(TRIGGER,)])
