"""Rows → tables for people, which group and shorten. Pure."""

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sync.inventory import Target
from sync.render import (
    Grid,
    Moment,
    Row,
    change_lines,
    counted,
    distinct_names,
    identity_of,
    image_name,
    named,
    told_names,
)

WIDTH = 80  # columns of a terminal that nobody has widened


def image_grids(rows: Iterable[Row], show: Moment) -> list[Grid]:
    """Return one table per group of instance types of a region that have the same images in the same state.

    Where they have an image since different times the first and the last of them are shown.
    """
    of_type: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        of_type[row["region_id"], row["instance_type"], row["base_os_tag_filter"]].append(row)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for (region_id, _, tag), images in of_type.items():
        state = images[0]["state"]
        # When an unknown target was observed says how old its images are: types that differ in it stand apart.
        unknown = _unknown(images[0], show) if state == "unknown" else ""
        same = tuple(sorted((*identity_of(row), row["missing_since"] is not None) for row in images))
        groups[region_id, state, tag, unknown, same] += images
    return [_image_grid(group, show) for _, group in sorted(groups.items(), key=lambda item: item[0][:2])]


def _image_grid(rows: Sequence[Row], show: Moment) -> Grid:
    region_id, tag, state = (rows[0][name] for name in ("region_id", "base_os_tag_filter", "state"))
    is_known = state != "unknown"
    observed = f"observed {show(min(row['observed_at'] for row in rows))}" if is_known else _unknown(rows[0], show)
    of_tag = f" with BaseOsTag {tag}" if tag else ""
    types = {row["instance_type"] for row in rows}
    images: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["image_id"] is not None:
            images[identity_of(row)].append(row)
    lines = [_image_line(same, show) for same in images.values()]
    return Grid(f"{region_id}  {named(types)}{of_tag}  ({observed})", ("since", "image"), lines)


def _unknown(row: Row, show: Moment) -> str:
    """Return what is known of a target that was not observed at a time: the observations around it."""
    before, after = row["observed_at"], row["next_observed_at"]
    if before is None:
        return f"UNKNOWN until {show(after)}" if after else "UNKNOWN, never observed"
    return f"UNKNOWN since {show(before)}, " + (f"observed again {show(after)}" if after else "not observed again")


def _image_line(rows: Sequence[Row], show: Moment) -> tuple[str, ...]:
    missed = [row["missing_since"] for row in rows if row["missing_since"]]
    note = f"\nmissing since {show(min(missed))}, not believed yet" if missed else ""
    moments = [row["available_since"] for row in rows]
    first, last = min(moments), max(moments)
    since = show(first) if show(first) == show(last) else f"{show(first)} …\n{show(last)}"
    return _or_earlier(since, is_baseline=any(row["from_baseline"] for row in rows)), _image_cell(rows[0]) + note


def _image_cell(row: Row) -> str:
    return f"{image_name(row)}\n{row['image_id']}" if row["image_id"] else image_name(row)


def _or_earlier(since: str, *, is_baseline: bool) -> str:
    """Return a beginning; what the first observation of a target found may be older than that."""
    return f"{since}\nor earlier" if is_baseline else since


def change_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return the changes grouped by run, region, kind and image."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["run_id"], row["region_id"], row["kind"], identity_of(row)].append(row)
    lines = [
        (
            show(min(row["detected_at"] for row in group)),
            group[0]["kind"],
            group[0]["region_id"],
            "" if group[0]["image_id"] is None else _image_cell(group[0]),
            named({row["instance_type"] for row in group}),
        )
        for group in groups.values()
    ]
    return Grid("", ("detected", "kind", "region", "image", "instance types"), lines)


def followed_lines(rows: Iterable[Row], show: Moment) -> list[str]:
    """Return changes as they come: the time at which they were recorded before each line."""
    batches: dict[datetime, list[Row]] = defaultdict(list)
    for row in rows:
        batches[row["recorded_at"]].append(row)
    lines = [f"{show(moment)} {line}" for moment, batch in batches.items() for line in change_lines(batch)]
    return [_wrapped(line) for line in lines]


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


