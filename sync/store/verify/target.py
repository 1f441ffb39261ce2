"""The invariants of one target's history: its intervals, changes, digest, gaps and held removals. Pure.

What is demanded here is what ``diff`` and ``store.record`` promise, and no more: a sound history has no violation.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from sync.inventory import OPEN, PRUNED, ChangeKind, Target
from sync.store.schema import WHOLE_TYPE
from sync.store.verify.verdict import Check

EARLIEST = datetime.min.replace(tzinfo=UTC)

Finding = tuple[Check, int | None, str]
"""What is wrong: the check, the key of the image it is about, the sentence."""

Event = tuple[int, datetime]
"""The beginning or the end of an interval: the image's key and the time."""


class Interval(NamedTuple):
    """A row of availability."""

    image_key: int
    valid_from: datetime
    valid_to: datetime


class ChangeRow(NamedTuple):
    """A row of change."""

    id: int
    kind: str
    image_key: int | None
    previous_image_key: int | None
    detected_at: datetime
    last_seen_at: datetime | None
    recorded_at: datetime

    @property
    def begun(self) -> Event | None:
        """Return the beginning that it tells of."""
        is_begun = self.kind in {ChangeKind.ADDED, ChangeKind.CHANGED} and self.image_key is not None
        return (self.image_key, self.detected_at) if is_begun and self.image_key is not None else None

    @property
    def ended(self) -> Event | None:
        """Return the end that it tells of."""
        gone = {ChangeKind.REMOVED: self.image_key, ChangeKind.CHANGED: self.previous_image_key}
        key = gone.get(ChangeKind(self.kind)) if self.kind in set(ChangeKind) else None
        return None if key is None else (key, self.detected_at)


class Gap(NamedTuple):
    """A row of coverage_gap."""

    gap_from: datetime
    gap_to: datetime
    error_code: str


class Held(NamedTuple):
    """A row of held_removal."""

    image_key: int
    first_missed_at: datetime
    last_missed_at: datetime
    last_seen_at: datetime | None


class Retirement(NamedTuple):
    """A change that retired an instance type: since when it was missed, and when that was believed and written."""

    detected_at: datetime
    recorded_at: datetime


@dataclass(slots=True)
class TargetHistory:
    """All that is stored of one target."""

    target: Target
    first_observed_at: datetime | None
    asked_at: datetime | None
    retired_at: datetime
    image_digest: str
    horizon: datetime | None = None
    """From when on its history is whole: where an earlier part was dropped, what is dated before is not judged."""
    retirements: Sequence[Retirement] | None = None
    """For a target with a BaseOsTag those of the same type without one, which alone get a change; None for others."""
    intervals: list[Interval] = field(default_factory=list)
    changes: list[ChangeRow] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    @property
    def is_retired(self) -> bool:
        """Return whether its instance type is gone."""
        return self.retired_at != OPEN

    @property
    def open_keys(self) -> frozenset[int]:
        """Return the keys of the images that are available now."""
        return frozenset(entry.image_key for entry in self.intervals if entry.valid_to == OPEN)


def judge_intervals(history: TargetHistory) -> Iterator[Finding]:
    """Yield what is wrong with the intervals by themselves."""
    ends: dict[int, datetime] = {}
    first = history.first_observed_at or OPEN
    for key, valid_from, valid_to in sorted(history.intervals, key=_begin_of):
        if valid_to <= valid_from:
            yield Check.INTERVALS, key, f"an interval ends at {show(valid_to)}, not after its begin {show(valid_from)}"
        if valid_from < first:
            yield Check.INTERVALS, key, f"an interval begins at {show(valid_from)}, before {_first_of(history)}"
        if key in ends and valid_from < ends[key]:
            yield Check.INTERVALS, key, f"two intervals overlap from {show(valid_from)} on"
        if valid_to == OPEN and history.is_retired:
            yield Check.INTERVALS, key, f"it is still available, but its type is gone since {show(history.retired_at)}"
        ends[key] = max(valid_to, ends.get(key, valid_to))


def _begin_of(entry: Interval) -> datetime:
    return entry.valid_from


def _first_of(history: TargetHistory) -> str:
    first = history.first_observed_at
    return f"the first observation of {show(first)}" if first else "any observation"


