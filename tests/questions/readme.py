"""README's statements: how they are asked about another time, region, type and image, and what they must answer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tests.job.journal import Key, Row
from tests.questions import oracle
from tests.questions.expect import Within, exactly
from tests.questions.oracle import State, gap_at
from tests.questions.world import Change, Interval, Life, Run, World
from tests.statements import statement_of

Rows = list[dict[str, Any]]

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What stands in the statements instead of README's own literals."""

    region: str
    instance_type: str
    first: datetime
    moment: datetime
    period_from: datetime
    period_to: datetime
    os_tags: tuple[str, str]
    change_id: int
    asked_at: datetime
    """When the statement is asked: available images live until now."""


def statement_about(words: str, chosen: Parameters) -> str:
    """Return a statement with its literals replaced."""
    literals = {
        "cn-hangzhou": chosen.region,
        "ecs.c7.large": chosen.instance_type,
        "2026-11-22 10:00:00.000": text_of(chosen.first),
        "2026-11-22 12:00:00.000": text_of(chosen.moment),
        "2026-11-22 00:00:00.000": text_of(chosen.period_from),
        "2026-11-23 00:00:00.000": text_of(chosen.period_to),
        "CentOS_7.6_64": chosen.os_tags[0],
        "Ubuntu_22.04_64": chosen.os_tags[1],
    }
    statement = statement_of(words)
    for number, literal in enumerate(literals):
        statement = statement.replace(f"'{literal}'", f"'\0{number}'")
    for number, value in enumerate(literals.values()):
        statement = statement.replace(f"'\0{number}'", f"'{value}'")
    return statement.replace("change_id > 0", f"change_id > {chosen.change_id}")


def text_of(moment: datetime) -> str:
    """Return a time as the statements write it."""
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def _of_type(world: World, chosen: Parameters) -> Iterable[tuple[Key, Life]]:
    place = (chosen.region, chosen.instance_type)
    return ((key, life) for key, life in world.lives.items() if key[:2] == place)


def _of_region(world: World, chosen: Parameters) -> Iterable[tuple[Key, Life]]:
    return ((key, life) for key, life in world.lives.items() if key[0] == chosen.region)


def _state_at(life: Life, moment: datetime) -> State | None:
    """Return what is known of a target, as far as the views tell: not when a type that has returned was away."""
    return oracle.state_at(replace(life, type_absences=[]), moment)


def _open(life: Life) -> list[Interval]:
    return [entry for entry in life.intervals if entry.until is None]


def _names(row: Row) -> dict[str, Any]:
    return {"os_tag": row[1], "image_id": row[0]}


def _named(row: Row) -> dict[str, Any]:
    return _names(row) | {"os_name": row[6]}


def _since(key: Key, life: Life, world: World) -> datetime | None:
    """Return since when a target is unknown now."""
    return next((gap.since for gap in life.gaps if gap.until is None), None)


def available_now(world: World, chosen: Parameters) -> Rows:
    return [
        _names(entry.row) | {"available_since": entry.since, "missing_since": next(filter(None, entry.missing), None)}
        for _, life in _of_type(world, chosen)
        for entry in _open(life)
    ]


def available_then(world: World, chosen: Parameters) -> Rows:
    return [
        _names(row) | {"valid_from": since, "state": "unknown" if state.is_unknown else "available"}
        for _, life in _of_type(world, chosen)
        if (state := _state_at(life, chosen.moment))
        for row, (since, *_) in state.images.items()
    ]


def region_then(world: World, chosen: Parameters) -> Rows:
    owners: dict[Row, int] = {}
    for key, life in _of_region(world, chosen):
        state = None if key[2] else _state_at(life, chosen.moment)
        for row in state.images if state else ():
            owners[row] = owners.get(row, 0) + 1
    return [_named(row) | {"instance_types": count} for row, count in owners.items()]


def unknown_then(world: World, chosen: Parameters) -> Rows:
    rows = []
    for key, life in _of_region(world, chosen):
        state = _state_at(life, chosen.moment)
        if state and state.is_unknown:
            gap = gap_at(life, chosen.moment)
            cause = gap.code if gap else "not observed yet"
            times = {"gap_from": gap.since if gap else None, "gap_to": gap.until if gap else None}
            rows.append({"instance_type": key[1]} | times | {"cause": cause})
    return rows