RunStart = Callable[[datetime | None], datetime | None]
"""Gives the beginning of the run that recorded a time."""

Unknown = Mapping[Target, datetime]
"""Since when targets are unknown that are not observed at the moment."""


def image_life_grids(rows: Iterable[Row], show: Moment, run_start_of: RunStart, unknown: Unknown) -> list[Grid]:
    """Return one table per image: where and from when to when it was available.

    Instance types whose spans began and ended in the same runs stand in one line.
    """
    images: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        images[identity_of(row)].append(row)
    names = distinct_names(images)
    return [
        Grid(
            _with_id(names[identity], group[0]["image_id"]),
            ("region", "from", "to", "instance types"),
            [
                (same[0]["region_id"], *_span(same, show, unknown), named({row["instance_type"] for row in same}))
                for same in sorted(_same_spans(group, run_start_of, unknown, "region_id"), key=_begin_in_region)
            ],
        )
        for identity, group in sorted(images.items())
    ]


def _with_id(name: str, image_id: str) -> str:
    return name if image_id in name else f"{name}  {image_id}"


def type_life_grids(
    rows: Iterable[Row], show: Moment, run_start_of: RunStart, unknown: Unknown, gaps: Iterable[Row]
) -> list[Grid]:
    """Return one table per region and instance type: its images and the times without observation, as they came."""
    lines: dict[tuple[str, ...], list[tuple[datetime, tuple[str, ...]]]] = defaultdict(list)
    for same in _same_spans(rows, run_start_of, unknown, *_PLACE, "image_id", "os_tag", "os_name"):
        place, begin = _begin_of(same)
        lines[place].append((begin, (*_span(same, show, unknown), _image_cell(same[0]))))
    for gap in gaps:
        place = tuple(gap[name] for name in _PLACE)
        end = show(gap["gap_to"]) if gap["gap_to"] else "still so"
        if place in lines:
            lines[place].append((gap["gap_from"], (show(gap["gap_from"]), end, f"UNKNOWN: {gap['error_code']}")))
    return [
        Grid(
            "  ".join(part for part in place if part),
            ("from", "to", "image"),
            [cells for _, cells in sorted(lines[place], key=itemgetter(0))],
        )
        for place in sorted(lines)
    ]


_PLACE = ("region_id", "instance_type", "base_os_tag_filter")


def _begin_of(rows: Sequence[Row]) -> tuple[tuple[str, ...], datetime]:
    """Return the target of rows, and when the first of their spans began."""
    return tuple(rows[0][name] for name in _PLACE), min(row["valid_from"] for row in rows)


def _begin_in_region(rows: Sequence[Row]) -> tuple[str, datetime]:
    return rows[0]["region_id"], min(row["valid_from"] for row in rows)


def gap_sentence(gaps: Sequence[Row]) -> str:
    """Return that instance types were not observed at times, where the rows do not show it."""
    types = {(gap["region_id"], gap["instance_type"]) for gap in gaps}
    count = counted(len(types), "instance type")
    return f"{count} had times of no observation: see the view observation_gaps"


