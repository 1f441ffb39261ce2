"""What is true of a recorded history, as plain values: from the model of tests/job, its moments pinned by the views.

The model leaves moments open within spans, and the views are checked to lie in them; from there on the stored moments
are the true ones. What only the calls tell, when a target was really observed, is kept as windows: the runs that
observed it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sync.store.history import list_held
from tests.job.journal import Journal, Key, Row
from tests.job.rules import asks_discovery, leading_answers
from tests.job.views import FIELDS, Record, read_view
from tests.questions.stories import Listing, Recording


@dataclass(frozen=True, slots=True)
class Interval:
    """When an image was available."""

    key: Key
    row: Row
    since: datetime
    until: datetime | None
    is_baseline: bool
    missing: tuple[datetime | None, datetime | None]
    """Since when answers miss the image, and since when the listing misses its type, where that is held now."""


@dataclass(frozen=True, slots=True)
class Gap:
    """When a target was not observed."""

    since: datetime
    until: datetime | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Sight:
    """One run that observed a target, at some moment between its beginning and its end."""

    earliest: datetime
    latest: datetime
    is_noted: bool
    """Whether it must be known later: a restricted run that finds nothing new need not leave a trace."""


@dataclass(frozen=True, slots=True)
class Absence:
    """When an instance type was retired: known to offer nothing."""

    since: datetime
    until: datetime | None
    is_told: bool
    """Whether the feed says when it ended: not where a configuration asks for the exact name again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the feed."""

    change_id: int
    run_id: int
    kind: str
    key: Key
    row: Row | None
    detected_at: datetime
    last_seen_at: datetime | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what it was asked to do and what each target gave."""

    run_id: int
    started_at: datetime
    finished_at: datetime
    regions: dict[str, tuple[datetime, datetime]]
    """When it began and ended in each region."""
    complete: frozenset[str]
    """The regions that it asked as a whole."""
    listed: frozenset[str]
    """The regions whose discovery answered."""
    undiscovered: frozenset[str]
    """The regions whose discovery failed."""
    observed: frozenset[Key]
    failed: frozenset[Key]


@dataclass(slots=True)
class Life:
    """All that is true of one target."""

    first_observed: datetime | None
    retired_at: datetime | None
    intervals: list[Interval] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    type_absences: list[Absence] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """All that is true of a history."""

    lives: dict[Key, Life]
    changes: list[Change]
    runs: list[Run]
    listings: list[tuple[datetime, dict[str, Listing]]]
    """What discovery had said when each run was over, in order of time."""

    def listing_at(self, region_id: str, moment: datetime) -> Listing:
        """Return what the discovery of a region had said until a time, as far as it is remembered.

        A type that was never asked is forgotten when it is no longer listed.
        """
        told = [(ended_at, found[region_id]) for ended_at, found in self.listings if region_id in found]
        before = [found for ended_at, found in told if ended_at <= moment]
        if not before:
            return Listing(is_known=False, instance_types=frozenset())
        after = [found.instance_types for ended_at, found in told if ended_at > moment]
        return Listing(before[-1].is_known, before[-1].instance_types.intersection(*after))

    @property
    def intervals(self) -> list[Interval]:
        """Return the intervals of all targets."""
        return [entry for life in self.lives.values() for entry in life.intervals]

    def moments(self) -> Iterator[datetime]:
        """Yield every moment at which an answer may turn."""
        for life in self.lives.values():
            spans = [(entry.since, entry.until) for entry in life.intervals]
            spans += [(entry.since, entry.until) for entry in life.gaps]
            spans += [(entry.since, entry.until) for entry in life.absences]
            yield from (moment for span in spans for moment in span if moment)
            yield from (moment for entry in life.intervals for moment in entry.missing if moment)
            yield from filter(None, (life.first_observed,))
        for run in self.runs:
            yield from (run.started_at, run.finished_at)
            yield from (moment for span in run.regions.values() for moment in span if moment)

    def is_open(self, moment: datetime) -> bool:
        """Return whether it is open if a type was there at a time.

        Only the run in which it went or returned knows when it did so, and nobody remembers when a type that came back
        by its exact name had been away.
        """
        gone = [entry for life in self.lives.values() for entry in life.absences]
        is_forgotten = any(not entry.is_told and entry.since <= moment for entry in gone)
        deciding = {entry.run_id for entry in self.changes if entry.kind == "type_retired"}
        within = [run for run in self.runs if run.started_at <= moment <= run.finished_at != run.started_at]
        is_deciding = any(run.run_id in deciding for run in within)
        return is_forgotten or is_deciding or any(_is_in_doubt(moment, entry, run) for entry in gone for run in within)


def _is_in_doubt(moment: datetime, gone: Absence, run: Run) -> bool:
    is_before = run.started_at <= gone.since <= run.finished_at and moment < gone.since
    is_back = gone.until is not None and run.started_at <= gone.until <= run.finished_at
    return is_before or is_back


