"""The history as the model keeps it: targets with intervals, gaps and what is missing, and the feed of changes."""

from dataclasses import dataclass, field
from datetime import datetime

from tests.job.journal import Key, Reply, Row, Span


@dataclass(frozen=True, slots=True)
class Missing:
    """What answers lack and is still believed there."""

    since: Span
    last_had: Span
    run_count: int
    answer_count: int


@dataclass(slots=True)
class Interval:
    """One row of image_history."""

    row: Row
    since: Span
    is_baseline: bool
    last_had: Span
    until: Span | None = None


@dataclass(slots=True)
class Gap:
    """One row of observation_gaps; ``request_ids`` are those of the calls that may stand for it."""

    since: Span
    code: str
    request_ids: set[str]
    until: Span | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One row of image_changes."""

    run: int
    kind: str
    key: Key
    row: Row | None
    detected: Span
    last_had: Span | None
    recorded: Span


@dataclass(slots=True)
class Tally:
    """The figures of one run."""

    ok: int = 0
    failed: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    held: int = 0
    is_held: bool = False
    is_accepted: bool = False
    """Whether a person made it, not a run."""
    has_failure: bool = False

    @property
    def status(self) -> str:
        """Return how the run must have ended: held wins over partial, no observation at all is a failure."""
        if self.is_accepted:
            return "ok"
        if self.is_held:
            return "held"
        if not self.ok:
            return "failed"
        return "partial" if self.has_failure else "ok"


@dataclass(slots=True)
class TargetState:
    """What is to be known of one target."""

    first_observed: Span | None = None
    last_observed: Span | None = None
    retired: Span | None = None
    is_begun: bool = False
    """Whether the next observation is compared; the first one, and the first after a return, only opens intervals."""
    relisted_at: datetime | None = None
    """When the listing was asked for that had the type again, until the target is observed or its type goes again."""
    intervals: list[Interval] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    missing: dict[Row, Missing] = field(default_factory=dict)

    @property
    def open(self) -> dict[Row, Interval]:
        """Return the open intervals by image."""
        return {entry.row: entry for entry in self.intervals if entry.until is None}

    @property
    def gap(self) -> Gap | None:
        """Return the open gap."""
        return self.gaps[-1] if self.gaps and self.gaps[-1].until is None else None


@dataclass(slots=True)
class RegionState:
    """What is to be known of a region's discovery."""

    was_listed: bool = False
    listed: dict[str, Span] = field(default_factory=dict)
    """The types believed to be offered, each with the last listing that had it."""
    missing: dict[str, Missing] = field(default_factory=dict)


def note_failure(state: TargetState, reply: Reply, now: Span) -> None:
    """Open the target's gap or keep it; the last cause is the one shown.

    It begins with the last observation, or else the first attempt. Of a type that returned, observed before or not, it
    begins with the listing that had it again: until then it was known to be gone, and what came before says nothing.
    """
    gap = state.gap
    if gap is None:
        since = state.last_observed or Span(reply.asked_at, now.latest)
        if state.relisted_at:
            since = Span(state.relisted_at, reply.asked_at)
        state.gaps.append(Gap(since, reply.code, {reply.request_id}))
    elif gap.code == reply.code:
        gap.request_ids.add(reply.request_id)
    else:
        gap.code, gap.request_ids = reply.code, {reply.request_id}
