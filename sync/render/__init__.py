"""Rows → tables for people, JSON, JSON lines and CSV for programs. Pure.

Only tables group; the other formats give every row with every column.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    return "".join(_json_parts([rows])).rstrip("\n")


def _json_parts(pages: Iterable[Iterable[Row]]) -> Iterator[str]:
    opening = "[\n"
    for rows in pages:
        lines = ",\n".join(json.dumps(_plain(row), ensure_ascii=False) for row in rows)
        if lines:
            yield opening + lines
            opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


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
    return "".join(render_pages([rows], columns, form)).removesuffix("\n")


def render_pages(pages: Iterable[Sequence[Row]], columns: Sequence[str], form: str) -> Iterator[str]:
    """Yield the text of rows that come page by page, as they come; put together it is that of all the rows."""
    if form == "json":
        yield from _json_parts(pages)
        return
    if form == "csv":
        yield to_csv([], columns) + "\n"
    for rows in pages:
        if rows:
            yield (to_csv(rows, columns).partition("\n")[2] if form == "csv" else to_jsonl(rows)) + "\n"


def _plain(row: Row) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) if isinstance(entry, Mapping) else entry for entry in value]
    return iso(value) if isinstance(value, datetime) else value


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


def identity_of(row: Row) -> tuple[str, ...]:
    """Return what makes an image itself: its eight fields."""
    return tuple(row[name] or "" for name in IMAGE_FIELDS)


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
        groups[TOLD_ORDER.index(row["kind"]), row["region_id"], identity_of(row)].add(row["instance_type"])
    names = told_names({identity for _, _, identity in groups})
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


def told_names(identities: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return what to call each image; where two have the same name their ids stand beside it."""
    named_alike: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for identity in identities:
        named_alike[image_name(dict(zip(IMAGE_FIELDS, identity, strict=True)))].append(identity)
    return {
        identity: name if len(alike) == 1 else f"{name} ({identity[0]})"
        for name, alike in named_alike.items()
        for identity in alike
    }


def distinct_names(identities: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return what to call each image: its name, with its id, and then the fields that differ, where others share it."""
    alike: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for identity, name in told_names(identities).items():
        alike[name].append(identity)
    return {
        identity: name if len(others) == 1 else f"{name} [{_differing(identity, others)}]"
        for name, others in alike.items()
        for identity in others
    }


def _differing(identity: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(value or "none" for value, *rest in zip(identity, *others, strict=True) if len(set(rest)) > 1)


def held_lines(rows: Iterable[Row]) -> list[str]:
    """Return held removals as one tells them: ``CentOS 7.6 64 bit missing from 34 instance types``."""
    images: dict[tuple[str, ...], set[str]] = defaultdict(set)
    gone: set[str] = set()
    for row in rows:
        of = gone if row["kind"] == "type_retired" else images[identity_of(row)]
        of.add(row["instance_type"])
    names = told_names(images)
    lines = sorted(f"{names[identity]} missing from {_told_types(types)}" for identity, types in images.items())
    return [f"no longer listed: {named(gone)}", *lines] if gone else lines


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
