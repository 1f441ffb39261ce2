"""Rows → tables for people, JSON, JSON lines and CSV for programs. Pure.

Only tables group; the other formats give every row with every column.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sync.inventory import IMAGE_FIELDS

Row = Mapping[str, Any]
Moment = Callable[[datetime | None], str]
"""How a table shows a time."""

NAMES_SHOWN = 4  # instance types named in one cell; with 80 columns more would leave no room for the image


def to_json(rows: Iterable[Row]) -> str:
    """Return the rows as one JSON array, an object a line."""
    lines = ",\n".join(json.dumps(_plain(row), ensure_ascii=False) for row in rows)
    return f"[\n{lines}\n]" if lines else "[]"


def to_jsonl(rows: Iterable[Row]) -> str:
    """Return the rows as JSON lines."""
    return "\n".join(json.dumps(_plain(row), ensure_ascii=False) for row in rows)


def to_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Return the rows as CSV with a header line; times and lists as in JSON, empty for nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
    return text.getvalue().rstrip("\n")


def render_rows(rows: Sequence[Row], columns: Sequence[str], form: str) -> str:
    """Return the rows in one of the formats for programs."""
    if form == "csv":
        return to_csv(rows, columns)
    return to_json(rows) if form == "json" else to_jsonl(rows)


def _plain(row: Row) -> dict[str, Any]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in row.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return iso(value) if isinstance(value, datetime) else value


def iso(moment: datetime) -> str:
    """Return a time as programs read it: ``2026-11-22T14:30:00.123Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to show: a title line, column heads, rows of texts; columns in ``wrapping`` may be broken."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    wrapping: tuple[str, ...] = ("image", "instance types", "error")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 image``, ``2 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def named(names: Iterable[str], noun: str = "type") -> str:
    """Return a few names, or their number and the first ones."""
    ordered = sorted(names)
    if len(ordered) <= NAMES_SHOWN:
        return ", ".join(ordered)
    return f"{counted(len(ordered), noun)}: {', '.join(ordered[: NAMES_SHOWN - 1])}, …"


def image_name(row: Row) -> str:
    """Return what people call an image: its English name, else its OsTag, else its id."""
    return row["os_name_en"] or row["os_name"] or row["os_tag"] or row["image_id"] or "(no image)"


def image_grids(rows: Iterable[Row], show: Moment) -> list[Grid]:
    """Return one table per group of instance types of a region that have the same images in the same state.

    Where they have an image since different times the first and the last of them are shown.
    """
    of_type: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        of_type[row["region_id"], row["instance_type"], row["base_os_tag_filter"]].append(row)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for (region_id, _, tag), images in of_type.items():
        state, observed_at = images[0]["state"], images[0]["observed_at"]
        # When an unknown target was observed last says how old its images are: types that differ in it stand apart.
        last = show(observed_at) if state == "unknown" else ""
        same = tuple(sorted((*_identity(row), row["missing_since"] is not None) for row in images))
        groups[region_id, state, tag, last, same] += images
    return [_image_grid(group, show) for _, group in sorted(groups.items(), key=lambda item: item[0][:2])]


def _identity(row: Row) -> tuple[str, ...]:
    return tuple(row[name] or "" for name in IMAGE_FIELDS)


def _image_grid(rows: Sequence[Row], show: Moment) -> Grid:
    region_id, tag, state = (rows[0][name] for name in ("region_id", "base_os_tag_filter", "state"))
    moments = [row["observed_at"] for row in rows if row["observed_at"]]
    observed = f"observed {show(min(moments))}" if moments else "never observed before"
    if state == "unknown":
        observed = f"UNKNOWN, last {observed}" if moments else f"UNKNOWN, {observed}"
    of_tag = f" with BaseOsTag {tag}" if tag else ""
    types = {row["instance_type"] for row in rows}
    images: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["image_id"] is not None:
            images[_identity(row)].append(row)
    lines = [_image_line(same, show) for same in images.values()]
    return Grid(f"{region_id}  {named(types)}{of_tag}  ({observed})", ("since", "image"), lines)


