"""The timeline: a bar per image over time, for a region, an instance type or an OS."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from sync.inventory import IMAGE_FIELDS
from sync.render import named
from sync.store.filters import Filter
from sync.store.history import find_first_observation
from sync.store.spans import image_history_statement
from sync.timeline import Bar, Gap, Timeline
from sync.web.life import PARAMETERS, find_life_line, following_of, page_of, shown_of
from sync.web.visit import Answer, Page, Visit, address

FIELDS = (
    ("region", "region", ""),
    ("instance_type", "instance type", "ecs.c7.*"),
    ("image", "image", "id or name"),
    ("os_tag", "OS tag", "CentOS_7*"),
    ("since", "since", "-90d, 2026-11-22"),
    ("until", "until", "now"),
)


def answer(visit: Visit) -> Answer:
    """Return the timeline of what the address asks for."""
    timeline = find_life_line(visit, visit.scoped)
    statement = statement_of(visit, timeline)
    shown = {
        "heading": _heading(visit.scoped),
        "fields": FIELDS,
        "observed": _observed(timeline, visit),
        "statement": statement,
        "statement_url": address("timeline", ".sql", **visit.here()),
        "nothing": _nothing(visit, timeline),
        **shown_of(visit, timeline),
    }
    following = following_of(visit, timeline)
    return Answer(partial(data_of, timeline), shown=shown, following=following, statement=statement)


def data_of(timeline: Timeline) -> Mapping[str, Any]:
    """Return a timeline as programs read it."""
    return {
        "since": timeline.since,
        "until": timeline.until,
        "observed_until": [
            {"region_id": region_id, "observed_until": moment} for region_id, moment in timeline.observed_until.items()
        ],
        "bars": [_bar_row(bar) for bar in timeline.bars],
        "gaps": [_gap_row(gap) for gap in timeline.gaps],
        **page_of(timeline),
    }


def _bar_row(bar: Bar) -> dict[str, Any]:
    return {
        "region_id": bar.region_id,
        "instance_types": list(bar.instance_types),
        **{name: getattr(bar.image, name) for name in IMAGE_FIELDS},
        "valid_from": bar.valid_from,
        "valid_to": bar.valid_to,
        "from_baseline": bar.from_baseline,
        "base_os_tag_filter": bar.base_os_tag_filter,
        "unknown": [{"gap_from": begin, "gap_to": end} for begin, end in bar.unknown],
    }


def _gap_row(gap: Gap) -> dict[str, Any]:
    return {
        "region_id": gap.region_id,
        "instance_types": list(gap.instance_types),
        "gap_from": gap.gap_from,
        "gap_to": gap.gap_to,
        "error_code": gap.error_code,
        "base_os_tag_filter": gap.base_os_tag_filter,
    }


def statement_of(visit: Visit, timeline: Timeline) -> str:
    """Return the statement that gives the rows of a timeline's bars."""
    images = {(lane.image.os_tag, lane.image.image_id) for lane in timeline.lanes}
    dialect = visit.connection.dialect.name
    return image_history_statement(visit.scoped, sorted(images), (timeline.since, timeline.until), dialect)


def _heading(wanted: Filter) -> str:
    what = _named_or("images", (*wanted.images, *wanted.os_tags))
    on = f" on {', '.join(wanted.instance_types)}" if wanted.instance_types else ""
    regions = tuple(region for region in wanted.region_ids if region != "*")
    where = f" in {', '.join(regions)}" if regions else " in all regions"
    return f"When {what} {'was' if what != 'images' else 'were'} available{on}{where}"


def _named_or(otherwise: str, names: tuple[str, ...]) -> str:
    return named(names) if names else otherwise


def _observed(timeline: Timeline, visit: Visit) -> str:
    if not timeline.observed_until:
        return "Nothing of that has been observed."
    return f"Observed until {visit.show(min(timeline.observed_until.values()))}."


def _nothing(visit: Visit, timeline: Timeline) -> str:
    first = find_first_observation(visit.connection)
    if first is None:
        return "Nothing has been observed yet."
    if timeline.until <= first:
        return f"Nothing was observed in this period; the first observation is of {visit.show(first)}."
    return "No image matches in this period."


PAGE = Page(
    "timeline",
    "Timeline",
    ("region", "instance_type", "image", "os_tag", *PARAMETERS),
    answer,
    has_sql=True,
)
