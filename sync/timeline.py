"""What a picture of the history shows: per image and region when it was available, and when nothing was known of it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from operator import attrgetter

from sqlalchemy import Connection

from sync.errors import ConfigError
from sync.inventory import OPEN, Image, Target
from sync.store.absences import Absences, find_absences
from sync.store.filters import Filter
from sync.store.history import list_regions_of
from sync.store.spans import (
    Interval,
    Listed,
    Unobserved,
    find_observed_until,
    list_gaps_within,
    list_images_within,
    list_intervals_within,
    list_run_starts_between,
)

LANES = 40  # on one page: about two screens, and few enough rows to answer at once
LEAST_IMAGES = 4  # on one page of many regions, each of which has a lane for every image

RUN_SPAN = timedelta(hours=1)  # times further apart are of two runs: a region is asked within minutes

Period = tuple[datetime, datetime | None]
"""From when to when; the end is None while it lasts."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One row of ``image_history`` in a bar."""

    instance_type: str
    valid_from: datetime
    valid_to: datetime | None
    """None while the image is available."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The instance types of a region on which an image came and went in the same runs."""

    region_id: str
    image: Image
    base_os_tag_filter: str
    from_baseline: bool
    """Whether the first observation found it: it may be older."""
    spans: tuple[Span, ...]
    """Sorted by instance type; not cut at the period."""
    unknown: tuple[Period, ...]
    """When none of the types was observed, as far as it touches the period."""
    level: int = 0
    """The row of its lane in which it does not lie over another bar."""

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Return the instance types, sorted."""
        return tuple(span.instance_type for span in self.spans)

    @property
    def valid_from(self) -> datetime:
        """Return when the first of its spans began."""
        return min(span.valid_from for span in self.spans)

    @property
    def valid_to(self) -> datetime | None:
        """Return when the last of its spans ended; None while they last."""
        ends = [span.valid_to for span in self.spans if span.valid_to]
        return max(ends) if ends else None


@dataclass(frozen=True, slots=True)
class Lane:
    """One image in one region, with its bars in the order of time."""

    region_id: str
    image: Image
    bars: tuple[Bar, ...]

    @property
    def levels(self) -> int:
        """Return how many rows its bars need."""
        return max(bar.level for bar in self.bars) + 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Instance types of a region that were not observed between the same runs, for the same reason."""

    region_id: str
    instance_types: tuple[str, ...]
    gap_from: datetime
    gap_to: datetime | None
    error_code: str
    base_os_tag_filter: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was available in a period: one page of lanes."""

    since: datetime
    until: datetime
    lanes: tuple[Lane, ...]
    """Sorted by platform, OsTag, ImageId and region."""
    gaps: tuple[Gap, ...]
    """In the order of time. Of one region those of all that was asked for, else those of the types of the lanes."""
    observed_until: dict[str, datetime]
    """The last complete run of each region."""
    page: int
    pages: int
    images: int
    """How many images the period has on all pages."""

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Return the bars of all lanes."""
        return tuple(bar for lane in self.lanes for bar in lane.bars)


