"""Two sets of images per target → what differs between them: two times, two regions or two instance types.

Where either side is unknown nothing is said of images: the row says ``unknown``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial

from sqlalchemy import Connection

from sync.errors import ConfigError
from sync.inventory import ALL_TYPES, IMAGE_FIELDS, ChangeKind, Image, Target
from sync.store.filters import Filter, is_glob
from sync.store.history import find_images, find_known_names
from sync.store.known import find_images_of
from sync.store.sets import TargetSet, find_sets
from sync.store.snapshot import UNKNOWN, Coverage, Listing, Row, find_listing

COMPARE_COLUMNS = (
    "kind",
    "region_id",
    "instance_type",
    *IMAGE_FIELDS,
    "base_os_tag_filter",
    "unknown_side",
    "before_observed_at",
    "after_observed_at",
)

BEFORE, AFTER, BOTH = "before", "after", "both"

Pair = tuple[Target, Target]
"""The two targets, before and after, that are compared with each other."""

Keys = frozenset[int]
"""The keys of stored images: two keys differ where the images do, and only there."""

Load = Callable[[Iterable[int]], Mapping[int, Image]]
"""Gives the images of keys."""

Chosen = frozenset[Image] | None
"""The images whose differences alone are told; None for all."""

_NONE: Keys = frozenset()


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two sides, and by region what its discovery had listed."""

    moment: datetime
    sets: Mapping[Target, TargetSet]
    """The targets that are there, with the keys of their images."""
    listings: Mapping[str, Listing] = field(default_factory=dict)

    def coverage_of(self, target: Target) -> Coverage | None:
        """Return the coverage of a target; None where it is known not to be there."""
        found = self.sets.get(target)
        if found is not None:
            return found.coverage
        listing = self.listings.get(target.region_id)
        is_absent = listing is None or (target.instance_type != ALL_TYPES and listing.lacks(target.instance_type))
        return None if is_absent else Coverage(UNKNOWN, None, None)

    def image_keys_of(self, target: Target) -> Keys:
        """Return the images of a target; none where it is not there."""
        found = self.sets.get(target)
        return found.image_keys if found else _NONE


