"""The daemon: runs on schedule until it is told to end; signals, systemd, HTTP, and a configuration that may change."""

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.config import Settings
from sync.ehpc.credentials import OfficialChain, official_chain
from sync.errors import DatabaseError, ExitCode, SyncError
from sync.inventory import utc_now
from sync.job import Workshop, make_job
from sync.notify.message import Message, Trouble
from sync.render import failure_lines
from sync.report import failure_row
from sync.run import RunRequest, RunResult, check_regions, check_turn
from sync.schedule import Alarm, Control, Hooks, Loop
from sync.session import open_client, open_database, open_token
from sync.store.known import find_last_tick
from sync.systemd import Systemd
from sync.tell import Outcomes, Teller
from sync.ticks import format_span
from sync.web.metrics import Telemetry

logger = logging.getLogger(__name__)

EXIT_S = 8  # after a signal: what cannot be cut within these (a name look-up, a database's lock) is left to the system
REPEAT_S = 1  # wrappers signal a process and its group at once: only a later signal is a second one
HUNG_S = 300  # without a sign of life from the loop; writing the first load of a large region takes a minute


@dataclass(slots=True)
class Process:
    """What outlives a change of the configuration: what is asked of the process, and what it has counted."""

    control: Control = field(default_factory=Control)
    systemd: Systemd = field(default_factory=Systemd)
    telemetry: Telemetry = field(default_factory=Telemetry)
    outcomes: Outcomes = field(default_factory=Counter)
    chain: OfficialChain = field(default_factory=official_chain)


class Station:
    """Everything that one configuration needs: database, channels, HTTP server and the loop."""

    def __init__(self, settings: Settings, process: Process) -> None:
        """Open what must be there from the start; the database may still be away.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        check_regions(settings)
        # With its token: where a later configuration is no good this one stays, whatever its file holds by then.
        self.settings = settings = open_token(settings) if settings.listen_address else settings
        self._process = process
        self._alive_at = time.monotonic()
        self._stack = ExitStack()
        try:
            self._database = self._stack.enter_context(open_database(settings))
            self._teller = Teller(settings, self._database, outcomes=process.outcomes)
            self._workshop = Workshop(settings, self._database, self._teller)
            if settings.listen_address:
                self._listen(*settings.listen_address)
        except BaseException:
            self.close()
            raise
        self._database_at = time.monotonic()
        """When the database answered last."""
        self._is_outage_told = False

    def close(self) -> None:
        """Close the server and all connections."""
        self._stack.close()

    def serve(self) -> None:
        """Make runs until the outside asks to end or to read the configuration again."""
        settings = self.settings
        now = utc_now()
        following = settings.due.next_after(now)
        logger.info(
            "runs on %r (%s), the next one at %s; data are stale after %s",
            settings.schedule,
            settings.timezone,
            f"{following:%Y-%m-%d %H:%M:%S} UTC",
            format_span(settings.stale_span(now)),
        )
        loop = Loop(
            settings.due,
            self._make_run,
            self._tell,
            control=self._process.control,
            alarm=Alarm(settings.due, self._process.control, settings.schedule_jitter_s),
            hooks=Hooks(self._note_alive, self._process.systemd.status),
        )
        self._process.systemd.ready()
        loop.serve()

    def _listen(self, host: str, port: int) -> None:
        from sync.web.app import Source, create_app
        from sync.web.extra import require_extra
        from sync.web.server import OPEN_TO_ALL, Server

        require_extra("http_listen is set, but")
        source = Source(
            settings=self.settings,
            database=self._stack.enter_context(open_database(self.settings, is_read_only=True)),
            telemetry=self._process.telemetry,
            is_alive=lambda: time.monotonic() - self._alive_at < HUNG_S,
            next_run_at=lambda: self.settings.due.next_after(utc_now()),
            notifications=lambda: dict(self._process.outcomes),
        )
        server = Server(create_app(source), host, port)
        self._stack.callback(server.close)
        server.start()
        logger.info("dashboard, health and metrics at %s", server.url)
        if not (server.is_loopback or self.settings.http_token):
            logger.warning(OPEN_TO_ALL, server.url)

    def _note_alive(self) -> None:
        self._alive_at = time.monotonic()
        self._process.systemd.alive()

    def _make_run(self, tick: datetime, on_start: Callable[[datetime | None], None]) -> RunResult:
        request = RunRequest("schedule", scheduled_at=tick, only_if_due=True)
        check_turn(self._database, request)
        with open_client(self.settings, self._process.chain) as client:
            result = make_job(
                self._workshop,
                client,
                request,
                interrupt=self._process.control.stop,
                on_progress=lambda _: self._note_alive(),
                on_start=lambda: on_start(self._last_tick_before(tick)),
            )
            self._process.telemetry.note_run(result, client.statistics())
        _log_failures(result)
        return result

    def _last_tick_before(self, tick: datetime) -> datetime | None:
        with self._database.reading() as connection:
            return find_last_tick(connection, tick)

    def _tell(self) -> bool:
        """Tell the channels; where the database is away for as long as makes data stale, tell them that."""
        try:
            is_told = self._teller.tell(is_patient=True)
        except DatabaseError as error:
            self._note_outage(error)
            return False
        if self._is_outage_told:
            self._teller.tell_directly(Message(recoveries=(self._outage_subject,)))
        self._database_at, self._is_outage_told = time.monotonic(), False
        return is_told

    @property
    def _outage_subject(self) -> str:
        return f"the database {self._database.label} does not answer"

    def _note_outage(self, error: DatabaseError) -> None:
        away = timedelta(seconds=time.monotonic() - self._database_at)
        if away > self.settings.stale_span(utc_now()) and not self._is_outage_told:
            self._is_outage_told = True
            trouble = Trouble(self._outage_subject, (f"no run can be recorded for {format_span(away)}: {error}",))
            self._teller.tell_directly(Message(troubles=(trouble,)))


def serve(load: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again with ``load``.

    Raises:
        ConfigError: the configuration cannot be used at the start; a bad one later is refused and the old one stays.
    """
    process = Process()
    with _signals(process.control):
        station = Station(load(), process)
        try:
            while True:
                station.serve()
                if process.control.stop.is_set():
                    break
                process.control.reload.clear()
                process.systemd.reloading()
                station = _reloaded(station, load, process)
        finally:
            process.systemd.stopping()
            station.close()
    logger.info("ended, as it was told to")