def find_timeline(
    connection: Connection, wanted: Filter, since: datetime, until: datetime, page: int = 1, *, lanes: int = LANES
) -> Timeline:
    """Return what a filter had available between two times, about ``lanes`` images and regions a page.

    Raises:
        ConfigError: there is no such page.
    """
    if "*" in wanted.region_ids:  # as no condition at all: databases look at each row to see that it matches
        wanted = replace(wanted, region_ids=())
    regions = list_regions_of(connection, wanted)
    images = list_images_within(connection, wanted, since, until)
    pages = pages_of(images, max(lanes // max(len(regions), 1), min(lanes, LEAST_IMAGES)))
    if page > max(len(pages), 1):
        raise ConfigError(f"page {page} is beyond the last; there {_are(len(pages))}")
    shown = pages[page - 1] if pages else []
    place_of = {entry.key: number for number, entry in enumerate(shown)}
    rows = list_intervals_within(connection, wanted, place_of, since, until)
    gaps = _find_gaps(connection, wanted, rows if len(regions) > 1 or _is_of_images(wanted) else None, (since, until))
    runs = _find_runs(connection, rows, gaps)
    return Timeline(
        since,
        until,
        _lanes_of(rows, place_of, gaps, runs),
        _folded_gaps(gaps, runs),
        find_observed_until(connection, regions),
        page,
        max(len(pages), 1),
        len(images),
    )


def _are(pages: int) -> str:
    return "is only one" if pages <= 1 else f"are {pages}"


def pages_of(images: Iterable[Listed], size: int) -> list[list[Listed]]:
    """Return the images page by page, about ``size`` on each; those with the same OsTag and ImageId stay together."""
    alike: dict[tuple[str, str], list[Listed]] = defaultdict(list)
    for entry in sorted(images, key=attrgetter("platform", "os_tag", "image_id", "key")):
        alike[entry.os_tag, entry.image_id].append(entry)
    pages: list[list[Listed]] = []
    for group in alike.values():
        if not pages or len(pages[-1]) + len(group) > size:
            pages.append([])
        pages[-1] += group
    return pages


class _Runs:
    """Tells whether times of a region were recorded by the same run."""

    def __init__(self, boundaries: dict[str, list[datetime]]) -> None:
        self._boundaries = boundaries

    def number_of(self, region_id: str, moment: datetime | None) -> int | None:
        """Return a number that two times of a region share where one run recorded them."""
        return None if moment is None else bisect_right(self._boundaries[region_id], moment)


def _find_runs(connection: Connection, rows: Iterable[Interval], gaps: Iterable[Unobserved]) -> _Runs:
    moments: dict[str, set[datetime]] = defaultdict(set)
    for row in rows:
        moments[row.target.region_id].update((row.valid_from, row.valid_to or row.valid_from))
    for gap in gaps:
        moments[gap.target.region_id].update((gap.gap_from, gap.gap_to or gap.gap_from))
    boundaries = {}
    for region_id, times in moments.items():
        close = _close_together(sorted(times))
        ranges = [(first, last) for first, last in close if first < last]
        starts = list_run_starts_between(connection, region_id, ranges)
        boundaries[region_id] = sorted([first for first, _ in close] + starts)
    return _Runs(boundaries)


def _close_together(moments: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Return the first and the last of times between which there is no pause longer than a run."""
    found: list[tuple[datetime, datetime]] = []
    for moment in moments:
        if found and moment - found[-1][1] <= RUN_SPAN:
            found[-1] = found[-1][0], moment
        else:
            found.append((moment, moment))
    return found


def _is_of_images(wanted: Filter) -> bool:
    return bool(wanted.images or wanted.os_tags)


def _find_gaps(
    connection: Connection, wanted: Filter, rows: Sequence[Interval] | None, period: tuple[datetime, datetime]
) -> list[Unobserved]:
    """Return the gaps of a filter, or of the targets of some rows, as far as they are in a period."""
    ids = None if rows is None else {row.target_id for row in rows}
    gaps = list_gaps_within(connection, wanted, *period, ids)
    if not gaps:
        return []
    region_ids = tuple(sorted({gap.target.region_id for gap in gaps}))
    return _known_gaps(gaps, find_absences(connection, replace(wanted, region_ids=region_ids)), period)


def _known_gaps(gaps: Iterable[Unobserved], absences: Absences, period: tuple[datetime, datetime]) -> list[Unobserved]:
    """Return the gaps without the times in which their instance type was known to be gone."""
    since, until = period
    found = []
    for gap in gaps:
        pieces = [(gap.gap_from, gap.gap_to or OPEN)]
        for absence in absences.get((gap.target.region_id, gap.target.instance_type), ()):
            pieces = [part for piece in pieces for part in _without(piece, (absence.gone_at, absence.back_at))]
        found += [
            Unobserved(gap.target, begin, None if end == OPEN else end, gap.error_code)
            for begin, end in pieces
            if begin < until and end > since
        ]
    return found


def _without(span: tuple[datetime, datetime], taken: tuple[datetime, datetime]) -> list[tuple[datetime, datetime]]:
    parts = [(span[0], min(span[1], taken[0])), (max(span[0], taken[1]), span[1])]
    return [(begin, end) for begin, end in parts if begin < end]


def _lanes_of(
    rows: Iterable[Interval], place_of: dict[int, int], gaps: Iterable[Unobserved], runs: _Runs
) -> tuple[Lane, ...]:
    of_target: dict[Target, list[tuple[datetime, datetime]]] = defaultdict(list)
    for gap in gaps:
        of_target[gap.target].append((gap.gap_from, gap.gap_to or OPEN))
    groups: dict[tuple[object, ...], list[Interval]] = defaultdict(list)
    for row in rows:
        groups[_bar_key(row, of_target.get(row.target, ()), runs)].append(row)
    lanes: dict[tuple[int, str], list[Bar]] = defaultdict(list)
    for group in groups.values():
        first = group[0]
        lanes[place_of[first.image_key], first.target.region_id].append(_bar_of(group, of_target))
    return tuple(Lane(region_id, bars[0].image, _levelled(bars)) for (_, region_id), bars in sorted(lanes.items()))


def _bar_key(row: Interval, gaps: Sequence[tuple[datetime, datetime]], runs: _Runs) -> tuple[object, ...]:
    """Return what the rows of one bar share; those that are unknown at present stand apart from those that are not."""
    region_id = row.target.region_id
    unknown_since = gaps[-1][0] if gaps and row.valid_to is None and gaps[-1][1] == OPEN else None
    numbers = [runs.number_of(region_id, moment) for moment in (row.valid_from, row.valid_to, unknown_since)]
    return (row.image_key, region_id, row.target.base_os_tag, row.from_baseline, *numbers)


def _bar_of(rows: Sequence[Interval], gaps: Mapping[Target, Sequence[tuple[datetime, datetime]]]) -> Bar:
    target = rows[0].target
    spans = tuple(sorted(Span(row.target.instance_type, row.valid_from, row.valid_to) for row in rows))
    unknown = reduce(_common, (_within(row, gaps.get(row.target, ())) for row in rows))
    return Bar(
        target.region_id,
        rows[0].image,
        target.base_os_tag,
        rows[0].from_baseline,
        spans,
        tuple((begin, None if end == OPEN else end) for begin, end in unknown),
    )


def _within(row: Interval, gaps: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return the parts of gaps that lie in a row's span."""
    ended = row.valid_to or OPEN
    return [
        (max(begin, row.valid_from), min(end, ended)) for begin, end in gaps if begin < ended and end > row.valid_from
    ]


def _common(
    these: Sequence[tuple[datetime, datetime]], those: Sequence[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime]]:
    """Return the spans that lie in both."""
    both = ((max(one[0], other[0]), min(one[1], other[1])) for one in these for other in those)
    return [(begin, end) for begin, end in both if begin < end]


def _levelled(bars: Iterable[Bar]) -> tuple[Bar, ...]:
    """Return bars in the order of time, each on the first level that is free when it begins."""
    ordered = sorted(bars, key=lambda bar: (bar.valid_from, -len(bar.spans), bar.spans))
    levels = _levels((bar.valid_from, bar.valid_to) for bar in ordered)
    return tuple(replace(bar, level=level) for bar, level in zip(ordered, levels, strict=True))


def _levels(periods: Iterable[Period]) -> list[int]:
    """Return a level for each of some periods, which are in the order of time; on one level none overlap."""
    free_at: list[datetime] = []
    levels = []
    for begin, end in periods:
        level = next((level for level, free in enumerate(free_at) if free <= begin), len(free_at))
        free_at[level : level + 1] = [end or OPEN]
        levels.append(level)
    return levels


def _folded_gaps(gaps: Iterable[Unobserved], runs: _Runs) -> tuple[Gap, ...]:
    groups: dict[tuple[object, ...], list[Unobserved]] = defaultdict(list)
    for gap in gaps:
        region_id = gap.target.region_id
        numbers = (runs.number_of(region_id, gap.gap_from), runs.number_of(region_id, gap.gap_to))
        groups[region_id, gap.target.base_os_tag, gap.error_code, numbers].append(gap)
    found = sorted(
        (_gap_of(group) for group in groups.values()), key=lambda gap: (gap.gap_from, gap.region_id, gap.instance_types)
    )
    levels = _levels((gap.gap_from, gap.gap_to) for gap in found)
    return tuple(replace(gap, level=level) for gap, level in zip(found, levels, strict=True))


def _gap_of(gaps: Sequence[Unobserved]) -> Gap:
    ends = [gap.gap_to for gap in gaps if gap.gap_to]
    first = gaps[0].target
    return Gap(
        first.region_id,
        tuple(sorted({gap.target.instance_type for gap in gaps})),
        min(gap.gap_from for gap in gaps),
        max(ends) if ends else None,
        gaps[0].error_code,
        first.base_os_tag,
    )
