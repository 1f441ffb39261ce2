"""How fresh and complete the data are, and what needs a person: the judgement behind status, alerts and /healthz."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sync.config import ALL_REGIONS, Settings
from sync.render import Row, counted, held_lines, named
from sync.store.condition import (
    OpenGap,
    RegionCondition,
    RegionRunEnd,
    list_last_runs,
    list_open_gaps,
    list_region_conditions,
    list_region_run_ends,
)
from sync.store.history import list_held
from sync.store.lease import Holder, find_holder
from sync.store.runs import find_run_times
from sync.ticks import format_span

HELD_LINES = 8  # lines of held images in one message; accept-removals shows all

TROUBLED = frozenset({"partial", "failed"})
LOST = frozenset({"failed", "interrupted"})


@dataclass(frozen=True, slots=True)
class RegionHealth:
    """The data of one region: how old, how complete."""

    region_id: str
    observed_at: datetime | None
    age: timedelta | None
    """None where nothing was ever observed."""
    is_stale: bool
    observed_count: int = 0
    unknown_count: int = 0
    retired_count: int = 0
    held_count: int = 0


@dataclass(frozen=True, slots=True)
class Failing:
    """Targets of a region that are not observed at the moment, for one cause."""

    region_id: str
    code: str
    message: str
    since: datetime
    """Since when the first of them is not."""
    is_alike: bool
    """Whether all of them are not observed since the same run."""
    instance_types: tuple[str, ...]
    target_count: int
    """As many as instance types, or more where they are asked with several BaseOsTags."""
    is_lasting: bool
    """Whether one of them has failed in as many whole runs in a row as channels wait for."""

    @property
    def words(self) -> str:
        """Return what befell them, up to the time ``since``."""
        return "not observed since" if self.is_alike else "not observed, the first of them since"


@dataclass(frozen=True, slots=True)
class Held:
    """Held removals of a region that one run began to miss."""

    region_id: str
    since: datetime
    """The beginning of that run."""
    rows: Sequence[Row] = field(repr=False)
    runs_left: int | None
    """How many more runs in a row must miss them until they are accepted by themselves; None for never."""

    @property
    def outlook(self) -> str:
        """Return what happens to them if nobody does anything, as a sentence."""
        if self.runs_left is None:
            return "They stay held until a person accepts them or the images come back."
        return f"They are accepted by themselves after {counted(self.runs_left, 'more run')} in a row without them."


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes on and that a person should know; its key stays the same while it does."""

    key: str
    subject: str
    """One sentence."""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """The condition of a history at one moment; ``regions`` are sorted, and so is all else."""

    checked_at: datetime
    stale_span: timedelta
    regions: tuple[RegionHealth, ...]
    failing: tuple[Failing, ...]
    held: tuple[Held, ...]
    troubled_regions: Mapping[str, str]
    """Regions whose last run had failures though all targets are observed, as when a listing fails; with the cause."""
    lastingly_troubled: Mapping[str, str]
    """Regions whose last runs all had failures though no target's failure lasts; with the last cause."""
    last_runs: Sequence[Row]
    """The last whole runs, the newest first."""
    failures_after: int
    holder: Holder | None
    """Who makes a run at the moment."""

    @property
    def lag(self) -> timedelta:
        """Return how far the newest observation is ahead of this machine's clock; zero where it is not."""
        newest = max((region.observed_at for region in self.regions if region.observed_at), default=self.checked_at)
        return max(newest - self.checked_at, timedelta(0))

    @property
    def lost_runs(self) -> int:
        """Return how many of the last whole runs in a row observed nothing or did not end."""
        ended = [row for row in self.last_runs if row["status"] != "running"]
        return next((index for index, row in enumerate(ended) if row["status"] not in LOST), len(ended))

    @property
    def is_well(self) -> bool:
        """Return whether nothing needs a look: fresh, complete, nothing held, and the last run was not lost."""
        return not (self.failing or self.held or self.lost_runs or self.outage or self.troubled_regions)

    @property
    def outage(self) -> tuple[str, ...]:
        """Return why the data as a whole cannot be relied upon, one sentence each; nothing where they can."""
        reasons = [_stale_sentence(region) for region in self.regions if region.is_stale]
        if self.lag > self.stale_span:
            reasons.append(
                f"the newest observation is {format_span(self.lag)} ahead of this machine's clock, "
                "so that nobody can say how old the data are; set the clock"
            )
        if self.lost_runs >= self.failures_after:
            reasons.append(self.lost_sentence)
        if not self.regions:
            reasons.append("nothing has been observed yet")
        return tuple(reasons)

    @property
    def lost_sentence(self) -> str:
        """Return what befell the last runs; only where ``lost_runs`` is not zero."""
        last = next(row for row in self.last_runs if row["status"] != "running")
        count = "last run" if self.lost_runs == 1 else f"last {self.lost_runs} runs"
        if last["status"] == "interrupted":
            return f"the {count} did not get to an end: the process was killed or told to stop; its log says more"
        return f"the {count} observed nothing: {last['error'] or last['status']}"

    def incidents(self) -> tuple[Incident, ...]:
        """Return what a person should know of now, sorted by key."""
        found = [
            Incident(f"stale/{region.region_id}", _stale_sentence(region))
            for region in self.regions
            if region.is_stale and region.observed_at
        ]
        found += [_failing_incident(entry) for entry in self.failing if entry.is_lasting]
        found += [
            Incident(
                f"failing/{region_id}", f"{region_id} has had failures in the last {self.failures_after} runs: {error}"
            )
            for region_id, error in self.lastingly_troubled.items()
        ]
        if self.lost_runs >= self.failures_after:
            found.append(Incident("runs", self.lost_sentence))
        found += [_held_incident(entry) for entry in self.held]
        return tuple(sorted(found, key=lambda entry: entry.key))


