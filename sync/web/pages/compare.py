"""The comparison: what differs between two times, two regions or two instance types."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sync.compare import (
    AFTER,
    BEFORE,
    BOTH,
    COMPARE_COLUMNS,
    Comparison,
    Finding,
    find_comparison,
    row_of,
    two_names,
)
from sync.errors import ConfigError
from sync.inventory import ChangeKind, Image
from sync.render import SIGNS, Row, identity_of, told_names
from sync.render.tables import COMPARE_ORDER
from sync.store.filters import Filter
from sync.store.groups import find_first_run_end
from sync.store.history import find_first_observation
from sync.web.visit import Answer, Page, Visit

DEFAULT_SPAN = timedelta(days=7)

LINES_SHOWN = 100  # images of one section; two regions may differ in thousands
NAMES_SHOWN = 50  # instance types that are named below one image; a region has a thousand, and all stand in the CSV

NEITHER = (
    "that is nothing to compare at one time: give two different regions or instance types, which are no globs; "
    "for two times give from and to"
)

HEADINGS = {
    ChangeKind.REMOVED: "Removed",
    ChangeKind.CHANGED: "Changed",
    ChangeKind.ADDED: "Added",
}
"""What the kinds of differences between two times are called."""

MEANINGS = {
    ChangeKind.REMOVED: "There at the first time, not at the second.",
    ChangeKind.CHANGED: "The same image id with other fields; shown as it is at the second time.",
    ChangeKind.ADDED: "Not there at the first time, there at the second.",
}

SIDES = frozenset({BEFORE, AFTER, BOTH})
"""What stands for a kind where one side, or both, were not observed."""

UNKNOWN_MEANING = "Not observed on that side: nothing is said of their images, which is not the same as removed."


@dataclass(frozen=True, slots=True)
class Line:
    """An image, or nothing where a side is unknown, with the instance types that differ in it."""

    row: Row
    name: str
    """What people call the image; empty where a side is unknown."""
    types: Sequence[str]


@dataclass(frozen=True, slots=True)
class Section:
    """All differences of one kind."""

    kind: str
    heading: str
    meaning: str
    lines: Sequence[Line]

    @property
    def sign(self) -> str:
        """Return what stands before each line."""
        return "?" if self.kind in SIDES else SIGNS[self.kind]

    @property
    def has_regions(self) -> bool:
        """Return whether its lines are of several regions."""
        return len({line.row["region_id"] for line in self.lines}) > 1

    @property
    def type_count(self) -> int:
        """Return how many instance types of how many regions differ."""
        return len({(line.row["region_id"], name) for line in self.lines for name in line.types})


def answer(visit: Visit) -> Answer:
    """Return the differences that an address asks for."""
    wanted = _scope_of(visit)
    times, at = _times_of(visit, wanted)
    found = find_comparison(visit.connection, wanted, times, at, visit.now, visit.show)
    first = find_first_observation(visit.connection)
    shown = {
        "found": found,
        "sections": _sections_of(found, is_of_times=bool(times)),
        "too_early": first if first is None or found.earliest < first else None,
        "has_history": first is not None,
        "times": times,
        "at": at,
        "wanted": wanted,
        "lines_shown": LINES_SHOWN,
        "names_shown": NAMES_SHOWN,
    }
    return Answer(lambda: found.rows, COMPARE_COLUMNS, shown)


def _scope_of(visit: Visit) -> Filter:
    """Return the filter; without region and instance type the first region: a comparison reads all of its images."""
    wanted = visit.wanted
    if wanted.region_ids or wanted.instance_types:
        return wanted
    return replace(wanted, region_ids=visit.region_ids[:1])


def _times_of(visit: Visit, wanted: Filter) -> tuple[list[datetime], datetime | None]:
    """Return the two times to compare, or none and the time at which to compare two regions or instance types.

    Raises:
        ConfigError: they are reversed or the same, or it is not clear what to compare.
    """
    start, end, at = visit.moment("from"), visit.moment("to"), visit.moment("at")
    if at and (start or end):
        raise ConfigError("from and to are times of their own; leave out at")
    if not start and not end and (at or _has_pair(wanted)):
        if not _has_pair(wanted):
            raise ConfigError(NEITHER)
        return [], at
    if not start and not end and max(len(visit.parameters.getlist(name)) for name in ("region", "instance_type")) > 1:
        raise ConfigError(NEITHER)
    end = end or visit.now
    start = start or _default_start(visit, end)
    if end == start:
        raise ConfigError("from and to are the same time; give two times")
    if end < start:
        raise ConfigError("from is after to; exchange them")
    return [start, end], None


def _has_pair(wanted: Filter) -> bool:
    return any(two_names(names) for names in (wanted.region_ids, wanted.instance_types))


def _default_start(visit: Visit, end: datetime) -> datetime:
    """Return a week before, or the end of the first run where that is later: before it nearly all is unknown."""
    week_ago = end - DEFAULT_SPAN
    first = find_first_run_end(visit.connection)
    return first if first and week_ago < first < end else week_ago


def _sections_of(found: Comparison, *, is_of_times: bool) -> list[Section]:
    kinds: dict[str, list[Finding]] = defaultdict(list)
    for finding in found.findings:
        kinds[finding.sense].append(finding)
    return [
        Section(
            kind,
            _heading(found.labels[kind], kind, is_of_times=is_of_times),
            UNKNOWN_MEANING if kind in SIDES else MEANINGS[ChangeKind(kind)] if is_of_times else "",
            _lines_of(kinds[kind]),
        )
        for kind in COMPARE_ORDER
        if kind in kinds
    ]


def _heading(label: str, kind: str, *, is_of_times: bool) -> str:
    """Return the command line's label as a heading; a kind of change alone gets a capital."""
    return HEADINGS[ChangeKind(kind)] if is_of_times and kind in set(ChangeKind) else label[:1].upper() + label[1:]


def _lines_of(findings: Iterable[Finding]) -> list[Line]:
    """Return findings of one kind by region and image."""
    rows: dict[tuple[str, Image | None], Row] = {}
    types: dict[tuple[str, Image | None], set[str]] = defaultdict(set)
    for finding in findings:
        first = finding.places[0]
        key = first.target.region_id, finding.image
        rows.setdefault(key, row_of(finding, first))
        types[key].update(place.target.instance_type for place in finding.places)
    names = told_names({identity_of(row) for row in rows.values()})
    lines = [
        Line(row, "" if key[1] is None else names[identity_of(row)], sorted(types[key])) for key, row in rows.items()
    ]
    return sorted(lines, key=lambda line: (line.row["region_id"], line.name.lower(), line.types))


PAGE = Page(
    "compare",
    "Compare",
    ("from", "to", "at", "region", "instance_type", "image", "os_tag"),
    answer,
    is_rows=True,
)
