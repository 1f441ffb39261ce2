"""Who takes part, and what can be done to them; everything that is done is written down for the judges."""

import contextlib
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from tests.chaos.clock import Clock, find_library
from tests.chaos.evidence import Disturbance, Evidence, Offered
from tests.chaos.fast import LEASE_S
from tests.chaos.fleet import Daemon, Ended, Fleet
from tests.chaos.offers import REGIONS, CatalogueEvent, baseline, offer_of
from tests.chaos.receiver import Receiver
from tests.chaos.server import Server, SqliteServer, started_server
from tests.chaos.watcher import Watcher
from tests.cli.program import environment_of

INTERVAL_S = 1
DAEMONS = 3
PATIENCE_S = 30  # a run that is not made for so long is never made, on a busy machine too
CRON_EVERY_S = 7
CRON_CODES = frozenset({0, 1, 3, 4})

EVER, NEVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

SETTINGS = {
    "REGIONS": ",".join(REGIONS),
    "SCHEDULE": f"every {INTERVAL_S}s",
    "SCHEDULE_JITTER_S": "0",
    "STALE_AFTER": "20s",
    "NOTIFY_FAILURES_AFTER": "3",
    "MAX_ATTEMPTS": "2",
    "READ_TIMEOUT_S": "1",
    "CONNECT_TIMEOUT_S": "1",
    "CALLS_PER_SECOND": "10000",
    "WORKERS": "4",
    "REMOVAL_ACCEPT_AFTER_RUNS": "0",
    "LOG_FORMAT": "text",
}


class StuckError(Exception):
    """What the script waits for does not come."""


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def now() -> datetime:
    """Return the true time."""
    return datetime.now(UTC)