@dataclass(frozen=True, slots=True)
class Place:
    """A target in which two sides differ, or of which nothing can be said, and when each side was observed."""

    target: Target
    before_observed_at: datetime | None
    after_observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference of some targets of one region that have the same images, or what is not known of them."""

    kind: str
    image: Image | None
    unknown_side: str | None
    places: Sequence[Place]
    """In no order."""

    @property
    def sense(self) -> str:
        """Return what people group by: the kind, or which side is unknown."""
        return self.unknown_side or self.kind


def compare_times(before: Side, after: Side, load: Load, chosen: Chosen) -> Iterator[Finding]:
    """Yield what changed from one time to another, in no order.

    A target that is in one of them alone was retired, or its type returned: then the other is known to be empty.
    """
    return _compare(before, after, lambda target: (target, target), load, chosen)


def compare_regions(before: Side, after: Side, names: tuple[str, str], load: Load, chosen: Chosen) -> Iterator[Finding]:
    """Yield what the second region offers and the first does not, and the other way round, in no order.

    Both sides carry the listing of their region: an instance type that one of them does not list has no images
    there, one that is listed and was never asked is unknown.
    """

    def pair_of(target: Target) -> Pair:
        old, new = (Target(name, target.instance_type, target.base_os_tag) for name in names)
        return old, new

    return _compare(before, after, pair_of, load, chosen)


def compare_types(before: Side, after: Side, names: tuple[str, str], load: Load, chosen: Chosen) -> Iterator[Finding]:
    """Yield per region what the second instance type supports and the first does not, and the other way round."""

    def pair_of(target: Target) -> Pair:
        old, new = (Target(target.region_id, name, target.base_os_tag) for name in names)
        return old, new

    return _compare(before, after, pair_of, load, chosen)


def _compare(
    before: Side, after: Side, pair_of: Callable[[Target], Pair], load: Load, chosen: Chosen
) -> Iterator[Finding]:
    # Targets of a region share some tens of sets: each pair of sets is compared once.
    alike: dict[tuple[str, Keys, Keys], list[tuple[Place, Place]]] = defaultdict(list)
    for old, new in {pair_of(entry) for side in (before, after) for entry in side.sets}:
        seen = before.coverage_of(old), after.coverage_of(new)
        times = _observed_at(seen[0]), _observed_at(seen[1])
        was_unknown, is_unknown = (coverage is not None and coverage.state == UNKNOWN for coverage in seen)
        if was_unknown or is_unknown:
            side = BOTH if was_unknown and is_unknown else BEFORE if was_unknown else AFTER
            yield Finding(UNKNOWN, None, side, [Place(new if is_unknown else old, *times)])
            continue
        had, has = before.image_keys_of(old), after.image_keys_of(new)
        if had != has:
            alike[old.region_id, had, has].append((Place(old, *times), Place(new, *times)))
    images = load({key for _, had, has in alike for key in had ^ has})
    for (_, had, has), pairs in alike.items():
        for entry in differences(map(images.__getitem__, had - has), map(images.__getitem__, has - had)):
            if entry.concerns(chosen):
                is_gone = entry.kind is ChangeKind.REMOVED
                yield Finding(entry.kind, entry.image, None, [old if is_gone else new for old, new in pairs])


def _observed_at(coverage: Coverage | None) -> datetime | None:
    return None if coverage is None else coverage.observed_at


@dataclass(frozen=True, slots=True)
class Difference:
    """An image that one of two sets has and the other has not, or has with other fields."""

    kind: ChangeKind
    image: Image
    previous_image: Image | None = None

    def concerns(self, chosen: Chosen) -> bool:
        """Return whether it is about one of the chosen images, or all were chosen."""
        return chosen is None or self.image in chosen or self.previous_image in chosen


def differences(had: Iterable[Image], has: Iterable[Image]) -> list[Difference]:
    """Return what was added, removed and changed between two sets of images, sorted.

    A row that has another one of the same ImageId on the other side is one change, which shows the new row.
    """
    before, after = frozenset(had), frozenset(has)
    by_id: dict[str, list[Image]] = defaultdict(list)
    for image in sorted(after - before, reverse=True):
        if image.image_id:
            by_id[image.image_id].append(image)
    gone = sorted(before - after)
    changed = {old: by_id[old.image_id].pop() for old in gone if by_id[old.image_id]}
    return [
        *(Difference(ChangeKind.ADDED, image) for image in sorted(after - before - set(changed.values()))),
        *(Difference(ChangeKind.CHANGED, new, old) for old, new in changed.items()),
        *(Difference(ChangeKind.REMOVED, image) for image in gone if image not in changed),
    ]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and how to tell it."""

    findings: Sequence[Finding]
    """In no order."""
    title: str
    labels: Mapping[str, str]
    """What each kind, and each unknown side, means to people."""
    earliest: datetime
    """The earlier one of the times that were asked about."""

    @cached_property
    def rows(self) -> list[Row]:
        """Return the findings as rows, COMPARE_COLUMNS, sorted by place, kind and image."""
        rows = (row_of(finding, place) for finding in self.findings for place in finding.places)
        return sorted(rows, key=_order_of)


USAGE = (
    "compare needs two times, or two different --region or --instance-type, which are no globs; "
    "see: ehpc-image-sync compare --help"
)


def find_comparison(
    connection: Connection,
    wanted: Filter,
    times: Sequence[datetime],
    at: datetime | None,
    now: datetime,
    show: Callable[[datetime], str],
) -> Comparison:
    """Return the comparison that a person asks for: of two ``times`` (the second is now), or of two regions or types.

    Raises:
        ConfigError: it is none of these, or not clear which one.
    """
    if times:
        return _compare_asked_times(connection, wanted, times, at, now, show)
    moment = at or now
    regions, types = two_names(wanted.region_ids), two_names(wanted.instance_types)
    if regions and types:
        raise ConfigError("two regions and two instance types: compare one of the two pairs at a time")
    names = regions or types
    if not names:
        raise ConfigError(USAGE)
    part = "region_ids" if regions else "instance_types"
    before, after = (_find_side(connection, moment, replace(wanted, **{part: (name,)})) for name in names)
    compare = compare_regions if regions else compare_types
    load = partial(find_images_of, connection)
    findings = tuple(compare(before, after, names, load, _chosen(connection, wanted)))
    labels = {
        ChangeKind.REMOVED: f"only {names[0]}",
        ChangeKind.ADDED: f"only {names[1]}",
        ChangeKind.CHANGED: "differs",
        BEFORE: f"{names[0]} UNKNOWN",
        AFTER: f"{names[1]} UNKNOWN",
        BOTH: "both UNKNOWN",
    }
    first, second = (f"{name} ({_observed(side, show)})" for name, side in zip(names, (before, after), strict=True))
    return Comparison(findings, f"{first} and {second} at {show(moment)}", labels, moment)