def world_of(recording: Recording) -> World:
    """Return what is true of a history whose views are what the model says."""
    bench = recording.bench
    assert not (found := bench.differences()), "\n".join(found)
    database = bench.database
    rows = {name: read_view(database, name) for name in ("image_history", "image_changes", "observation_gaps")}
    lives = {
        _key_of(record): Life(record["first_observed_at"], record["retired_at"])
        for record in read_view(database, "target_status")
    }
    missing = {(_key_of(row), _row_of(row)): row["missing_since"] for row in read_view(database, "available_images")}
    held_types = _held_types_of(recording)
    for record in rows["image_history"]:
        interval = _interval_of(record, missing, held_types)
        lives[interval.key].intervals.append(interval)
    for record in rows["observation_gaps"]:
        gap = Gap(record["gap_from"], record["gap_to"], record["error_code"], record["error_message"])
        lives[_key_of(record)].gaps.append(gap)
    runs = _runs_of(recording)
    changes = [_change_of(record) for record in sorted(rows["image_changes"], key=lambda row: row["change_id"])]
    for key, life in lives.items():
        life.sights = _sights_of(key, life, runs)
        life.absences = _absences_of(key, recording, runs, changes)
    for key, life in lives.items():
        # A type is gone for all of its targets, even for those that are asked for the first time later.
        plain = lives.get((key[0], key[1], ""))
        life.type_absences = plain.absences if plain else []
    ended = [journal.ended_at for journal in bench.model.journals]
    return World(lives, changes, runs, _listings_of(recording, ended))


def _listings_of(recording: Recording, ended: Sequence[datetime]) -> list[tuple[datetime, dict[str, Listing]]]:
    return list(zip(ended, recording.listings, strict=True))


def _key_of(record: Record) -> Key:
    return record["region_id"], record["instance_type"], record["base_os_tag_filter"]


def _row_of(record: Record) -> Row | None:
    return None if record["image_id"] is None else tuple(record[name] for name in FIELDS)


def _held_types_of(recording: Recording) -> dict[tuple[str, str], datetime]:
    """Return since when the types whose retirement is held now have been missing."""
    with recording.bench.database.reading() as connection:
        entries = [entry for _, image, entry in list_held(connection) if image is None]
    return {(entry["region_id"], entry["instance_type"]): entry["first_missed_at"] for entry in entries}


def _interval_of(
    record: Record,
    missing: dict[tuple[Key, Row | None], datetime | None],
    held_types: dict[tuple[str, str], datetime],
) -> Interval:
    key, row = _key_of(record), tuple(record[name] for name in FIELDS)
    own = None if record["valid_to"] else missing[key, row]
    both = (own, held_types.get(key[:2]))
    return Interval(key, row, record["valid_from"], record["valid_to"], record["from_baseline"], both)


def _change_of(record: Record) -> Change:
    names = ("detected_at", "last_seen_at", "recorded_at")
    place = (_key_of(record), _row_of(record))
    return Change(record["change_id"], record["run_id"], record["kind"], *place, *(record[name] for name in names))


def _runs_of(recording: Recording) -> list[Run]:
    """Return the runs with the moments of their rows and what the calls of each have got."""
    database, model = recording.bench.database, recording.bench.model
    rows = sorted(read_view(database, "sync_runs"), key=lambda record: record["run_id"])
    regions = read_view(database, "region_runs")
    runs = []
    for record, journal, tally in zip(rows, model.journals, model.tallies, strict=True):
        of_run = {
            row["region_id"]: (row["started_at"], row["finished_at"])
            for row in regions
            if row["run_id"] == record["run_id"]
        }
        answered = {key for key, replies in journal.images.items() if leading_answers(replies)}
        listed = frozenset(name for name, replies in journal.listings.items() if leading_answers(replies))
        is_made = tally is not None
        runs.append(
            Run(
                record["run_id"],
                record["started_at"],
                record["finished_at"],
                of_run,
                frozenset(name for name in of_run if is_made and _is_whole(name, journal)),
                listed,
                frozenset(journal.listings) - listed if is_made else frozenset(),
                frozenset(answered if is_made else ()),
                frozenset(journal.images.keys() - answered if is_made else ()),
            )
        )
    return runs


def _is_whole(region_id: str, journal: Journal) -> bool:
    """Return whether a run asked all that it could of a region; one without discovery may have had nothing to ask."""
    has_asked = any(key[0] == region_id for key in journal.images)
    is_known = bool(leading_answers(journal.listings.get(region_id, ()))) or not asks_discovery(journal.settings)
    return not journal.only_types and (has_asked or is_known)


def _sights_of(key: Key, life: Life, runs: Sequence[Run]) -> list[Sight]:
    ends = {gap.until for gap in life.gaps} | {life.first_observed}
    return [
        Sight(
            run.started_at,
            run.finished_at,
            key[0] in run.complete or any(end and run.started_at <= end <= run.finished_at for end in ends),
        )
        for run in runs
        if key in run.observed
    ]


def _absences_of(key: Key, recording: Recording, runs: Sequence[Run], changes: Sequence[Change]) -> list[Absence]:
    """Return when a target was retired; it ends with the run in which its type is listed or asked again."""
    found: list[Absence] = []
    was_retired = False
    for run, retired in zip(runs, recording.retired, strict=True):
        is_retired = key in retired
        if is_retired and not was_retired:
            found.append(Absence(_told("type_retired", key, run, changes) or retired[key].earliest, None, True))
        if was_retired and not is_retired:
            back_at = _told("type_added", key, run, changes)
            found[-1] = Absence(found[-1].since, back_at or run.finished_at, back_at is not None)
        was_retired = is_retired
    return found


def _told(kind: str, key: Key, run: Run, changes: Sequence[Change]) -> datetime | None:
    """Return when the feed says that a type went or came."""
    for change in changes:
        if (change.kind, change.run_id, change.key[:2]) == (kind, run.run_id, key[:2]):
            return change.detected_at
    return None