def image_life(world: World, chosen: Parameters) -> Rows:
    return [
        {"region_id": entry.key[0], "instance_type": entry.key[1], "valid_from": entry.since}
        | {"valid_to": entry.until, "from_baseline": entry.is_baseline}
        for entry in world.intervals
        if entry.row[1] == chosen.os_tags[0]
    ]


def type_life(world: World, chosen: Parameters) -> Rows:
    rows: Rows = []
    for _, life in _of_type(world, chosen):
        rows += [
            {"valid_from": entry.since, "valid_to": entry.until, "state": "available"} | _names(entry.row)
            for entry in life.intervals
        ]
        rows += [
            {"valid_from": gap.since, "valid_to": gap.until, "state": "unknown", "os_tag": None, "image_id": None}
            for gap in life.gaps
        ]
    return rows


def region_difference(world: World, chosen: Parameters) -> Rows:
    rows: Rows = []
    for key, life in _of_region(world, chosen):
        before, after = (_state_at(life, moment) for moment in (chosen.first, chosen.moment))
        # While the retirement of a type is held its targets are asked: what failed then, or was observed first, is left
        # out, though the type is known to have been gone.
        is_new = life.first_observed is None or life.first_observed > chosen.first
        is_in_gap = any(gap_at(life, moment) for moment in (chosen.first, chosen.moment))
        if is_new or is_in_gap or any(state and state.is_unknown for state in (before, after)):
            continue
        had, has = _images(before), _images(after)
        rows += [{"kind": "added", "instance_type": key[1]} | _named(row) for row in has - had]
        rows += [{"kind": "removed", "instance_type": key[1]} | _named(row) for row in had - has]
    return rows


def _images(state: State | None) -> set[Row]:
    return set(state.images) if state else set()


def supporting_all(world: World, chosen: Parameters) -> Rows:
    return [
        {"region_id": key[0], "instance_type": key[1], "unknown_since": _since(key, life, world)}
        for key, life in world.lives.items()
        if not key[2] and set(chosen.os_tags) <= {entry.row[1] for entry in _open(life)}
    ]


def _days(entry: Interval, now: datetime) -> float:
    return ((entry.until or now) - entry.since) / DAY


def vanished_soon(world: World, chosen: Parameters) -> Rows:
    return [
        {"instance_type": entry.key[1]} | _names(entry.row) | {"valid_from": entry.since, "valid_to": entry.until}
        for entry in world.intervals
        if entry.key[0] == chosen.region and entry.until and not entry.is_baseline and _days(entry, chosen.asked_at) < 7
    ]


def coverage(world: World, chosen: Parameters) -> Rows:
    rows = []
    for key, life in _of_region(world, chosen):
        runs = [run for run in _whole_runs(world, key[0]) if _counts(run, key, life, chosen)]
        if runs:
            known = sum(_is_known(run, key, life) for run in runs)
            rows.append({"instance_type": key[1], "runs": len(runs), "known": known})
    return rows


def _is_known(run: Run, key: Key, life: Life) -> bool:
    """Return whether a run observed a target, or it was known to be gone and nobody asked.

    When a type has returned and does not answer, its gap begins within that run, as if the run had observed it last.
    """
    began_at, ended_at = run.regions[key[0]]
    gap = gap_at(life, ended_at)
    return key in run.observed or (gap.since >= began_at if gap else key not in run.failed or began_at == ended_at)


def _whole_runs(world: World, region_id: str) -> list[Run]:
    return [run for run in world.runs if region_id in run.complete]


def _counts(run: Run, key: Key, life: Life, chosen: Parameters) -> bool:
    """Return whether a run is one of the period, after the first observation, while the type was offered."""
    began_at, ended_at = run.regions[key[0]]
    is_observed = life.first_observed is not None and life.first_observed <= ended_at
    is_gone = life.retired_at is not None and life.retired_at <= ended_at
    return chosen.period_from <= began_at < chosen.period_to and is_observed and not is_gone


def change_bounds(world: World, chosen: Parameters) -> Rows:
    return [
        {"change_id": entry.change_id, "kind": entry.kind, "instance_type": entry.key[1]}
        | {"image_id": entry.row[0] if entry.row else None}
        | {"not_before": _not_before(world, entry), "not_after": entry.detected_at}
        for entry in world.changes
        if entry.key[0] == chosen.region and entry.recorded_at >= chosen.period_from
    ]