def _same_spans(rows: Iterable[Row], run_start_of: RunStart, unknown: Unknown, *names: str) -> list[list[Row]]:
    """Return the rows grouped by the named columns and by the runs in which their spans began and ended."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        span = run_start_of(row["valid_from"]), run_start_of(row["valid_to"]), _unknown_since(row, unknown)
        groups[*(row[name] for name in names), row["from_baseline"], *span].append(row)
    return list(groups.values())


def _unknown_since(row: Row, unknown: Unknown) -> datetime | None:
    target = Target(row["region_id"], row["instance_type"], row["base_os_tag_filter"])
    return None if row["valid_to"] else unknown.get(target)


def _span(rows: Sequence[Row], show: Moment, unknown: Unknown) -> tuple[str, str]:
    first = min(rows, key=lambda row: row["valid_from"])
    ends = [row["valid_to"] for row in rows if row["valid_to"]]
    since = _unknown_since(rows[0], unknown)
    now = f"unknown since\n{show(since)}" if since else "still available"
    until = show(max(ends)) if ends else now
    return _or_earlier(show(first["valid_from"]), is_baseline=first["from_baseline"]), until


def compare_grid(rows: Iterable[Row], title: str, labels: Mapping[str, str]) -> Grid:
    """Return a comparison grouped by region, image and kind; ``labels`` say what each kind means in it."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        kind = row["unknown_side"] or row["kind"]
        groups[row["region_id"], COMPARE_ORDER.index(kind), identity_of(row)].append(row)
    lines = [
        (
            labels[COMPARE_ORDER[order]],
            region_id,
            "" if group[0]["image_id"] is None else _image_cell(group[0]),
            named({row["instance_type"] for row in group}),
        )
        for (region_id, order, _), group in sorted(groups.items())
    ]
    return Grid(title, ("difference", "region", "image", "instance types"), lines, WRAPPING_COMPARE)


COMPARE_ORDER = ("removed", "changed", "added", "before", "after", "both")
"""The kinds of differences, and the unknown sides, as people should read of them."""

WRAPPING_COMPARE = ("difference", "image", "instance types")


_COUNT_HEADS = ("s", "status", "ok", "failed", "+", "-", "~", "held", "error")
_COUNTS = ("targets_ok", "targets_failed", "images_added", "images_removed", "images_changed", "removals_held")


def run_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return past runs, one a line."""
    lines = [(str(row["run_id"]), show(row["started_at"]), *_figures(row)) for row in rows]
    return Grid("", ("run", "started", *_COUNT_HEADS), lines)


def _figures(row: Row) -> tuple[str, ...]:
    """Return how a run, or its part in a region, went."""
    seconds = _seconds(row["started_at"], row["finished_at"])
    counts = (str(row[name]) for name in _COUNTS)
    return (seconds, row["status"], *counts, (row["error"] or "").partition(": ")[0])


def _seconds(started_at: datetime, finished_at: datetime | None) -> str:
    return "" if finished_at is None else f"{(finished_at - started_at).total_seconds():.1f}"


def held_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return held removals grouped by region, image and how long they have been missing."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["region_id"], row["kind"], identity_of(row), row["missed_runs"]].append(row)
    names = told_names({key[2] for key in groups})
    lines = [
        (
            group[0]["region_id"],
            "whole instance type" if group[0]["kind"] == "type_retired" else names[identity_of(group[0])],
            named({row["instance_type"] for row in group}),
            show(min(row["first_missed_at"] for row in group)),
            str(group[0]["missed_runs"]),
        )
        for group in groups.values()
    ]
    return Grid("", ("region", "image", "instance types", "missing since", "runs"), lines)


def run_detail_grids(run: Row, regions: Sequence[Row], failures: Sequence[Row], show: Moment) -> list[Grid]:
    """Return one run with its regions and what it could not observe, grouped by cause."""
    of_region = Grid("regions", ("region", *_COUNT_HEADS), [(row["region_id"], *_figures(row)) for row in regions])
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in failures:
        groups[row["region_id"], row["code"], row["message"], show(row["unknown_since"])].append(row)
    lines = [
        (region, named({row["instance_type"] or "discovery" for row in group}), since, f"{code}: {message}")
        for (region, code, message, since), group in groups.items()
    ]
    of_cause = Grid("not observed", ("region", "instance types", "unknown since", "cause"), lines, WRAPPING_CAUSES)
    return [run_grid([run], show), *([of_region] if regions else []), *([of_cause] if lines else [])]


WRAPPING_CAUSES = ("instance types", "cause")
