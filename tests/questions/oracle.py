"""What the commands must answer, by brute force over what is true: images, compare, history, changes, runs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from tests.job.journal import Key, Row
from tests.job.rules import pairs_of
from tests.job.views import FIELDS
from tests.questions.expect import Within, exactly
from tests.questions.world import Gap, Life, Run, World

Rows = list[dict[str, Any]]

NAMES = ("image_id", "os_tag", "os_name", "os_name_en")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question is about, as its options say it; empty parts are about everything."""

    regions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    os_tags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def has_place(self, key: Key) -> bool:
        """Return whether the question is about a target."""
        return (not self.regions or key[0] in self.regions) and _is_any(self.types, key[1])

    def has_image(self, row: Row | None) -> bool:
        """Return whether the question is about an image; without an image only where it asks for none."""
        if row is None:
            return not self.images and not self.os_tags
        values = dict(zip(FIELDS, row, strict=True))
        is_named = not self.images or any(_is_any(self.images, values[name]) for name in NAMES)
        return is_named and _is_any(self.os_tags, values["os_tag"])


def _is_any(patterns: Collection[str], name: str) -> bool:
    """Return whether a name equals a pattern; one with wildcards does not care for letter case."""
    return not patterns or any(
        fnmatchcase(name.lower(), pattern.lower()) if set(pattern) & set("*?") else name == pattern
        for pattern in patterns
    )


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a target at a time."""

    is_unknown: bool
    observed: Within
    next_observed: Within
    images: dict[Row, tuple[datetime, bool, datetime | None]]
    """Since when, whether from the baseline, and since when it is missing."""


def state_at(life: Life, moment: datetime) -> State | None:
    """Return what is known of a target at a time; None where its instance type is known to be gone.

    A type whose retirement was held may have answered with new images meanwhile: then these are what is known.
    """
    images = {
        entry.row: (entry.since, entry.is_baseline, next((one for one in entry.missing if one and one <= moment), None))
        for entry in life.intervals
        if entry.since <= moment and (entry.until is None or entry.until > moment)
    }
    if is_gone(life, moment) and not images:
        return None
    if life.first_observed is None or life.first_observed > moment:
        return State(True, Within(), exactly(life.first_observed), images)
    gap = gap_at(life, moment)
    if gap is None:
        return State(False, _last_sight(life, moment), Within(), images)
    return State(True, _sight_before(life, gap, moment), _next_sight(life, gap), images)


def is_gone(life: Life, moment: datetime) -> bool:
    """Return whether a target's instance type was known to be gone."""
    if life.retired_at and life.retired_at <= moment:
        return True
    return any(gone.until and gone.since <= moment < gone.until for gone in life.type_absences)


def gap_at(life: Life, moment: datetime) -> Gap | None:
    """Return the gap that covers a time."""
    for gap in life.gaps:
        if gap.since < moment and (gap.until is None or gap.until > moment):
            return gap
    return None


def _sight_before(life: Life, gap: Gap, moment: datetime) -> Within:
    """Return the last observation before a gap; of a type that returned and did not answer none may be told."""
    last = _last_sight(life, moment)
    has_returned = any(gone.until and gone.until <= gap.since for gone in life.type_absences)
    is_attempt = not any(sight.earliest <= gap.since <= sight.latest for sight in life.sights)
    # In a run that takes no time the listing and the first observation after it are of one moment.
    is_attempt |= any(gone.until == gap.since for gone in life.type_absences)
    return Within(last.windows, may_be_none=has_returned and is_attempt)


def _last_sight(life: Life, moment: datetime) -> Within:
    """Return in which windows the last observation at or before a time may lie."""
    over = [sight for sight in life.sights if sight.is_noted and sight.latest <= moment]
    least = over[-1].earliest if over else life.sights[0].earliest
    windows = [
        (sight.earliest, min(sight.latest, moment))
        for sight in life.sights
        if sight.earliest >= least and sight.earliest <= moment
    ]
    return Within(tuple(windows))


def _next_sight(life: Life, gap: Gap) -> Within:
    """Return the first observation after a gap, which is its end unless the type was retired meanwhile.

    Then it is the first after the return; that one may have left no trace, as it may have found no images.
    """
    after = [sight for sight in life.sights if gap.until and sight.latest >= gap.until]
    if gap.until is None or not after:
        return Within()
    if after[0].earliest <= gap.until:
        return exactly(gap.until)
    windows = [(sight.earliest, sight.latest) for sight in after]
    # Nobody remembers that a type was retired once it is back by its exact name.
    is_forgotten = any(not gone.is_told for gone in life.absences)
    return Within((*windows, *([(gap.until, gap.until)] if is_forgotten else [])), may_be_none=True)


def place_of(key: Key) -> dict[str, Any]:
    """Return the columns of a target; its tag stands behind the image in the views."""
    return {"region_id": key[0], "instance_type": key[1]}


def fields_of(row: Row | None) -> dict[str, Any]:
    """Return the columns of an image."""
    return dict(zip(FIELDS, row, strict=True)) if row else dict.fromkeys(FIELDS)


def images_at(world: World, moment: datetime, wanted: Wanted) -> Rows:
    """Return what ``images --at`` answers."""
    return [
        place_of(key)
        | fields_of(row)
        | {"available_since": since, "from_baseline": is_baseline, "missing_since": missing}
        | {"base_os_tag_filter": key[2], "state": "unknown" if state.is_unknown else "available"}
        | {"observed_at": state.observed, "next_observed_at": state.next_observed}
        for key, life in world.lives.items()
        if wanted.has_place(key) and (state := state_at(life, moment))
        for row, since, is_baseline, missing in _shown(state, wanted)
    ]


