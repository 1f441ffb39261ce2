"""What must hold between the answers themselves, without any model."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from sync.inventory import IMAGE_FIELDS, Image
from sync.store.filters import Filter
from sync.store.history import list_changes, list_intervals
from sync.store.snapshot import list_images_at

Place = tuple[str, str, str]
Offer = dict[Place, set[Image]]


def folded(connection: Connection, moment: datetime) -> Offer:
    """Return what was offered at a time, told from the baselines and the changes alone.

    Instance types that were retired are left out: with what they return is told by no change.
    """
    everything = list_changes(connection, Filter())
    retired = {_place_of(row)[:2] for row in everything if row["kind"] == "type_retired"}
    offer: Offer = {}
    for row in list_intervals(connection, Filter()):
        if row["from_baseline"] and row["valid_from"] <= moment and _place_of(row)[:2] not in retired:
            offer.setdefault(_place_of(row), set()).add(_image_of(row))
    replaced = _replaced(connection)
    for row in sorted(everything, key=lambda row: (row["detected_at"], row["change_id"])):
        place = _place_of(row)
        if row["detected_at"] > moment or place[:2] in retired or row["image_id"] is None:
            continue
        images = offer.setdefault(place, set())
        images ^= {_image_of(row)}
        if row["kind"] == "changed":
            images.remove(replaced[row["change_id"]])
    return {place: images for place, images in offer.items() if images}


def asked(connection: Connection, moment: datetime) -> Offer:
    """Return what ``images`` says was offered at a time, without the instance types that were ever retired."""
    retired = {_place_of(row)[:2] for row in list_changes(connection, Filter(kinds=("type_retired",)))}
    offer: Offer = {}
    for row in list_images_at(connection, moment, Filter()):
        if row["image_id"] is not None and _place_of(row)[:2] not in retired:
            offer.setdefault(_place_of(row), set()).add(_image_of(row))
    return offer


def broken(connection: Connection, moments: list[datetime]) -> Iterator[str]:
    """Yield where the two differ."""
    for moment in moments:
        one, other = folded(connection, moment), asked(connection, moment)
        if one != other:
            yield f"at {moment} the changes say {one} and images says {other}"


def _replaced(connection: Connection) -> dict[int, Image]:
    """Return the row that each ``changed`` replaced, which no view tells."""
    quote = connection.dialect.identifier_preparer.quote
    fields = ", ".join(f"i.{name}" for name in IMAGE_FIELDS)
    query = f"SELECT c.id, {fields} FROM {quote('change')} c JOIN image i ON i.id = c.previous_image_key"
    return {row[0]: Image(*row[1:]) for row in connection.execute(text(query))}


def _place_of(row: dict[str, Any]) -> Place:
    return row["region_id"], row["instance_type"], row["base_os_tag_filter"]


def _image_of(row: dict[str, Any]) -> Image:
    return Image(*(row[name] for name in IMAGE_FIELDS))