def _image_line(rows: Sequence[Row], show: Moment) -> tuple[str, ...]:
    missed = [row["missing_since"] for row in rows if row["missing_since"]]
    note = f"\nmissing since {show(min(missed))}, not believed yet" if missed else ""
    moments = [row["available_since"] for row in rows]
    first, last = min(moments), max(moments)
    since = show(first) if show(first) == show(last) else f"{show(first)}\nto {show(last)}"
    return _or_earlier(since, is_baseline=any(row["from_baseline"] for row in rows)), _image_cell(rows[0]) + note


def _image_cell(row: Row) -> str:
    return f"{image_name(row)}\n{row['image_id']}" if row["image_id"] else image_name(row)


def _or_earlier(since: str, *, is_baseline: bool) -> str:
    """Return a beginning; what the first observation of a target found may be older than that."""
    return f"{since}\nor earlier" if is_baseline else since


SIGNS = {"added": "+", "removed": "-", "changed": "~", "type_added": "+", "type_retired": "-"}
WORDS = {
    "added": "added to",
    "removed": "removed from",
    "changed": "changed on",
    "type_added": "instance type launched:",
    "type_retired": "instance type retired:",
}


def change_lines(rows: Iterable[Row]) -> list[str]:
    """Return what changed, grouped as people think: one line per kind, image and region, with the instance types."""
    groups: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        name = "" if row["kind"].startswith("type_") else image_name(row)
        groups[row["region_id"], row["kind"], name, row["image_id"] or ""].add(row["instance_type"])
    return [
        _change_line(region_id, kind, name, types)
        for (region_id, kind, name, _), types in sorted(groups.items(), key=lambda item: item[0])
    ]


def _change_line(region_id: str, kind: str, name: str, types: Iterable[str]) -> str:
    subject = f"{name} {WORDS[kind]}" if name else WORDS[kind]
    return f"{SIGNS[kind]} {region_id}: {subject} {named(types)}"


TOLD_ORDER = ("removed", "type_retired", "changed", "added", "type_added")
"""The kinds of changes as people should hear of them: what they may miss first."""


def told_lines(rows: Iterable[Row]) -> list[str]:
    """Return what changed as one tells it: ``CentOS 7.6 64 bit removed from 34 instance types in cn-hangzhou``."""
    groups: dict[tuple[int, str, tuple[str, ...]], set[str]] = defaultdict(set)
    for row in rows:
        groups[TOLD_ORDER.index(row["kind"]), row["region_id"], _identity(row)].add(row["instance_type"])
    names = _told_names({identity for _, _, identity in groups})
    ordered = sorted(groups.items(), key=lambda item: (*item[0][:2], names[item[0][2]]))
    return [_told_line(TOLD_ORDER[kind], region, names[image], types) for (kind, region, image), types in ordered]


def _told_line(kind: str, region_id: str, name: str, types: Collection[str]) -> str:
    if kind in {"type_added", "type_retired"}:
        word = "launched" if kind == "type_added" else "retired"
        noun = "Instance type" if len(types) == 1 else f"{len(types):,} instance types"
        return f"{noun} {word} in {region_id}: {named(types)}"
    return f"{name} {WORDS[kind]} {_told_types(types)} in {region_id}"


def _told_types(types: Collection[str]) -> str:
    return next(iter(types)) if len(types) == 1 else f"{len(types):,} instance types"


