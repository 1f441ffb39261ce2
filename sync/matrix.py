"""Which instance types of a region have the same images: the groups that a matrix shows as columns."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sync.inventory import ALL_TYPES, Image
from sync.store.filters import Filter
from sync.store.known import ImageKeys
from sync.store.sets import TargetSet, find_beginnings, find_sets
from sync.store.snapshot import AVAILABLE

GROUPS_SHOWN = 40  # columns of one page: beyond these nobody reads on, and a page stays below a megabyte

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """The instance types of one family that stand in one group."""

    name: str
    instance_types: tuple[str, ...]
    type_count: int
    """How many of the family the whole matrix has: where that is more, the others stand in other groups."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Since when the first instance type of a group has an image."""

    available_since: datetime
    from_baseline: bool
    """Whether that was the first observation of one of them: then it may be older."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instance types of a region with the same images in the same state."""

    families: tuple[Family, ...]
    instance_types: tuple[str, ...]
    base_os_tag: str
    state: str
    observed_at: datetime | None
    """The last observation; where it differs, that of the type that was not observed for longest."""
    last_observed_at: datetime | None
    """That of the type that was observed last."""
    next_observed_at: datetime | None
    """Where it was not observed: by when all of its types were observed again; None where they have not been yet."""
    images: Mapping[Image, datetime | None]
    """Sorted by tag and id, with since when the first type misses them while their removal is held.

    Of an unknown group they are what was known last.
    """
    targets: tuple[TargetSet, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The groups of a region at one time: those of one page."""

    region_id: str
    moment: datetime
    groups: tuple[Group, ...]
    """Sorted: the available ones by family, then what was unknown."""
    page: int
    pages: int
    group_count: int
    type_count: int
    """On all pages, as ``group_count``."""


def find_matrix(connection: Connection, region_id: str, moment: datetime, wanted: Filter, page: int = 1) -> Matrix:
    """Return a page of a region's groups at a time; ``wanted`` may narrow instance types and images."""
    of_region = Filter((region_id,), wanted.instance_types, wanted.images, (), wanted.os_tags)
    found = find_sets(connection, moment, of_region)
    names = {entry.target.instance_type for entry in found}
    in_family = Counter(map(family_of, names))
    ordered = sorted(_folded(found), key=lambda entries: _place_of(entries[0]))
    shown = ordered[(page - 1) * GROUPS_SHOWN : page * GROUPS_SHOWN]
    keys = ImageKeys()
    keys.load_keys(connection, {key for entries in shown for key in entries[0].image_keys})
    groups = tuple(_group(entries, keys, in_family) for entries in shown)
    pages = max(1, -(-len(ordered) // GROUPS_SHOWN))
    return Matrix(region_id, moment, groups, page, pages, len(ordered), len(names))


def _folded(found: Iterable[TargetSet]) -> list[list[TargetSet]]:
    """Return targets with the same images in the same state together, each group in the order of people."""
    groups: dict[Key, list[TargetSet]] = defaultdict(list)
    for entry in found:
        seen = entry.coverage
        # What was never observed is no older than anything: it must not stand beside what was, nor give it a date.
        known = (seen.state, seen.observed_at is None, seen.next_observed_at is None)
        groups[entry.target.base_os_tag, *known, entry.image_keys, frozenset(entry.missing)].append(entry)
    return [sorted(entries, key=_name_order) for entries in groups.values()]


def _place_of(entry: TargetSet) -> Key:
    seen = entry.coverage
    return entry.target.base_os_tag, seen.state != AVAILABLE, seen.observed_at is None, _name_order(entry)


def _name_order(entry: TargetSet) -> Key:
    return natural_order(entry.target.instance_type)


def _group(entries: Sequence[TargetSet], keys: ImageKeys, in_family: Mapping[str, int]) -> Group:
    first = entries[0]
    observed = [entry.coverage.observed_at for entry in entries if entry.coverage.observed_at]
    following = [entry.coverage.next_observed_at for entry in entries if entry.coverage.next_observed_at]
    names = tuple(entry.target.instance_type for entry in entries)
    missing = {key: min(entry.missing[key] for entry in entries) for key in first.missing}
    images = {keys.image_of(key): missing.get(key) for key in first.image_keys}
    return Group(
        _families(names, in_family),
        names,
        first.target.base_os_tag,
        first.coverage.state,
        min(observed, default=None),
        max(observed, default=None),
        max(following, default=None),
        dict(sorted(images.items(), key=lambda item: (item[0].os_tag, item[0]))),
        tuple(entries),
    )


def find_group_beginnings(connection: Connection, moment: datetime, group: Group) -> dict[Image, Beginning]:
    """Return since when a group has its images, for all of them."""
    found = find_beginnings(connection, moment, [entry.key for entry in group.targets])
    keys = ImageKeys()
    keys.load_keys(connection, found)
    baselines = {entry.first_observed_at for entry in group.targets}
    begun = {keys.image_of(key): Beginning(since, since in baselines) for key, since in found.items()}
    return {image: begun[image] for image in group.images}


def _families(names: Iterable[str], in_family: Mapping[str, int]) -> tuple[Family, ...]:
    members: dict[str, list[str]] = defaultdict(list)
    for name in names:
        members[family_of(name)].append(name)
    return tuple(Family(family, tuple(types), in_family[family]) for family, types in members.items())


def family_of(instance_type: str) -> str:
    """Return the family of an instance type: ``c7`` of ``ecs.c7.large``; a name of another shape is its own."""
    if instance_type == ALL_TYPES:
        return "any type"
    parts = instance_type.split(".")
    return parts[1] if len(parts) > 2 and parts[1] else instance_type


def natural_order(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return the key by which people sort names with numbers: c7 before c10, 2xlarge before 10xlarge."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return tuple((not digits, int(digits or 0), text) for digits, text in parts)
