"""The page of an instance type: how it stands in each region, what it has, its life line."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial

from sync.render import Row, told_names
from sync.render import identity_of as identity
from sync.store.groups import find_run_ids, list_change_groups
from sync.store.history import list_gaps
from sync.store.snapshot import list_images_at
from sync.store.whereabouts import find_launches, list_statuses
from sync.timeline import Timeline
from sync.web.life import PARAMETERS, find_life_line, following_of, page_of, shown_of
from sync.web.pages.image import history_rows
from sync.web.visit import Answer, Page, Visit
from sync.web.words import told_changes

RUNS_WITH_CHANGES = 5
GAPS_SHOWN = 20
TYPES_SHOWN = 200  # links to the types that a glob matches
OPEN_SECTIONS = 1  # regions whose images are unfolded at once

NOTHING: Row = {"targets": [], "images": [], "history": [], "changes": [], "gaps": [], "page": 1, "pages": 1}


@dataclass(frozen=True, slots=True)
class Stand:
    """An instance type in one region, as asked with one BaseOsTag or none."""

    status: Row
    """Its row of ``target_status``."""
    state: str
    """``available``, ``unknown``, ``retired``."""
    launched_at: datetime | None
    images: Sequence["Offer"]
    """Sorted by name; of an unknown type what it had when last observed."""


@dataclass(frozen=True, slots=True, order=True)
class Offer:
    """An image of the type, as the page shows it."""

    name: str
    image_id: str
    asked: str
    """By what the page of the image is asked."""
    since: str
    missing_since: str


def answer(visit: Visit) -> Answer:
    """Return what is known of the instance type that the address names."""
    connection, wanted = visit.connection, visit.wanted
    if not wanted.instance_types:
        return Answer(lambda: NOTHING, shown={"asked": "", "names": []})
    statuses = list_statuses(connection, wanted)
    names = sorted({row["instance_type"] for row in statuses})
    shown = {"asked": ", ".join(wanted.instance_types), "names": names, "types_shown": TYPES_SHOWN}
    if len(names) != 1:
        return Answer(lambda: {**NOTHING, "targets": statuses}, shown=shown)
    images = [row for row in list_images_at(connection, visit.now, wanted) if row["image_id"] is not None]
    gaps = sorted(list_gaps(connection, wanted), key=lambda row: row["gap_from"], reverse=True)
    timeline = find_life_line(visit, wanted)
    changes = list_change_groups(connection, wanted, find_run_ids(connection, wanted, RUNS_WITH_CHANGES))
    stands = _stands(statuses, images, find_launches(connection, wanted), visit)
    shown |= {
        "stands": stands,
        "open_sections": len(stands) <= OPEN_SECTIONS,
        "gaps": gaps[:GAPS_SHOWN],
        "more_gaps": max(len(gaps) - GAPS_SHOWN, 0),
        "batches": told_changes(changes),
        **shown_of(visit, timeline),
    }
    return Answer(
        partial(_row, statuses, images, gaps, timeline, changes), shown=shown, following=following_of(visit, timeline)
    )


def _row(
    statuses: Sequence[Row], images: Sequence[Row], gaps: Sequence[Row], timeline: Timeline, changes: Sequence[Row]
) -> Row:
    return {
        "targets": list(statuses),
        "images": list(images),
        "history": list(history_rows(timeline)),
        "changes": list(changes),
        "gaps": list(gaps),
        **page_of(timeline),
    }


def _stands(
    statuses: Iterable[Row], images: Iterable[Row], launches: dict[tuple[str, str], datetime], visit: Visit
) -> list[Stand]:
    """Return how the type stands, region by region; what was asked with a BaseOsTag behind what was asked without."""
    of_target: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in images:
        of_target[row["region_id"], row["base_os_tag_filter"]].append(row)
    show = lru_cache(maxsize=None)(visit.show)  # the thousands of images of all regions share a few times
    return [
        Stand(
            status,
            state_of(status),
            launches.get((status["region_id"], status["instance_type"])),
            _offers(of_target[status["region_id"], status["base_os_tag_filter"]], show),
        )
        for status in statuses
    ]


def _offers(rows: Sequence[Row], show: Callable[[datetime | None], str]) -> list[Offer]:
    names = told_names({identity(row) for row in rows})
    return sorted(
        Offer(
            names[identity(row)],
            row["image_id"],
            row["image_id"] or row["os_tag"] or names[identity(row)],
            ("at least since " if row["from_baseline"] else "") + show(row["available_since"]),
            show(row["missing_since"]),
        )
        for row in rows
    )


def state_of(status: Row) -> str:
    """Return the state that a row of ``target_status`` means."""
    if status["retired_at"] is not None:
        return "retired"
    if status["unknown_since"] is not None or status["first_observed_at"] is None:
        return "unknown"
    return "available"


PAGE = Page("type", "", ("instance_type", "region", *PARAMETERS), answer)