def judge_changes(history: TargetHistory) -> Iterator[Finding]:
    """Yield where changes and intervals do not tell the same story.

    Every beginning is a baseline (the first observation, and the first after the type returned) or has its change;
    every end has its change or is that of a retired type; and every change has its beginning or end.
    """
    for row in history.changes:
        yield from _judge_row(row)
    horizon = history.horizon or EARLIEST
    begins = {(key, since): Interval(key, since, until) for key, since, until in history.intervals if since >= horizon}
    ends = {
        (key, until): Interval(key, since, until) for key, since, until in history.intervals if horizon <= until < OPEN
    }
    told_begins, told_ends = set[Event](), set[Event]()
    for row in history.changes:
        for event, told, known, word in (
            (row.begun, told_begins, begins, "begins"),
            (row.ended, told_ends, ends, "ends"),
        ):
            if event is None or event[1] < horizon:
                continue
            if event in told:
                yield Check.CHANGES, event[0], f"two changes say that it {word} at {show(event[1])}"
            elif event not in known:
                yield Check.CHANGES, event[0], f"change {row.id} ({row.kind}) at {show(event[1])}: no interval {word}"
            told.add(event)
    untold_begins = [begins[event] for event in begins.keys() - told_begins]
    untold_ends = [ends[event] for event in ends.keys() - told_ends]
    lives = _TaggedLives(history) if history.retirements is not None else _Lives(history)
    yield from lives.judge(untold_begins, untold_ends)


def _judge_row(row: ChangeRow) -> Iterator[Finding]:
    wanted = _IMAGES_OF_KIND.get(row.kind)
    if wanted is None:
        yield Check.CHANGES, row.image_key, f"change {row.id} is of the unknown kind {row.kind!r}"
    elif wanted != (row.image_key is not None, row.previous_image_key is not None):
        yield Check.CHANGES, row.image_key, f"change {row.id} ({row.kind}) names the wrong images"
    if row.recorded_at < row.detected_at:
        yield Check.CHANGES, row.image_key, f"change {row.id} was recorded before it was detected"
    if row.last_seen_at and row.last_seen_at > row.detected_at:
        yield Check.CHANGES, row.image_key, f"change {row.id} was detected before the image was last seen"


_IMAGES_OF_KIND: Mapping[str, tuple[bool, bool]] = {
    ChangeKind.ADDED: (True, False),
    ChangeKind.REMOVED: (True, False),
    ChangeKind.CHANGED: (True, True),
    ChangeKind.TYPE_ADDED: (False, False),
    ChangeKind.TYPE_RETIRED: (False, False),
}