def _reloaded(station: Station, load: Callable[[], Settings], process: Process) -> Station:
    """Return the station of the configuration as it is now, or one of the old configuration if that is no good."""
    old = station.settings
    try:
        settings = load()
        station.close()  # first, because both may want the same port
        reloaded = Station(settings, process)
    except SyncError as error:
        logger.error("the configuration was not taken over, the old one stays: %s", error)  # noqa: TRY400
        station.close()
        return Station(old, process)
    logger.info("the configuration was read again")
    return reloaded


@contextmanager
def _signals(control: Control) -> Iterator[None]:
    """Let signals set what they ask for; the second one that ends the program does so at once.

    A thread of its own waits for them: a handler would run in the middle of whatever the main thread does, and block
    for ever where that holds the lock of the event that is to be set.
    """
    asked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    is_over = threading.Event()
    listener = threading.Thread(target=_hear_signals, args=(control, asked, is_over), daemon=True, name="signals")
    listener.start()
    try:
        yield
    finally:
        if not control.stop.is_set():  # else it goes on: the process ends, and may have to be helped
            is_over.set()
            signal.pthread_kill(listener.ident or 0, signal.SIGHUP)
            listener.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _hear_signals(control: Control, asked: set[signal.Signals], is_over: threading.Event) -> None:
    asked_at = 0.0
    while True:
        number = signal.sigwait(asked)
        if is_over.is_set():
            return
        if number == signal.SIGHUP:
            control.note(control.reload)
        elif control.stop.is_set():
            if time.monotonic() - asked_at >= REPEAT_S:
                logger.warning("told to end a second time: ending at once, the next run does what is left")
                os._exit(ExitCode.FAILED)
        else:
            asked_at = time.monotonic()
            control.note(control.stop)
            timer = threading.Timer(EXIT_S, _exit_now)
            timer.daemon = True
            timer.start()


def _exit_now() -> None:
    """End without waiting for what hangs: transactions are rolled back, the next run marks this one interrupted."""
    logger.warning("something did not end within %d s and is abandoned", EXIT_S)
    os._exit(ExitCode.FAILED)


def _log_failures(result: RunResult) -> None:
    """Log why targets were not observed, grouped by region and cause."""
    for region_id in sorted({failure.region_id for failure in result.failures}):
        rows = [failure_row(failure) for failure in result.failures if failure.region_id == region_id]
        for line in failure_lines(rows):
            logger.warning("%s", line.removeprefix("! "), extra={"run_id": result.run_id, "region_id": region_id})
