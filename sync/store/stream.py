"""Whole views, page by page: any number of rows in little memory, and in the same order on every database.

A page is what a few instance types, runs or ids have: an index gives it, and Python sorts it by code points, which no
database does by default. So nothing is sorted at large, and no cursor stays open.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from sync.inventory import IMAGE_FIELDS
from sync.store.filters import matching
from sync.store.history import PAGE_CHANGES, Row, columns_of
from sync.store.known import batches_of
from sync.store.schema import change, image, run, target

PAGE_TYPES = 50  # instance types of one region: 20,000 intervals where each image came and went five times
PAGE_IMAGES = 10_000
PAGE_RUNS = 500  # 12,500 rows of region_runs with 25 regions

_PLACE = ("region_id", "instance_type", "base_os_tag_filter")

ORDER: dict[str, tuple[str, ...]] = {
    "available_images": (*_PLACE, *IMAGE_FIELDS),
    "image_history": (*_PLACE, *IMAGE_FIELDS, "valid_from"),
    "image_lifetimes": (*_PLACE, *IMAGE_FIELDS, "valid_from"),
    "target_status": _PLACE,
    "observation_gaps": (*_PLACE, "gap_from"),
    "image_changes": ("change_id",),
    "images": ("image_key",),
    "sync_runs": ("run_id",),
    "region_runs": ("run_id", "region_id"),
}
"""What the rows of each view are sorted by; no two rows of a view are equal in it."""


def stream_view(connection: Connection, view: Table, region_ids: Sequence[str] = ()) -> Iterator[list[Row]]:
    """Yield all rows of a view in its ORDER, a page at a time; no page is empty.

    ``region_ids`` are names or globs, for the views that have a region; the connection gives one moment.
    """
    columns = columns_of(view)
    order = itemgetter(*ORDER[view.name])
    in_regions = matching(view.c.region_id, region_ids) if region_ids else []
    for condition in _pages_of(connection, view, region_ids):
        found = connection.execute(sa.select(view).where(*condition, *in_regions)).all()
        # Not mappings(): they look up each value by its name, which costs more than all the rest.
        rows = [dict(zip(columns, row, strict=True)) for row in found]
        if rows:
            yield sorted(rows, key=order)


def _pages_of(
    connection: Connection, view: Table, region_ids: Sequence[str]
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    if "change_id" in view.c:
        yield from _ranges_of(connection, change.c.id, view.c.change_id, PAGE_CHANGES)
    elif view.name == "images":
        yield from _ranges_of(connection, image.c.id, view.c.image_key, PAGE_IMAGES)
    elif "run_id" in view.c:
        yield from _ranges_of(connection, run.c.id, view.c.run_id, PAGE_RUNS)
    else:
        yield from _places_of(connection, view, region_ids)


def _ranges_of(
    connection: Connection, key: ColumnElement[Any], column: ColumnElement[Any], size: int
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    first, last = connection.execute(sa.select(sa.func.min(key), sa.func.max(key))).one()
    for start in range(first, last + 1, size) if first is not None else ():
        yield column >= start, column < start + size


def _places_of(
    connection: Connection, view: Table, region_ids: Sequence[str]
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    columns = (target.c.region_id, target.c.instance_type)
    places = sa.select(*columns).where(*matching(target.c.region_id, region_ids)).distinct()
    types: dict[str, list[str]] = {}
    for region_id, instance_type in connection.execute(places):
        types.setdefault(region_id, []).append(instance_type)
    for region_id in sorted(types):
        for batch in batches_of(sorted(types[region_id]), PAGE_TYPES):
            yield view.c.region_id == region_id, view.c.instance_type.in_(batch)


def has_region(view: Table) -> bool:
    """Return whether the rows of a view belong to a region."""
    return "region_id" in view.c
