"""The page of an image, asked for by its id, its tag or its name: what it is, where it is, its life line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

from sync.inventory import IMAGE_FIELDS, Image
from sync.render import Row, image_name
from sync.store.groups import find_run_ids, list_change_groups
from sync.store.history import find_images
from sync.store.whereabouts import Presence, list_presences
from sync.timeline import Timeline
from sync.web.life import PARAMETERS, find_life_line, following_of, page_of, shown_of
from sync.web.visit import Answer, Page, Visit
from sync.web.words import told_changes

IMAGES_SHOWN = 30  # rows of eight fields; a glob may match thousands
NAMES_TOLD = 3
RUNS_WITH_CHANGES = 5

NOTHING: Row = {"images": [], "available": [], "history": [], "changes": [], "page": 1, "pages": 1}


def answer(visit: Visit) -> Answer:
    """Return what is known of the images that the address names."""
    if not visit.wanted.images:
        return Answer(lambda: NOTHING, shown={"images": []})
    connection, wanted = visit.connection, visit.wanted
    images = sorted(find_images(connection, wanted), key=lambda entry: (entry.os_tag, entry))
    presences = list_presences(connection, wanted)
    timeline = find_life_line(visit, wanted)
    changes = list_change_groups(connection, wanted, find_run_ids(connection, wanted, RUNS_WITH_CHANGES))
    shown = {
        "images": images[:IMAGES_SHOWN],
        "more": max(len(images) - IMAGES_SHOWN, 0),
        "fields": IMAGE_FIELDS,
        "heading": _heading(images, wanted.images),
        "presences": presences,
        "summary": _summary(presences),
        "batches": told_changes(changes),
        **shown_of(visit, timeline),
    }
    return Answer(
        partial(_row, images, presences, timeline, changes), shown=shown, following=following_of(visit, timeline)
    )


def _row(images: Iterable[Image], presences: Iterable[Presence], timeline: Timeline, changes: Sequence[Row]) -> Row:
    return {
        "images": [fields_of(entry) for entry in images],
        "available": [asdict(entry) for entry in presences],
        "history": list(history_rows(timeline)),
        "changes": list(changes),
        **page_of(timeline),
    }


def fields_of(image: Image) -> dict[str, str]:
    """Return the eight fields of an image."""
    return {name: getattr(image, name) for name in IMAGE_FIELDS}


def history_rows(timeline: Timeline) -> Iterator[Row]:
    """Yield the rows of ``image_history`` that a timeline shows."""
    for bar in timeline.bars:
        for span in bar.spans:
            yield {
                "region_id": bar.region_id,
                "instance_type": span.instance_type,
                **fields_of(bar.image),
                "valid_from": span.valid_from,
                "valid_to": span.valid_to,
                "from_baseline": bar.from_baseline,
                "base_os_tag_filter": bar.base_os_tag_filter,
            }


def _heading(images: Sequence[Image], asked: Sequence[str]) -> str:
    """Return what people call the images; of many, what was asked for."""
    names = sorted({image_name(fields_of(image)) for image in images})
    if 0 < len(names) <= NAMES_TOLD:
        return ", ".join(names)
    return f"Images that match {', '.join(asked)}"


def _summary(presences: Sequence[Presence]) -> dict[str, int]:
    """Return in how many regions images are, were, or were when last observed."""
    return {
        "available": sum(1 for entry in presences if entry.available_types),
        "unknown": sum(1 for entry in presences if entry.unknown_types and not entry.available_types),
        "gone": sum(1 for entry in presences if entry.available_until),
        "types": sum(entry.available_types for entry in presences),
        "missing": sum(entry.missing_types for entry in presences),
    }


PAGE = Page("image", "", ("image", "region", *PARAMETERS), answer)