def _compare_asked_times(
    connection: Connection,
    wanted: Filter,
    times: Sequence[datetime],
    at: datetime | None,
    now: datetime,
    show: Callable[[datetime], str],
) -> Comparison:
    if len(times) > 2 or at is not None:
        raise ConfigError(USAGE if len(times) > 2 else "compare of times has two times of its own; leave out --at")
    first, second = times[0], times[1] if len(times) > 1 else now
    if second <= first:
        problem = "are the same" if second == first else "are reversed: the first is after the second; exchange them"
        raise ConfigError(f"compare: the two times {problem}")
    of_targets = replace(wanted, images=(), os_tags=())
    before, after = (_side_of(connection, moment, of_targets) for moment in (first, second))
    findings = tuple(compare_times(before, after, partial(find_images_of, connection), _chosen(connection, wanted)))
    labels = {kind.value: kind.value for kind in ChangeKind}
    labels |= {
        BEFORE: f"UNKNOWN at {show(first)}",
        AFTER: f"UNKNOWN at {show(second)}",
        BOTH: "UNKNOWN at both times",
    }
    start, end = (f"{show(side.moment)} ({_observed(side, show)})" for side in (before, after))
    return Comparison(findings, f"from {start} to {end}", labels, first)


def _observed(side: Side, show: Callable[[datetime], str]) -> str:
    """Return when the known targets were observed, the oldest observation of them."""
    seen = [entry.coverage for entry in side.sets.values()]
    moments = [coverage.observed_at for coverage in seen if coverage.state != UNKNOWN and coverage.observed_at]
    unobserved = "not observed" if seen else "not there"
    return f"observed {show(min(moments))}" if moments else unobserved


def two_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Return two names that differ and are no globs; None where there are not exactly two."""
    different = tuple(dict.fromkeys(names))
    is_pair = len(different) == 2 and not any(map(is_glob, different))
    return (different[0], different[1]) if is_pair else None


def _side_of(
    connection: Connection, moment: datetime, of_targets: Filter, listings: Mapping[str, Listing] | None = None
) -> Side:
    found = find_sets(connection, moment, of_targets)
    return Side(moment, {entry.target: entry for entry in found}, listings or {})


def _find_side(connection: Connection, moment: datetime, wanted: Filter) -> Side:
    of_targets = replace(wanted, images=(), os_tags=())
    regions = wanted.region_ids or find_known_names(connection)[0]
    listings = {name: find_listing(connection, moment, name) for name in regions}
    return _side_of(connection, moment, of_targets, listings)


def _chosen(connection: Connection, wanted: Filter) -> Chosen:
    return find_images(connection, wanted) if wanted.images or wanted.os_tags else None


def row_of(finding: Finding, place: Place) -> Row:
    """Return what was found of one target as a row; COMPARE_COLUMNS."""
    target, image = place.target, finding.image
    return {
        "kind": str(finding.kind),
        "region_id": target.region_id,
        "instance_type": target.instance_type,
        **{name: None if image is None else getattr(image, name) for name in IMAGE_FIELDS},
        "base_os_tag_filter": target.base_os_tag,
        "unknown_side": finding.unknown_side,
        "before_observed_at": place.before_observed_at,
        "after_observed_at": place.after_observed_at,
    }


def _order_of(row: Row) -> tuple[str, ...]:
    return tuple(
        str(row[name] or "")
        for name in ("region_id", "instance_type", "base_os_tag_filter", "kind", "os_tag", "image_id", "os_name")
    )
