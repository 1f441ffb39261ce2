"""What the pages with a timeline share: the period that an address asks for, the picture, and where it goes on."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sync.errors import ConfigError
from sync.moments import offsets_between
from sync.render import iso
from sync.store.filters import Filter
from sync.store.history import find_first_observation
from sync.timeline import Timeline, find_timeline
from sync.web.figures import image_names, timeline_figure
from sync.web.visit import Visit, address

PARAMETERS = ("since", "until", "page")
DEFAULT_DAYS = 90
RANGES = (("30 days", 30), ("90 days", 90), ("1 year", 365))
MOST_PAGES = 1_000_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""Pictures have a margin before their first time, and zones that are behind UTC; the calendar begins in the year 1."""


def find_life_line(visit: Visit, wanted: Filter) -> Timeline:
    """Return the timeline of what is ``wanted``, in the period of the address; without one in the last 90 days.

    Raises:
        ConfigError: the times are in the wrong order or long ago, or there is no such page.
    """
    until = visit.moment("until") or visit.now
    since = visit.moment("since")
    if min(since or until, until) < EARLIEST:
        raise ConfigError("since and until must not be before 1970, from when there are no images; give a later time")
    since = since or _default_since(find_first_observation(visit.connection), until)
    if since >= until:
        raise ConfigError(f"until ({visit.show(until)}) is not after since ({visit.show(since)}); exchange them")
    return find_timeline(visit.connection, wanted, since, until, visit.number("page", 1, MOST_PAGES))


def _default_since(first: datetime | None, until: datetime) -> datetime:
    """Return where the last days begin; a young history is shown from its first observation."""
    since = until - timedelta(days=DEFAULT_DAYS)
    return first if first and since < first < until else since


def shown_of(visit: Visit, timeline: Timeline) -> dict[str, Any]:
    """Return what the template of a timeline is given."""
    return {
        "timeline": timeline,
        "end": visit.show(timeline.until, with_seconds=True),
        "offsets": offsets_between(timeline.since, timeline.until, visit.settings.zone),
        "figure": timeline_figure(timeline, visit.settings.zone),
        "name_of": image_names({lane.image for lane in timeline.lanes}).__getitem__,
        "ranges": _ranges(visit, timeline),
        "newer": _page_url(visit, timeline, -1),
        "older": _page_url(visit, timeline, +1),
    }


def page_of(timeline: Timeline) -> dict[str, int]:
    """Return which part of the images a twin for programs has, and how many parts there are."""
    return {"page": timeline.page, "pages": timeline.pages}


def following_of(visit: Visit, timeline: Timeline) -> dict[str, str]:
    """Return where the twin for programs goes on."""
    url = _page_url(visit, timeline, +1, ".json")
    return {"next": url} if url else {}


def _page_url(visit: Visit, timeline: Timeline, step: int, suffix: str = "") -> str:
    page = timeline.page + step
    return address(visit.page, suffix, **visit.here(page=page)) if 1 <= page <= timeline.pages else ""


def _ranges(visit: Visit, timeline: Timeline) -> list[tuple[str, str, bool]]:
    """Return words and address of usual periods that end now, and whether it is the one that is shown."""
    first = find_first_observation(visit.connection)
    if first is None:
        return []
    periods = [(words, f"-{days}d", visit.now - timedelta(days=days)) for words, days in RANGES]
    shorter = [period for period in periods if period[2] > first]
    shown = (timeline.since, timeline.until)
    return [
        (words, address(visit.page, **visit.here(since=since, until=None, page=None)), shown == (begin, visit.now))
        for words, since, begin in [*shorter, ("all", iso(first), first)]
    ]