def _told_names(identities: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return what to call each image; where two have the same name their ids stand beside it."""
    named_alike: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for identity in identities:
        named_alike[image_name(dict(zip(IMAGE_FIELDS, identity, strict=True)))].append(identity)
    return {
        identity: name if len(alike) == 1 else f"{name} ({identity[0]})"
        for name, alike in named_alike.items()
        for identity in alike
    }


def held_lines(rows: Iterable[Row]) -> list[str]:
    """Return held removals as one tells them: ``CentOS 7.6 64 bit missing from 34 instance types``."""
    images: dict[tuple[str, ...], set[str]] = defaultdict(set)
    gone: set[str] = set()
    for row in rows:
        of = gone if row["kind"] == "type_retired" else images[_identity(row)]
        of.add(row["instance_type"])
    names = _told_names(images)
    lines = sorted(f"{names[identity]} missing from {_told_types(types)}" for identity, types in images.items())
    return [f"no longer listed: {named(gone)}", *lines] if gone else lines


def change_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return the changes grouped by run, region, kind and image."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["run_id"], row["region_id"], row["kind"], _identity(row)].append(row)
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


RunStart = Callable[[datetime | None], datetime | None]
"""Gives the beginning of the run that recorded a time."""


def image_life_grids(rows: Iterable[Row], show: Moment, run_start_of: RunStart) -> list[Grid]:
    """Return one table per image: where and from when to when it was available.

    Instance types whose spans began and ended in the same runs stand in one line.
    """
    images: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        images[_identity(row)].append(row)
    return [
        Grid(
            _image_cell(group[0]).replace("\n", "  "),
            ("region", "from", "to", "instance types"),
            [
                (same[0]["region_id"], *_span(same, show), named({row["instance_type"] for row in same}))
                for same in _same_spans(group, run_start_of, "region_id")
            ],
        )
        for _, group in sorted(images.items())
    ]


def type_life_grids(rows: Iterable[Row], show: Moment, run_start_of: RunStart) -> list[Grid]:
    """Return one table per region and instance type: its images, from when to when."""
    places: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        places[row["region_id"], row["instance_type"], row["base_os_tag_filter"]].append(row)
    return [
        Grid(
            "  ".join(part for part in place if part),
            ("from", "to", "image"),
            [
                (*_span(same, show), _image_cell(same[0]))
                for same in _same_spans(group, run_start_of, "image_id", "os_tag", "os_name")
            ],
        )
        for place, group in sorted(places.items())
    ]


def _same_spans(rows: Iterable[Row], run_start_of: RunStart, *names: str) -> list[list[Row]]:
    """Return the rows grouped by the named columns and by the runs in which their spans began and ended."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        span = run_start_of(row["valid_from"]), run_start_of(row["valid_to"])
        groups[*(row[name] for name in names), row["from_baseline"], *span].append(row)
    return list(groups.values())


def _span(rows: Sequence[Row], show: Moment) -> tuple[str, str]:
    first = min(rows, key=lambda row: row["valid_from"])
    ends = [row["valid_to"] for row in rows if row["valid_to"]]
    until = show(max(ends)) if ends else "still available"
    return _or_earlier(show(first["valid_from"]), is_baseline=first["from_baseline"]), until


def run_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return past runs, one a line."""
    columns = ("run", "started", "s", "status", "ok", "failed", "+", "-", "~", "held", "error")
    lines = [
        (
            str(row["run_id"]),
            show(row["started_at"]),
            _seconds(row["started_at"], row["finished_at"]),
            row["status"],
            *(str(row[name]) for name in ("targets_ok", "targets_failed", "images_added", "images_removed")),
            *(str(row[name]) for name in ("images_changed", "removals_held")),
            (row["error"] or "").partition(": ")[0],
        )
        for row in rows
    ]
    return Grid("", columns, lines)


def _seconds(started_at: datetime, finished_at: datetime | None) -> str:
    return "" if finished_at is None else f"{(finished_at - started_at).total_seconds():.1f}"


def held_grid(rows: Iterable[Row], show: Moment) -> Grid:
    """Return held removals grouped by region, image and how long they have been missing."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["region_id"], row["kind"], _identity(row), row["missed_runs"]].append(row)
    names = _told_names({key[2] for key in groups})
    lines = [
        (
            group[0]["region_id"],
            "whole instance type" if group[0]["kind"] == "type_retired" else names[_identity(group[0])],
            named({row["instance_type"] for row in group}),
            show(min(row["first_missed_at"] for row in group)),
            str(group[0]["missed_runs"]),
        )
        for group in groups.values()
    ]
    return Grid("", ("region", "image", "instance types", "missing since", "runs"), lines)


def failure_lines(failures: Iterable[Row]) -> list[str]:
    """Return failures grouped by region and cause, each with the message of its first one."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for failure in failures:
        subject = "targets" if failure["instance_type"] else "discovery"
        groups[failure["region_id"], failure["code"], subject].append(failure)
    lines = []
    for (region_id, code, subject), group in sorted(groups.items()):
        types = named({entry["instance_type"] for entry in group})
        what = f"{types} not observed" if subject == "targets" else f"{subject} failed"
        lines.append(f"! {region_id or 'list of regions'}: {what}: {code}: {group[0]['message']}")
    return lines
