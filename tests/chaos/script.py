"""What happens and when. Each act does something bad while the catalogue changes, ends it, and waits for a good run.

Changes of one image on one instance type always have a good run between them: what comes and goes between two
observations, nobody can know. The seed chooses the order of the acts in the middle, the moments and the victims.
"""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from tests.chaos.clock import NO_JUMP, Clock
from tests.chaos.fast import LEASE_S
from tests.chaos.offers import (
    BEIJING,
    HANGZHOU,
    CatalogueEvent,
    added,
    both,
    launched,
    removed,
    renamed,
    retired,
)
from tests.chaos.stage import Stage, now

CALM_S = 1.5
LEASE_SLACK_S = 2.5  # beyond the lease, how long a stopped process stays stopped: time for the next one's whole run

MASS_REMOVAL = both(both(removed("debian", HANGZHOU), removed("rocky", HANGZHOU)), removed("alma", HANGZHOU))
"""Half of what Hangzhou offers; real, and too much to be believed without a person."""

NEWS = (
    added("nixos", "*"),
    removed("centos", HANGZHOU, "ecs.c*"),
    launched("ecs.hpc8.large", BEIJING),
    removed("ubuntu", BEIJING, "ecs.[gr]*"),
    retired("ecs.i4.large", BEIJING),
    added("centos", HANGZHOU, "ecs.c*"),
    added("suse", HANGZHOU, "ecs.g*"),
    removed("nixos", BEIJING, "ecs.r*"),
    launched("ecs.gn8.large", HANGZHOU),
    added("arch", BEIJING, "ecs.c*"),
    retired("ecs.r6.large", HANGZHOU),
    removed("suse", HANGZHOU, "ecs.g7.*"),
    added("ubuntu", BEIJING, "ecs.[gr]*"),
)
"""What changes, in this order, whatever else happens meanwhile."""

LIFE = 4  # how many others come before an image goes again: more than one act tells


class News:
    """The next change of the catalogue; after the prepared ones, images with new names come and go."""

    def __init__(self) -> None:
        self._events = self._all()

    def __next__(self) -> CatalogueEvent:
        return next(self._events)

    @staticmethod
    def _all() -> Iterator[CatalogueEvent]:
        yield from NEWS
        for number in itertools.count(1):
            yield added(f"gentoo{number}", BEIJING, "ecs.[cg]*")
            if number > LIFE:
                yield removed(f"gentoo{number - LIFE}", BEIJING, "ecs.[cg]*")


@dataclass
class Play:
    """The stage, and the news that are left."""

    stage: Stage
    news: News
    outage_count: int = 0

    def tell_next(self) -> None:
        """Let the next change of the catalogue happen."""
        self.stage.happen(next(self.news))


Act = Callable[[Play], None]


def nothing(play: Play) -> None:
    """Nothing bad happens."""
    play.tell_next()
    time.sleep(CALM_S)


def lost_calls(play: Play) -> None:
    """Connections are reset, answers cut off and throttled, and meanwhile daemons are killed at any moment."""
    stage = play.stage
    with stage.bad_network("reset rate=0.25; truncate rate=0.2; throttle rate=0.2 retry_after=100ms"):
        for _ in range(2):
            play.tell_next()
            time.sleep(stage.dice.uniform(0.3, 1.2))
            stage.kill(stage.dice.choice(stage.fleet.daemons))
            time.sleep(0.3)


def outage(play: Play) -> None:
    """A proxy answers every call with its own page, for so long that people must hear of it."""
    stage = play.stage
    play.outage_count += 1
    since = now()
    with stage.disturbed("outage", "until people know"), stage.bad_network("html status=502"):
        stage.happen(renamed("aliyun", f"aliyun, {play.outage_count}", HANGZHOU, "ecs.[cg]*"))
        stage.wait_for(
            lambda: sum(run.status == "failed" and run.seen_from > since for run in stage.watcher.sightings) >= 3,
            "three failed runs",
        )
        stage.wait_for(lambda: stage.was_told("Needs a look: ", "observed nothing", since), "an alert")
    stage.settle()
    stage.wait_for(lambda: stage.was_told("Resolved: ", "observed nothing", since), "the alert's end")


def slow_calls(play: Play) -> None:
    """Some calls take longer than their timeout."""
    with play.stage.bad_network("delay=1500ms rate=0.08"):
        play.tell_next()
        time.sleep(2.5)


def lost_database(play: Play) -> None:
    """The database is away for a moment: restarted, or locked by somebody else."""
    stage = play.stage
    with stage.slow_network():
        stage.holder()
        with stage.disturbed("database", "stopped"):
            stage.server.stop()
            play.tell_next()
            time.sleep(stage.dice.uniform(1, 2))
            stage.server.start()


def killed_in_a_run(play: Play) -> None:
    """Whoever makes a run is killed in the middle of it."""
    stage = play.stage
    stage.await_all_up()
    with stage.slow_network():
        play.tell_next()
        stage.kill(stage.holder(), was_holder=True)
        stage.settle()