@dataclass
class Stage:
    """The simulator, the database, the daemons, the channel, and the notes about them."""

    simulator: Simulator
    receiver: Receiver
    server: Server
    fleet: Fleet
    watcher: Watcher
    clocks: list[Clock]
    dice: random.Random
    say: Callable[[str], None]
    http_port: int = field(default_factory=free_port)
    """Where the first daemon serves its health."""
    offered: list[Offered] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)
    watched_from: datetime = NEVER
    is_true_time: bool = True

    @property
    def is_one_machine(self) -> bool:
        """Return whether all processes share one clock: those of an SQLite file stand on one machine."""
        return isinstance(self.server, SqliteServer)

    # --- the catalogue

    def happen(self, event: CatalogueEvent, *, is_held: bool = False) -> None:
        """Edit the catalogue."""
        edited = event.edit(self.simulator.catalogue)
        begun_at = now()
        self.simulator.catalogue = edited
        self.offered.append(
            Offered(event.name, offer_of(edited), begun_at, now(), is_true_time=self.is_true_time, is_held=is_held)
        )
        self.say(f"catalogue: {event.name}")

    def settle(self) -> None:
        """Wait until a run that began after this moment has ended with everything answered.

        Raises:
            StuckError: none comes.
        """
        since = now()
        self.wait_for(
            lambda: any(
                run.is_clean and run.finished_by and run.unseen_until >= since for run in self.watcher.sightings
            ),
            "a run in which everything is answered",
        )

    def wait_for(self, is_there: Callable[[], bool], what: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until something is so.

        Raises:
            StuckError: it does not come.
        """
        deadline = time.monotonic() + limit_s
        while not is_there():
            if time.monotonic() > deadline:
                raise StuckError(f"waited {limit_s:.0f} s in vain for {what}")
            time.sleep(0.02)

    # --- trouble

    @contextlib.contextmanager
    def disturbed(self, kind: str, text: str, *, was_holder: bool = False) -> Iterator[None]:
        """Note that something is wrong as long as this lasts."""
        begun_at = now()
        self.say(f"{kind}: {text}")
        try:
            yield
        finally:
            self.disturbances.append(Disturbance(kind, begun_at, now(), was_holder))

    @contextlib.contextmanager
    def bad_network(self, text: str) -> Iterator[None]:
        """Let calls fail as the simulator's faults say."""
        with self.disturbed("network", text):
            self.simulator.set_faults(parse_faults(text), seed=self.dice.randrange(1_000_000))
            yield
            self.simulator.faults = ()

    @contextlib.contextmanager
    def slow_network(self) -> Iterator[None]:
        """Let runs last about a second, so that one can be met in the middle."""
        self.simulator.faults = parse_faults("delay=100ms action=ListImages")
        yield
        self.simulator.faults = ()

    def holder(self) -> Daemon:
        """Return the daemon that makes a run at this moment, as soon as there is one."""
        found: list[Daemon] = []

        def is_found() -> bool:
            daemon = self.fleet.daemon_of(self.watcher.holder())
            found[:] = [daemon] if daemon else []
            return bool(found)

        self.wait_for(is_found, "a daemon that holds the lease")
        return found[0]

    def await_all_up(self) -> None:
        """Wait until there is somebody who can take over."""
        self.wait_for(lambda: all(daemon.is_up for daemon in self.fleet.daemons), "all daemons to be up")

    def stop_holder(self) -> Daemon:
        """Stop the daemon that makes a run, outside of a write transaction, and return it.

        Whoever is stopped inside of one keeps all others from writing for as long as the database lets it: no
        lease can help there, and neither SQLite nor PostgreSQL lets go of a process that is alive.
        """
        for _ in range(20):
            daemon = self.holder()
            daemon.signal(signal.SIGSTOP)
            if self.watcher.holder() == daemon.process.pid and not self.server.is_write_locked():
                return daemon
            daemon.signal(signal.SIGCONT)
            time.sleep(0.05)
        raise StuckError("no daemon could be stopped while it held the lease without writing")

    def kill(self, daemon: Daemon, *, was_holder: bool = False) -> None:
        """Kill a daemon; the init system starts it again."""
        with self.disturbed("kill", f"SIGKILL to {daemon.name}, process {daemon.process.pid}", was_holder=was_holder):
            daemon.signal(signal.SIGKILL, ends_it=True)

    def has_refused(self, since: datetime) -> bool:
        """Return whether the channel refused a message."""
        return any(told.is_refused and told.arrived_at >= since for told in self.receiver.deliveries)

    def was_told(self, sign: str, words: str, since: datetime = EVER) -> bool:
        """Return whether the channel took a line that begins with a sign and has these words."""
        return any(
            line.startswith(sign) and words in line
            for told in self.receiver.deliveries
            if told.arrived_at >= since and not told.is_refused
            for line in told.message.splitlines()
        )

    def count(self, rows: str) -> int:
        """Return how many rows there are of a view and its condition."""
        return int(self.watcher.rows(f"SELECT COUNT(*) AS n FROM {rows}")[0]["n"])

    def knows_all(self) -> bool:
        """Return whether the channel has been told of every change, and of the end of every trouble."""
        told = self.watcher.rows("SELECT MIN(change_id) AS id FROM notification_cursor")[0]["id"]
        latest = self.watcher.rows("SELECT MAX(change_id) AS id FROM image_changes")[0]["id"]
        return bool(told == latest and not self.count("open_alert"))

    # --- people and cron

    def accept_removals(self) -> Ended:
        """Do what a person does who has looked: accept what is held, again while a run holds the lease."""
        clock = self.clocks[0] if self.clocks else None
        ended = self.fleet.command("accept-removals", "--yes", clock=clock, is_patient=True)
        self.touches.append(f"accept-removals --yes ended with {ended.code}: {ended.err.strip()}")
        self.say(f"person: {self.touches[-1]}")
        return ended

    def cron(self, stop: threading.Event) -> None:
        """Make the run that is due every few seconds, as cron on another machine would, until told to stop."""
        while not stop.wait(CRON_EVERY_S):
            ended = self.fleet.command("run", "--if-due", clock=self.clocks[0] if self.clocks else None)
            if ended.code not in CRON_CODES:
                self.fleet.troubles.append(f"run --if-due ended with {ended.code}: {ended.err.strip()}")

    def ask_first(self, path: str) -> int:
        """Return the HTTP status that the first daemon answers; 0 where it does not."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.http_port, timeout=5)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except OSError:
                return 0

    # --- the end

    def evidence(self, watched_until: datetime) -> Evidence:
        """Return everything that is known now."""
        self.watcher.poll()
        views = {name: self.watcher.rows(f"SELECT * FROM {name}") for name in VIEWS}
        return Evidence(
            interval=timedelta(seconds=INTERVAL_S),
            lease_s=LEASE_S,
            offered=self.offered,
            sightings=self.watcher.sightings,
            disturbances=self.disturbances,
            deliveries=self.receiver.deliveries,
            watched_from=self.watched_from,
            watched_until=watched_until,
            leases=self.watcher.rows("SELECT * FROM lease"),
            touches=self.touches,
            troubles=self.fleet.troubles,
            **views,
        )


VIEWS = ("image_history", "available_images", "image_changes")


@contextlib.contextmanager
def opened_stage(kind: str, seed: int, folder: Path, say: Callable[[str], None]) -> Iterator[Stage]:
    """Give a stage on which the daemons have just been started; what still runs afterwards is killed."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started_server(kind, folder))
        simulator = stack.enter_context(Simulator(baseline()))
        receiver = stack.enter_context(Receiver())
        settings = SETTINGS | {
            "DATABASE_URL": server.url,
            "ENDPOINT": simulator.url,
            "NOTIFY_URLS": receiver.url,
        }
        environment = environment_of(
            folder,
            ALIBABA_CLOUD_ACCESS_KEY_ID=simulator.access_key_id,
            ALIBABA_CLOUD_ACCESS_KEY_SECRET=simulator.access_key_secret,
            **{f"EHPC_SYNC_{name}": value for name, value in settings.items()},
        )
        fleet = stack.enter_context(Fleet(folder, environment))
        watcher = stack.enter_context(Watcher(server.url))
        library = find_library()
        clocks = [Clock(library, folder / f"clock-{number}") for number in range(DAEMONS)] if library else []
        stage = Stage(simulator, receiver, server, fleet, watcher, clocks, random.Random(seed), say)
        first = Offered("baseline", offer_of(simulator.catalogue), now(), now())
        stage.offered.append(first)
        for number in range(DAEMONS):
            served = {} if number else {"EHPC_SYNC_HTTP_LISTEN": f"127.0.0.1:{stage.http_port}"}
            fleet.add(f"daemon-{number}", clocks[number] if clocks else None, **served)
        yield stage
