"""What to show: the filters of every question as conditions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from sync.store.schema import target

NAME_COLUMNS = ("image_id", "os_tag", "os_name", "os_name_en")
"""What people call an image."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty parts show everything. Instance types, images and tags may be globs."""

    region_ids: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """Matched against ImageId, OsTag and both display names."""
    kinds: tuple[str, ...] = ()
    os_tags: tuple[str, ...] = ()


def matching(column: ColumnElement[str], patterns: Sequence[str]) -> list[ColumnElement[bool]]:
    """Return the condition that a column equals one of the patterns; none where there are no patterns.

    With * and ? as wildcards letter case does not matter, as in what people remember of a name.
    """
    if not patterns:
        return []
    return [sa.or_(*(_like(column, pattern) for pattern in patterns))]


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    return column.ilike(like_of(pattern), escape="!") if is_glob(pattern) else column == pattern


def is_glob(name: str) -> bool:
    """Return whether a name has wildcards."""
    return "*" in name or "?" in name


def like_of(pattern: str) -> str:
    """Return a glob as a pattern of LIKE whose escape character is ``!``."""
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return escaped.replace("*", "%").replace("?", "_")


def places_wanted(columns: Any, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on region and instance type; ``columns`` are those of a view or of the targets."""
    return matching(columns.region_id, wanted.region_ids) + matching(columns.instance_type, wanted.instance_types)


def targets_wanted(wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on a target."""
    return places_wanted(target.c, wanted)


def images_wanted(columns: Any, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on an image; ``columns`` are those of a view or of the images."""
    either = [part for name in NAME_COLUMNS for part in matching(columns[name], wanted.images)]
    return [*([sa.or_(*either)] if either else []), *matching(columns.os_tag, wanted.os_tags)]
