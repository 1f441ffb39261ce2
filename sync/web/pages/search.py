"""The search: images, instance types and regions whose names contain a text."""

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from sync.asking import nearest_names
from sync.inventory import IMAGE_FIELDS, Image
from sync.render import Row, image_name
from sync.store.filters import Filter, is_glob
from sync.store.history import find_image_names, find_images, find_known_names
from sync.web.visit import Answer, Page, Visit

SHOWN = 50  # of each kind; whoever has more than these types more of the name

NEAREST = 5


@dataclass(frozen=True, slots=True)
class Found:
    """What contains a text, all of it, sorted."""

    images: list[Row]
    instance_types: list[str]
    regions: list[str]

    @property
    def more(self) -> dict[str, int]:
        """Return how many are not shown, of those kinds that are not shown whole."""
        counts = {name: len(getattr(self, name)) - SHOWN for name in KINDS}
        return {name: count for name, count in counts.items() if count > 0}


KINDS = ("images", "instance_types", "regions")


def answer(visit: Visit) -> Answer:
    """Return what contains the text of an address."""
    text = visit.one_of("q")
    found = _find(visit.connection, text) if text else Found([], [], [])
    data = {name: getattr(found, name)[:SHOWN] for name in KINDS}
    is_empty = not any(data.values())
    shown = {
        **data,
        "text": text,
        "more": found.more,
        "named": [(image_name(row), row) for row in found.images[:SHOWN]],
        "nearest": _nearest(visit.connection, text) if text and is_empty else [],
    }
    return Answer(lambda: {**data, "more": found.more}, shown=shown)


def _find(connection: Connection, text: str) -> Found:
    pattern = text if is_glob(text) else f"*{text}*"
    images = find_images(connection, Filter(images=(pattern,)))
    regions, types = find_known_names(connection)
    is_like = _matcher(pattern)
    return Found(
        [{name: getattr(entry, name) for name in IMAGE_FIELDS} for entry in sorted(images, key=_order_of)],
        sorted(filter(is_like, types)),
        sorted(filter(is_like, regions)),
    )


def _order_of(entry: Image) -> tuple[str, str, Image]:
    return (entry.os_name_en or entry.os_name or entry.os_tag or entry.image_id).lower(), entry.image_id, entry


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return whether a name is like a pattern with * and ?; letter case does not matter, as in the filters."""
    # fnmatch never goes back behind a star, so that many of them cost no more than one; [ is a letter here.
    expression = re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.IGNORECASE)
    return lambda name: expression.match(name) is not None


def _nearest(connection: Connection, text: str) -> list[str]:
    """Return the names of the history that are most like a text."""
    regions, types = find_known_names(connection)
    return nearest_names(text, {*regions, *types, *find_image_names(connection)}, NEAREST)


PAGE = Page("search", "", ("q",), answer)