def stopped_in_a_run(play: Play) -> None:
    """Whoever makes a run hangs for longer than its lease, and then goes on as if nothing had been."""
    stage = play.stage
    stage.await_all_up()
    with stage.slow_network():
        play.tell_next()
        daemon = stage.stop_holder()
        with stage.disturbed("stop", f"SIGSTOP to {daemon.name}, process {daemon.process.pid}", was_holder=True):
            stage.simulator.faults = ()
            time.sleep(LEASE_S + LEASE_SLACK_S)
            daemon.signal(signal.SIGCONT)
        time.sleep(1)


def deaf_channel(play: Play) -> None:
    """The channel refuses everything for a while; one daemon is asked to end, one to read its settings again."""
    stage = play.stage
    since = now()
    first, second = stage.dice.sample(stage.fleet.daemons, 2)
    with stage.disturbed("receiver", "answers 500"):
        stage.receiver.is_broken = True
        play.tell_next()
        with stage.disturbed("hup", f"SIGHUP to {second.name}"):
            second.signal(signal.SIGHUP)
        with stage.disturbed("terminate", f"SIGTERM to {first.name}"):
            took_s = stage.fleet.terminate(first)
        stage.say(f"{first.name} ended within {took_s:.1f} s")
        stage.wait_for(lambda: stage.has_refused(since), "a refused message")
        stage.receiver.is_broken = False


def clock_behind(play: Play) -> None:
    """Clocks are two hours behind for a moment."""
    _with_clocks_off(play, "-2h")


def clock_ahead(play: Play) -> None:
    """Clocks are two hours ahead for a moment; afterwards records continue after the latest of that time."""
    _with_clocks_off(play, "+2h")
    # For two hours from here on the records' dates are later than the true ones.
    play.stage.is_true_time = False
    play.tell_next()


def _with_clocks_off(play: Play, offset: str) -> None:
    stage = play.stage
    jumping = stage.clocks if stage.is_one_machine else [stage.dice.choice(stage.clocks)]
    text = f"{offset} for {'all' if stage.is_one_machine else 'one'}"
    stage.is_true_time = False
    with stage.disturbed("clock", text):
        _set(jumping, offset)
        time.sleep(0.7)
        play.tell_next()
        time.sleep(1.5)
        _set(jumping, NO_JUMP)
    time.sleep(0.5)
    stage.is_true_time = True


def _set(clocks: Sequence[Clock], offset: str) -> None:
    for clock in clocks:
        clock.jump_to(offset)


def mass_removal(play: Play) -> None:
    """Half of a region's images go; they are held through kills and runs until a person accepts that."""
    stage = play.stage
    removed_before = stage.count("image_changes WHERE kind = 'removed'")
    stage.happen(MASS_REMOVAL, is_held=True)
    stage.wait_for(lambda: stage.was_told("", "accept-removals"), "the alert")
    time.sleep(0.3)
    stage.kill(stage.dice.choice(stage.fleet.daemons))
    stage.settle()
    stage.settle()
    held = stage.count("available_images WHERE missing_since IS NOT NULL")
    removed = stage.count("image_changes WHERE kind = 'removed'") - removed_before
    if not held or removed:
        stage.fleet.troubles.append(f"the mass removal is not held: {held} images are, {removed} were removed")
    stage.accept_removals()


MIDDLE: tuple[Act, ...] = (
    lost_calls,
    outage,
    slow_calls,
    lost_database,
    killed_in_a_run,
    stopped_in_a_run,
    deaf_channel,
)
"""Each once in an order that the seed chooses, then any of them until the time is over."""


def play_all(stage: Stage, seconds: float) -> None:
    """Play the whole script; it takes a minute at least, and ``seconds`` where that is longer."""
    play = Play(stage, News())
    ends_at = time.monotonic() + seconds
    stage.settle()
    stage.watched_from = now()
    stop = threading.Event()
    cron = threading.Thread(target=stage.cron, args=(stop,), name="cron", daemon=True)
    cron.start()
    try:
        for act in _acts(stage, ends_at):
            stage.say(f"-- {act.__doc__}")
            act(play)
            stage.settle()
        stage.wait_for(stage.knows_all, "the channel to know everything")
    finally:
        stop.set()
        cron.join()


def _acts(stage: Stage, ends_at: float) -> Iterator[Act]:
    middle = [*MIDDLE, *([clock_behind] if stage.clocks else [])]
    yield nothing
    yield from stage.dice.sample(middle, len(middle))
    while time.monotonic() < ends_at:
        yield stage.dice.choice(middle)
    yield mass_removal
    yield all_is_well
    if stage.clocks:
        yield clock_ahead
    yield nothing


def all_is_well(play: Play) -> None:
    """Nobody has to do anything: the program says so itself."""
    stage = play.stage
    ended = stage.fleet.command("status")
    answers = {path: stage.ask_first(path) for path in ("/healthz", "/livez")}
    stage.say(f"status ended with {ended.code}; {answers}")
    if ended.code or set(answers.values()) != {HTTPStatus.OK}:
        stage.fleet.troubles.append(f"after all status ended with {ended.code}, {answers}: {ended.out}{ended.err}")