def find_health(connection: Connection, settings: Settings, now: datetime) -> Health:
    """Return the health of a stored history at a moment."""
    after = settings.notify_failures_after
    conditions = {entry.region_id: entry for entry in list_region_conditions(connection)}
    ends = list_region_run_ends(connection, after)
    gaps = list_open_gaps(connection)
    failing = _failing_of(gaps, ends, after)
    failing_regions = {entry.region_id for entry in failing}
    lasting = {entry.region_id for entry in failing if entry.is_lasting}
    troubled = {name: runs[0].error for name, runs in sorted(ends.items()) if runs[0].status in TROUBLED}
    lastingly = {
        name for name, runs in ends.items() if len(runs) >= after and {entry.status for entry in runs} <= TROUBLED
    }
    expected = () if settings.regions == (ALL_REGIONS,) else settings.regions
    span = settings.stale_span(now)
    names = sorted({*expected, *(name for name, entry in conditions.items() if _is_asked(entry, settings))})
    return Health(
        checked_at=now,
        stale_span=span,
        regions=tuple(_region_health(name, conditions.get(name), now, span) for name in names),
        failing=failing,
        held=_held_of(connection, settings.removal_accept_after_runs),
        troubled_regions={name: error for name, error in troubled.items() if name not in failing_regions},
        lastingly_troubled={name: error for name, error in troubled.items() if name in lastingly - lasting},
        last_runs=list_last_runs(connection, after + 1),
        failures_after=after,
        holder=find_holder(connection),
    )


def _is_asked(condition: RegionCondition, settings: Settings) -> bool:
    """Return whether a region of the history is one that runs ask: a region that was dropped goes stale by intent."""
    if settings.regions not in {(), (ALL_REGIONS,)}:
        return condition.region_id in settings.regions
    return bool(condition.observed_count or condition.unknown_count)


def _region_health(
    region_id: str, condition: RegionCondition | None, now: datetime, stale_span: timedelta
) -> RegionHealth:
    if condition is None:
        return RegionHealth(region_id, None, None, is_stale=True)
    age = max(now - condition.observed_at, timedelta(0)) if condition.observed_at else None
    return RegionHealth(
        region_id,
        condition.observed_at,
        age,
        age is None or age > stale_span,
        condition.observed_count,
        condition.unknown_count,
        condition.retired_count,
        condition.held_count,
    )


def _failing_of(gaps: Sequence[OpenGap], ends: Mapping[str, Sequence[RegionRunEnd]], after: int) -> tuple[Failing, ...]:
    groups: dict[tuple[str, str], list[OpenGap]] = defaultdict(list)
    for gap in gaps:
        groups[gap.region_id, gap.code].append(gap)
    found = []
    for (region_id, code), group in sorted(groups.items()):
        oldest = min(group, key=lambda gap: gap.gap_from)
        first_run = min(gap.run_id for gap in group)
        failed = sum(entry.run_id >= first_run for entry in ends.get(region_id, ()))
        types = tuple(sorted({gap.instance_type for gap in group}))
        is_alike = len({gap.run_id for gap in group}) == 1
        is_lasting = failed >= after
        found.append(Failing(region_id, code, oldest.message, oldest.gap_from, is_alike, types, len(group), is_lasting))
    return tuple(found)


def _held_of(connection: Connection, accept_after: int) -> tuple[Held, ...]:
    rows = [row for _, _, row in list_held(connection)]
    if not rows:
        return ()
    run_times = find_run_times(connection, min(row["first_missed_at"] for row in rows))
    groups: dict[tuple[str, datetime], list[Row]] = defaultdict(list)
    for row in rows:
        since = run_times.run_start_of(row["first_missed_at"])
        groups[row["region_id"], since or row["first_missed_at"]].append(row)
    return tuple(
        Held(region_id, since, group, _runs_left(group, accept_after))
        for (region_id, since), group in sorted(groups.items(), key=_key_of)
    )


def _runs_left(rows: Sequence[Row], accept_after: int) -> int | None:
    return max(1, accept_after - max(row["missed_runs"] for row in rows)) if accept_after else None


def _key_of(item: tuple[tuple[str, datetime], object]) -> tuple[str, datetime]:
    return item[0]


def _stale_sentence(region: RegionHealth) -> str:
    if region.age is None or region.observed_at is None:
        return f"{region.region_id} has never been observed"
    return (
        f"{region.region_id} has not been observed for {format_span(region.age)}, "
        f"since {region.observed_at:%Y-%m-%d %H:%M} UTC"
    )


def _failing_incident(entry: Failing) -> Incident:
    types = counted(len(entry.instance_types), "instance type")
    subject = f"{types} of {entry.region_id} {entry.words} {entry.since:%Y-%m-%d %H:%M} UTC: {entry.code}"
    return Incident(
        f"failing/{entry.region_id}/{entry.code}", subject, (f"{named(entry.instance_types)}: {entry.message}",)
    )


def _held_incident(entry: Held) -> Incident:
    removals = counted(len(entry.rows), "removal")
    lines = held_lines(entry.rows)
    more = len(lines) - HELD_LINES
    return Incident(
        f"held/{entry.region_id}/{entry.since:%Y-%m-%dT%H:%M:%S.%f}",
        f"{removals} held in {entry.region_id}",
        (
            *lines[:HELD_LINES],
            *([f"… and {counted(more, 'image')} more"] if more > 0 else []),
            f"Not believed yet: the images stay available, and the next runs go on asking. {entry.outlook}",
            f"If they are real, accept them: ehpc-image-sync accept-removals --region {entry.region_id}",
        ),
    )