class _Lives:
    """The lives of a target's instance type: each begins with a baseline and ends with a retirement.

    A retirement is written after all observations of its life and before those of the next, whatever it is dated to.
    """

    def __init__(self, history: TargetHistory) -> None:
        self.history = history
        self.retirements = sorted(
            (
                Retirement(row.detected_at, row.recorded_at)
                for row in history.changes
                if row.kind == ChangeKind.TYPE_RETIRED
            ),
            key=lambda entry: entry.recorded_at,
        )
        self._ended_at = [entry.recorded_at for entry in self.retirements]
        self._segments: list[tuple[datetime, datetime]] | None = None

    def judge(self, begins: Collection[Interval], ends: Collection[Interval]) -> Iterator[Finding]:
        """Yield the beginnings and ends without a change that no baseline and no retirement explains."""
        baselines = self._baselines() if begins else {}
        for entry in begins:
            is_first = entry.valid_from == self.history.first_observed_at
            if not is_first and not self.is_baseline(entry, baselines):
                yield Check.CHANGES, entry.image_key, f"no change says that it begins at {show(entry.valid_from)}"
        for entry in ends:
            if not self.is_retired_at_end(entry):
                yield Check.CHANGES, entry.image_key, f"no change says that it ends at {show(entry.valid_to)}"
        yield from self.judge_retirements()

    def _baselines(self) -> dict[int, datetime]:
        """Return the earliest beginning of each life, of what is judged."""
        horizon = self.history.horizon or EARLIEST
        found: dict[int, datetime] = {}
        for _, since, _ in self.history.intervals:
            if since >= horizon:
                life = self._life_of(since)
                found[life] = min(since, found.get(life, since))
        return found

    def _life_of(self, moment: datetime) -> int:
        return bisect_left(self._ended_at, moment)

    def is_baseline(self, entry: Interval, baselines: Mapping[int, datetime]) -> bool:
        """Return whether an interval was opened by the first observation after its type returned."""
        life = self._life_of(entry.valid_from)
        # The retirement before the first life that is judged may have been dropped with the history before.
        is_possible = life > 0 or self.history.horizon is not None
        return is_possible and entry.valid_from == baselines[life] and self.begins_segment(entry)

    def is_retired_at_end(self, entry: Interval) -> bool:
        """Return whether the retirement of its life explains an end."""
        life = self._life_of(entry.valid_from)
        return life < len(self.retirements) and _is_end_by(self.retirements[life], entry)

    def judge_retirements(self) -> Iterator[Finding]:
        """Yield what outlives the retirement of its type, and a retired type without a change that says so."""
        history = self.history
        for entry in history.intervals if self.retirements else ():
            life = self._life_of(entry.valid_from)
            if life < len(self.retirements) and entry.valid_to > self._ended_at[life]:
                yield Check.CHANGES, entry.image_key, f"it outlives its type, gone by {show(self._ended_at[life])}"
        if not history.is_retired or history.first_observed_at is None:
            return
        is_told = bool(self.retirements) and self.retirements[-1].detected_at == history.retired_at
        if not is_told and history.retired_at >= (history.horizon or EARLIEST):
            yield Check.CHANGES, None, f"no change says that the type is gone since {show(history.retired_at)}"

    def begins_segment(self, entry: Interval) -> bool:
        """Return whether nothing was available just before an interval."""
        segments = self._merged()
        index = bisect_left(segments, (entry.valid_from, EARLIEST))
        return index < len(segments) and segments[index][0] == entry.valid_from

    def ends_segment(self, entry: Interval) -> bool:
        """Return whether there was a time since an interval's end at which nothing was available."""
        segments = self._merged()
        return segments[bisect_left(segments, (entry.valid_to, EARLIEST)) - 1][1] < OPEN

    def _merged(self) -> list[tuple[datetime, datetime]]:
        """Return the spans without a break in which anything was available, in order."""
        if self._segments is None:
            self._segments = []
            for _, since, until in sorted(self.history.intervals, key=_begin_of):
                if self._segments and since <= self._segments[-1][1]:
                    start, end = self._segments[-1]
                    self._segments[-1] = (start, max(end, until))
                else:
                    self._segments.append((since, until))
        return self._segments


class _TaggedLives(_Lives):
    """The lives of a target with a BaseOsTag, which gets no changes of its own when its type is retired.

    Those of the target without one say most of it. That target may have stayed retired, though, while this one
    returned and went again; then only that nothing is available in between shows it.
    """

    def __init__(self, history: TargetHistory) -> None:
        super().__init__(history)
        self.retirements = list(history.retirements or ())

    def is_baseline(self, entry: Interval, _: Mapping[int, datetime]) -> bool:
        """Return whether its type may have returned at an interval's beginning."""
        return self._was_gone_before(entry.valid_from) and self.begins_segment(entry)

    def is_retired_at_end(self, entry: Interval) -> bool:
        """Return whether its type may have gone at an interval's end."""
        is_explained = any(
            entry.valid_from <= retirement.recorded_at and _is_end_by(retirement, entry)
            for retirement in self.retirements
        )
        return (is_explained or self._was_gone_before(entry.valid_from)) and self.ends_segment(entry)

    def judge_retirements(self) -> Iterator[Finding]:
        """Yield nothing: there are no changes to hold against the target."""
        yield from ()

    def _was_gone_before(self, moment: datetime) -> bool:
        is_cut = self.history.horizon is not None
        return is_cut or any(retirement.recorded_at < moment for retirement in self.retirements)


def _is_end_by(retirement: Retirement, entry: Interval) -> bool:
    """Return whether ``diff.retired_update`` may have ended an interval like this.

    It ends them when the type was first missed, or the image before; those that began later, when it was written.
    """
    is_older = entry.valid_from < retirement.detected_at
    return entry.valid_to <= (retirement.detected_at if is_older else retirement.recorded_at)


