"""Judges the runs: one per tick of the schedule, never two at once, and the next process takes over in time."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from tests.chaos.evidence import Disturbance, Evidence
from tests.chaos.watcher import Sighting

TAKEOVER_SLACK_S = 2  # for a whole run to begin on a busy machine, beyond the lease and the tick
LATE = timedelta(seconds=2.5)
MOST_LOST = 0.1
ALL_AWAY = frozenset({"network", "database", "clock"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def judged_runs(evidence: Evidence) -> list[str]:
    """Return one sentence for each run or tick that is not as it must be."""
    return [
        *_order_problems(evidence),
        *_overlap_problems(evidence),
        *_tick_problems(evidence),
        *_lost_tick_problems(evidence),
        *_takeover_problems(evidence),
        *(f"lease: {row['name']} is still held by {row['owner']}" for row in evidence.leases if row["owner"]),
    ]


def _order_problems(evidence: Evidence) -> Iterator[str]:
    """Runs follow each other in the records, whatever the clocks did."""
    ended = [run for run in evidence.sightings if run.finished_at]
    for earlier, later in pairwise(ended):
        if earlier.finished_at and later.started_at <= earlier.finished_at:
            yield f"runs: {later.run_id} began at {later.started_at}, before {earlier.run_id} ended"
    for run in evidence.sightings:
        if run.status == "running":
            yield f"runs: {run.run_id} is still running after all processes have ended"
        if run.finished_at and run.finished_at < run.started_at:
            yield f"runs: {run.run_id} ended before it began"


def _overlap_problems(evidence: Evidence) -> Iterator[str]:
    """By the true clock, two runs that both ended were never under way together."""
    ended = [run for run in evidence.sightings if run.finished_by and run.finished_at]
    for index, run in enumerate(ended):
        for other in ended[index + 1 :]:
            if max(run.seen_from, other.seen_from) < min(run.unfinished_until, other.unfinished_until):
                yield f"runs: {run.run_id} and {other.run_id} were under way together"


def _tick_problems(evidence: Evidence) -> Iterator[str]:
    counted = Counter(run.scheduled_at for run in evidence.sightings if run.serves_tick and run.scheduled_at)
    for tick, count in sorted(counted.items()):
        if count > 1:
            yield f"ticks: {tick:%H:%M:%S} has {count} runs"
    for run in evidence.sightings:
        if run.serves_tick and run.scheduled_at is None:
            yield f"runs: {run.run_id} serves no tick"


def _lost_tick_problems(evidence: Evidence) -> Iterator[str]:
    """On a machine that is too busy a tick may be lost to the next one: rarely, and never two or three in a row."""
    lost = [tick for tick in unserved_ticks(evidence) if not _is_excused(tick, evidence)]
    for tick in lost:
        if not any(tick <= run.seen_from <= tick + LATE for run in evidence.sightings):
            yield f"ticks: {tick:%H:%M:%S} has no run, nor have the next ones, and nothing was in the way"
    if len(lost) > MOST_LOST * len(ticks_of(evidence)):
        times = ", ".join(f"{tick:%H:%M:%S}" for tick in lost)
        yield f"ticks: {len(lost)} have no run though nothing was in the way: {times}"


def ticks_of(evidence: Evidence) -> list[datetime]:
    """Return the ticks of the time in which each must have its run."""
    first = -(-(evidence.watched_from - EPOCH) // evidence.interval)
    last = (evidence.watched_until - EPOCH) // evidence.interval
    # The last two may still be under way.
    return [EPOCH + number * evidence.interval for number in range(first, last - 1)]


def unserved_ticks(evidence: Evidence) -> list[datetime]:
    """Return the ticks that have no run."""
    served = {run.scheduled_at for run in evidence.sightings if run.serves_tick}
    return [tick for tick in ticks_of(evidence) if tick not in served]


def _is_excused(tick: datetime, evidence: Evidence) -> bool:
    until = tick + evidence.interval
    return any(entry.touches(tick - _grace_of(entry, evidence), until) for entry in evidence.disturbances) or any(
        _is_in_the_way(run, tick, until) for run in evidence.sightings
    )


def _grace_of(entry: Disturbance, evidence: Evidence) -> timedelta:
    """Return for how long after its end a disturbance excuses a missing run."""
    takeover = timedelta(seconds=evidence.lease_s + TAKEOVER_SLACK_S)
    if entry.kind in ALL_AWAY:
        return takeover
    return takeover if entry.was_holder else evidence.interval * 2


def _is_in_the_way(run: Sighting, tick: datetime, until: datetime) -> bool:
    """Return whether a run of an earlier tick, or of none, was still under way when the tick's time ended."""
    is_other = run.scheduled_at is None or run.scheduled_at < tick
    is_long = run.unseen_until <= until and (run.finished_by is None or run.finished_by >= until)
    return is_other and is_long and run.seen_from >= tick - timedelta(minutes=1)


def _takeover_problems(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.disturbances:
        if not entry.was_holder:
            continue
        limit = timedelta(seconds=evidence.lease_s + TAKEOVER_SLACK_S) + evidence.interval
        following = [run for run in evidence.sightings if run.unseen_until >= entry.begun_at]
        if not following:
            yield f"takeover: no run after the {entry.kind} at {entry.begun_at:%H:%M:%S}"
        elif following[0].seen_from > entry.begun_at + limit:
            took_s = (following[0].seen_from - entry.begun_at).total_seconds()
            yield f"takeover: {took_s:.1f} s after the {entry.kind} at {entry.begun_at:%H:%M:%S}"


def takeovers(evidence: Evidence) -> list[str]:
    """Return how long each takeover took, for the reader."""
    found = []
    for entry in evidence.disturbances:
        following = [run for run in evidence.sightings if run.unseen_until >= entry.begun_at]
        if entry.was_holder and following:
            took_s = (following[0].seen_from - entry.begun_at).total_seconds()
            found.append(f"{took_s:.1f} s after a {entry.kind}")
    return found