def _shown(state: State, wanted: Wanted) -> Iterable[tuple[Row | None, datetime | None, bool | None, datetime | None]]:
    shown = [(row, *values) for row, values in state.images.items() if wanted.has_image(row)]
    return shown if shown or not state.is_unknown else [(None, None, None, None)]


NEVER_ASKED = State(True, Within(), Within(), {})


def compare_times(world: World, first: datetime, second: datetime, wanted: Wanted) -> Rows:
    """Return what ``compare FIRST SECOND`` answers."""
    rows: Rows = []
    for key, life in world.lives.items():
        if wanted.has_place(key):
            rows += _compared((key, state_at(life, first)), (key, state_at(life, second)), wanted)
    return rows


def compare_regions(world: World, moment: datetime, names: tuple[str, str], wanted: Wanted) -> Rows:
    """Return what ``compare --region A --region B`` answers."""
    keys = {key[1:] for key in world.lives if key[0] in names and wanted.has_place((names[0], *key[1:]))}
    rows: Rows = []
    for of_type in keys:
        before, after = (_side(world, (name, *of_type), moment) for name in names)
        rows += _compared(before, after, wanted)
    return rows


def compare_types(world: World, moment: datetime, names: tuple[str, str], wanted: Wanted) -> Rows:
    """Return what ``compare --instance-type S --instance-type T`` answers."""
    places = {(key[0], key[2]) for key in world.lives if key[1] in names and wanted.has_place((key[0], names[0], ""))}
    rows: Rows = []
    for region_id, tag in places:
        before, after = (_side(world, (region_id, name, tag), moment) for name in names)
        rows += _compared(before, after, wanted)
    return rows


Side = tuple[Key, State | None]


def _side(world: World, key: Key, moment: datetime) -> Side:
    """Return a target's state; what was never asked is unknown where the region lists it or nobody knows."""
    if key in world.lives:
        return key, state_at(world.lives[key], moment)
    listing = world.listing_at(key[0], moment)
    is_lacking = key[1] != "*" and listing.is_known and key[1] not in listing.instance_types
    return key, None if is_lacking else NEVER_ASKED


def _compared(before: Side, after: Side, wanted: Wanted) -> Iterator[dict[str, Any]]:
    (old_key, old), (new_key, new) = before, after
    if all(state is None or state is NEVER_ASKED for state in (old, new)):
        return
    times = {
        "before_observed_at": old.observed if old else Within(),
        "after_observed_at": new.observed if new else Within(),
    }
    sides = [name for name, state in (("before", old), ("after", new)) if state and state.is_unknown]
    if sides:
        key = old_key if sides == ["before"] else new_key
        yield _difference("unknown", key, None, "both" if len(sides) > 1 else sides[0]) | times
        return
    for kind, row in _differences(set(old.images if old else ()), set(new.images if new else ()), wanted):
        yield _difference(kind, old_key if kind == "removed" else new_key, row, None) | times


def _differences(had: set[Row], has: set[Row], wanted: Wanted) -> Iterator[tuple[str, Row]]:
    replaced = pairs_of(had - has, frozenset(has - had))
    for old, new in replaced.items():
        if wanted.has_image(old) or wanted.has_image(new):
            yield "changed", new
    yield from (("added", row) for row in has - had - set(replaced.values()) if wanted.has_image(row))
    yield from (("removed", row) for row in had - has - replaced.keys() if wanted.has_image(row))


def _difference(kind: str, key: Key, row: Row | None, side: str | None) -> dict[str, Any]:
    return {"kind": kind} | place_of(key) | fields_of(row) | {"base_os_tag_filter": key[2], "unknown_side": side}


def history(world: World, wanted: Wanted) -> Rows:
    """Return what ``history`` answers."""
    return [
        place_of(entry.key)
        | fields_of(entry.row)
        | {"valid_from": entry.since, "valid_to": entry.until, "from_baseline": entry.is_baseline}
        | {"base_os_tag_filter": entry.key[2]}
        for entry in world.intervals
        if wanted.has_place(entry.key) and wanted.has_image(entry.row)
    ]


def changes(world: World, wanted: Wanted, since: datetime | None = None, until: datetime | None = None) -> Rows:
    """Return what ``changes`` answers, in its order."""
    return [
        {"change_id": entry.change_id, "run_id": entry.run_id, "detected_at": entry.detected_at}
        | {"last_seen_at": entry.last_seen_at, "kind": entry.kind}
        | place_of(entry.key)
        | fields_of(entry.row)
        | {"base_os_tag_filter": entry.key[2], "recorded_at": entry.recorded_at}
        for entry in world.changes
        if (since is None or entry.recorded_at >= since)
        and (until is None or entry.recorded_at < until)
        and wanted.has_place(entry.key)
        and wanted.has_image(entry.row)
        and (not wanted.kinds or entry.kind in wanted.kinds)
    ]


def failures(world: World, run: Run) -> tuple[set[Key], set[Key]]:
    """Return what ``runs ID`` must name, and what it may name beside that.

    A gap keeps its last cause only. So a failure may be told by a later cause, and is lost where the configuration
    stopped asking the target before it was observed again; a target that was not asked for a while is told with the
    cause that came later. A run that takes no time at all may lose its first attempt at a target.
    """
    must: set[Key] = set()
    may: set[Key] = set()
    for key, life in world.lives.items():
        gap = gap_at(life, _end_of(run, key))
        if key in run.failed and gap:
            is_lost = gap.code == "plan.not_planned" or key[0] not in run.complete
            (may if is_lost or gap.since >= run.finished_at else must).add(key)
        elif gap and key not in run.observed and key[0] in run.complete:
            may.add(key)
    return must, may


def _end_of(run: Run, key: Key) -> datetime:
    """Return a moment just after the run in which a gap that it opened or kept is open."""
    return run.finished_at + timedelta(milliseconds=1)