def judge_digest(history: TargetHistory, fingerprints: Mapping[int, bytes]) -> Iterator[Finding]:
    """Yield where the digest is not that of the open images, which would hide a change from the next run."""
    known = [fingerprints[key] for key in history.open_keys if key in fingerprints]
    if hashlib.sha256(b"".join(sorted(known))).hexdigest() != history.image_digest:
        yield Check.DIGESTS, None, f"its digest is not that of its {len(history.open_keys)} available images"


def judge_gaps(history: TargetHistory) -> Iterator[Finding]:
    """Yield what is wrong with the spans in which the target was not observed."""
    covered_until = EARLIEST
    for gap_from, gap_to, error_code in sorted(history.gaps):
        if gap_to <= gap_from:
            yield Check.GAPS, None, f"a gap ends at {show(gap_to)}, not after its begin {show(gap_from)}"
        if gap_from < covered_until:
            yield Check.GAPS, None, f"two gaps overlap from {show(gap_from)} on"
        yield from _observations_within(history, gap_from, gap_to)
        if error_code == PRUNED and covered_until > EARLIEST:
            yield Check.GAPS, None, f"there is a gap before the history that was dropped until {show(gap_to)}"
        covered_until = max(covered_until, gap_to)
    open_gaps = [gap for gap in history.gaps if gap.gap_to == OPEN]
    if history.is_retired and any(gap.gap_from <= history.retired_at for gap in open_gaps):
        yield Check.GAPS, None, f"a gap is open though the type is gone since {show(history.retired_at)}"
    if history.asked_at is None and not history.is_retired and not open_gaps:
        yield Check.GAPS, None, "it has not been observed, and no gap says so"


def observed_ends(history: TargetHistory) -> Iterator[datetime]:
    """Yield the ends of gaps that only an observation can have made: no retirement did, and no ``db prune``."""
    horizon = history.horizon or EARLIEST
    retired = [(row.detected_at, row.recorded_at) for row in history.changes if row.kind == ChangeKind.TYPE_RETIRED]
    retired += history.retirements or ()
    retired.append((history.retired_at, history.retired_at))
    for _, gap_to, error_code in history.gaps:
        is_made_otherwise = gap_to == OPEN or error_code == PRUNED or gap_to < horizon
        if not is_made_otherwise and not any(begin <= gap_to <= end for begin, end in retired):
            yield gap_to


def _observations_within(history: TargetHistory, gap_from: datetime, gap_to: datetime) -> Iterator[Finding]:
    """Yield the observations that are known to lie within a gap, where none can be."""
    begins = {entry.valid_from for entry in history.intervals}
    first = history.first_observed_at
    for moment in sorted(begins | ({first} if first else set())):
        is_dropped = history.horizon is not None and moment < history.horizon
        if gap_from < moment < gap_to and not is_dropped:
            yield Check.GAPS, None, f"it was observed at {show(moment)}, within a gap from {show(gap_from)}"


def judge_held(history: TargetHistory) -> Iterator[Finding]:
    """Yield what is wrong with the removals that are not believed yet."""
    begins = {entry.image_key: entry.valid_from for entry in history.intervals if entry.valid_to == OPEN}
    for key, first_missed_at, last_missed_at, last_seen_at in history.held:
        named = None if key == WHOLE_TYPE else key
        if last_missed_at < first_missed_at:
            yield Check.HELD, named, f"it was last missed at {show(last_missed_at)}, before {show(first_missed_at)}"
        if last_seen_at and last_seen_at > first_missed_at:
            yield Check.HELD, named, f"it was last seen at {show(last_seen_at)}, after {show(first_missed_at)}"
        if named is None:
            continue
        if key not in begins:
            yield Check.HELD, named, "its removal is held, but it is not available"
        elif begins[key] >= first_missed_at:
            yield Check.HELD, named, f"it was missed at {show(first_missed_at)}, before its interval begins"


Judge = Callable[[TargetHistory], Iterator[Finding]]
JUDGES: tuple[Judge, ...] = (judge_intervals, judge_changes, judge_gaps, judge_held)


def show(moment: datetime) -> str:
    """Return a time as the violations name it, in UTC."""
    return "no end" if moment == OPEN else moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