def _not_before(world: World, entry: Change) -> Within:
    """Return the last moment at which what went was there, or what came was not."""
    if entry.last_seen_at:
        return exactly(entry.last_seen_at)
    region_id = entry.key[0]
    before = [run for run in _whole_runs(world, region_id) if run.run_id < entry.run_id]
    is_type = entry.kind == "type_added"
    seen = [run for run in before if (region_id in run.listed if is_type else entry.key in run.observed)]
    # The run in which a type returned and did not answer reads as if it had observed the target: see _is_known.
    later = [run for run in before if seen and not is_type and run.run_id > seen[-1].run_id]
    seeming = [run for run in later if entry.key in world.lives and _is_known(run, entry.key, world.lives[entry.key])]
    if seen:
        return Within(tuple(run.regions[region_id] for run in (seen[-1], *seeming)))
    # Only runs that asked less have observed the target: any earlier run is before the change, if it says little.
    return Within(tuple(run.regions[region_id] for run in before), may_be_none=True)


def feed(world: World, chosen: Parameters) -> Rows:
    return [
        {"change_id": entry.change_id, "kind": entry.kind, "region_id": entry.key[0], "instance_type": entry.key[1]}
        | {"image_id": entry.row[0] if entry.row else None}
        | {"last_seen_at": entry.last_seen_at, "detected_at": entry.detected_at}
        for entry in world.changes
        if entry.change_id > chosen.change_id
    ]


def unknown_now(world: World, chosen: Parameters) -> Rows:
    return [
        {"region_id": key[0], "instance_type": key[1], "unknown_since": gap.since}
        | {"error_code": gap.code, "error_message": gap.message}
        for key, life in world.lives.items()
        for gap in life.gaps
        if gap.until is None and life.retired_at is None
    ]


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement must answer, and the columns that its rows are in the order of."""

    answer: Callable[[World, Parameters], Rows]
    order: tuple[str, ...]


STATEMENTS = {
    "What is available now": Statement(available_now, ("os_tag", "image_id")),
    "What was available at a time": Statement(available_then, ("os_tag", "image_id")),
    "What was available in a whole region": Statement(region_then, ("os_tag", "image_id")),
    "Was that known?": Statement(unknown_then, ("instance_type",)),
    "The life line of an image": Statement(image_life, ("region_id", "instance_type", "valid_from")),
    "The life line of an instance type": Statement(type_life, ("valid_from", "os_tag", "image_id")),
    "The difference of a region": Statement(region_difference, ("instance_type", "kind")),
    "Which instance types support all": Statement(supporting_all, ("region_id", "instance_type")),
    "Which images of a region vanished": Statement(
        vanished_soon, ("valid_from", "instance_type", "os_tag", "image_id")
    ),
    "How well was a region covered": Statement(coverage, ("instance_type",)),
    "Between which two moments": Statement(change_bounds, ("change_id",)),
    "What changed since a script last asked": Statement(feed, ("change_id",)),
    "Which targets are not known": Statement(unknown_now, ("unknown_since", "region_id", "instance_type")),
}

LONGEST = "Which images of a region live longest"
"""The one statement whose answer moves with the time of asking. No history of the tests reaches its limit."""


def longest_problem(world: World, chosen: Parameters, answered: Rows) -> str | None:
    """Return how the longest lives are wrong, with a minute's tolerance: those of now grow while they are asked for."""
    lives: dict[Row, float] = {}
    for entry in world.intervals:
        if entry.key[0] == chosen.region:
            lives[entry.row] = max(lives.get(entry.row, 0), _days(entry, chosen.asked_at))
    expected = sorted((row[1], row[0], days) for row, days in lives.items())
    found = sorted((row["os_tag"], row["image_id"], row["days"]) for row in answered)
    days = [row["days"] for row in answered]
    is_same = [entry[:2] for entry in found] == [entry[:2] for entry in expected]
    is_near = all(
        abs(one[2] - other[2]) < 60 / DAY.total_seconds() for one, other in zip(found, expected, strict=False)
    )
    is_right = is_same and is_near and days == sorted(days, reverse=True)
    return None if is_right else f"{answered} instead of {expected}"
