"""What the simulator offers at one moment: regions, their instance types, and the images of each; immutable.

A catalogue holds the truth in the words of the domain. How an answer dresses it up (double spaces, numbers, odd
shapes) is decided in ``answers``, so that a test can compare what was stored with ``Catalogue.images_of``.
Every function that derives a catalogue takes globs, or lists of them, for the region and the instance type.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

from sync.errors import ConfigError
from sync.inventory import ALL_TYPES, Image

Globs = str | Collection[str]


class EmptyAnswer(StrEnum):
    """How ListImages says that an instance type has no images; clients must understand all of them."""

    EMPTY_LIST = "empty_list"
    EMPTY_OBJECT = "empty_object"
    NULL = "null"
    MISSING = "missing"
    NOT_FOUND = "not_found"
    """The error 404 ``ImageNotFound``."""


@dataclass(frozen=True, slots=True)
class OfferedType:
    """One instance type as a region offers it, with the images that it supports."""

    instance_type: str
    images: frozenset[Image] = frozenset()
    vcpu_count: int = 2
    memory_gib: float = 4.0
    family: str = ""
    """Empty: derived from the name, ``ecs.c7`` for ``ecs.c7.large``."""
    is_sold_out: bool = False
    empty_answer: EmptyAnswer = EmptyAnswer.EMPTY_LIST

    @property
    def family_id(self) -> str:
        """Return the family that the instance type belongs to."""
        return self.family or self.instance_type.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Region:
    """One region with its display name and its instance types by name."""

    region_id: str
    local_name: str = ""
    types: Mapping[str, OfferedType] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """All that the simulator offers at one moment; regions keep their order, the first is the default region.

    Compared by identity: the server keeps encoded answers for as long as it serves the same catalogue.
    """

    regions: Mapping[str, Region]

    @property
    def region_ids(self) -> tuple[str, ...]:
        """Return the region ids in the order of the catalogue."""
        return tuple(self.regions)

    @property
    def pair_count(self) -> int:
        """Return the number of (region, instance type, image) triples."""
        return sum(len(offered.images) for _, offered in self._offers())

    @property
    def type_count(self) -> int:
        """Return the number of (region, instance type) pairs."""
        return sum(len(region.types) for region in self.regions.values())

    def instance_types_of(self, region_id: str) -> tuple[str, ...]:
        """Return the instance types that the region lists, sold out or not, sorted."""
        return tuple(sorted(self.regions[region_id].types))

    def images_of(self, region_id: str, instance_type: str) -> frozenset[Image]:
        """Return the images of an instance type, ``*`` for the union of the region; empty for an unknown type."""
        types = self.regions[region_id].types
        if instance_type == ALL_TYPES:
            return frozenset().union(*(offered.images for offered in types.values()))
        return types[instance_type].images if instance_type in types else frozenset()

    def types_with(self, image_id: str, region_id: str) -> tuple[str, ...]:
        """Return the instance types of a region that offer an image with this id, sorted."""
        types = self.regions[region_id].types.values()
        return tuple(sorted(o.instance_type for o in types if any(i.image_id == image_id for i in o.images)))

    def image_ids(self) -> tuple[str, ...]:
        """Return all image ids that any type of any region offers, sorted."""
        return tuple(sorted({image.image_id for _, offered in self._offers() for image in offered.images}))

    def _offers(self) -> Iterator[tuple[Region, OfferedType]]:
        for region in self.regions.values():
            for offered in region.types.values():
                yield region, offered


def catalogue_of(offers: Mapping[str, Mapping[str, Iterable[Image]] | Iterable[OfferedType]]) -> Catalogue:
    """Return a catalogue from plain values: region → instance type → images, or region → offered types."""
    regions = {}
    for region_id, types in offers.items():
        regions[region_id] = _region_of(Region(region_id, region_id), _offers_of(types))
    return Catalogue(MappingProxyType(regions))


def _offers_of(types: Mapping[str, Iterable[Image]] | Iterable[OfferedType]) -> Iterable[OfferedType]:
    if isinstance(types, Mapping):
        return [OfferedType(name, frozenset(images)) for name, images in types.items()]
    return types


def with_image_added(
    catalogue: Catalogue, image: Image, *, region_id: Globs = "*", instance_type: Globs = "*"
) -> Catalogue:
    """Return the catalogue with one more image on the matching types; types that have it already stay as they are."""
    return _with_types_edited(catalogue, region_id, instance_type, lambda images: images | {image})


def without_image(
    catalogue: Catalogue, image_id: str, *, region_id: Globs = "*", instance_type: Globs = "*"
) -> Catalogue:
    """Return the catalogue without any row of this image id (a glob) on the matching types."""
    return _with_types_edited(
        catalogue,
        region_id,
        instance_type,
        lambda images: frozenset(image for image in images if not fnmatchcase(image.image_id, image_id)),
    )


def without_images(catalogue: Catalogue, *, region_id: Globs = "*", instance_type: Globs = "*") -> Catalogue:
    """Return the catalogue with no image left on the matching types, which stay listed."""
    return _with_types_edited(catalogue, region_id, instance_type, lambda _: frozenset())


def with_image_replaced(
    catalogue: Catalogue, image_id: str, image: Image, *, region_id: Globs = "*", instance_type: Globs = "*"
) -> Catalogue:
    """Return the catalogue with ``image`` where rows of ``image_id`` stood; other types stay as they are."""
    return _with_images_mapped(catalogue, image_id, lambda _: image, region_id=region_id, instance_type=instance_type)


def with_image_renamed(
    catalogue: Catalogue, image_id: str, os_name: str, *, region_id: Globs = "*", instance_type: Globs = "*"
) -> Catalogue:
    """Return the catalogue with another OSName for the same image id."""
    return _with_images_mapped(
        catalogue,
        image_id,
        lambda image: replace(image, os_name=os_name),
        region_id=region_id,
        instance_type=instance_type,
    )


def with_type(catalogue: Catalogue, region_id: Globs, offered: OfferedType) -> Catalogue:
    """Return the catalogue with an instance type launched (or exchanged) in the matching regions."""
    return _with_regions_edited(catalogue, region_id, lambda region: _with_offer(region, offered))


def without_type(catalogue: Catalogue, instance_type: Globs, *, region_id: Globs = "*") -> Catalogue:
    """Return the catalogue without the matching instance types: they are no longer listed at all."""
    _demand_match(catalogue, region_id, instance_type)
    is_meant = _matcher_of(instance_type)
    return _with_regions_edited(
        catalogue,
        region_id,
        lambda region: _region_of(region, [o for o in region.types.values() if not is_meant(o.instance_type)]),
    )


def with_type_sold_out(
    catalogue: Catalogue, instance_type: Globs, *, region_id: Globs = "*", is_sold_out: bool = True
) -> Catalogue:
    """Return the catalogue with the matching instance types sold out: listed only where ShowSoldOut is asked for."""
    return _with_offers_edited(
        catalogue, region_id, instance_type, lambda offered: replace(offered, is_sold_out=is_sold_out)
    )


def with_region(catalogue: Catalogue, region: Region) -> Catalogue:
    """Return the catalogue with a region opened or exchanged."""
    return Catalogue(MappingProxyType({**catalogue.regions, region.region_id: region}))


def without_region(catalogue: Catalogue, region_id: str) -> Catalogue:
    """Return the catalogue without a region."""
    if region_id not in catalogue.regions:
        raise ConfigError(f"The catalogue has no region {region_id}; it has {', '.join(catalogue.regions)}.")
    kept = {name: region for name, region in catalogue.regions.items() if name != region_id}
    return Catalogue(MappingProxyType(kept))


def _with_images_mapped(
    catalogue: Catalogue,
    image_id: str,
    change: Callable[[Image], Image],
    *,
    region_id: Globs,
    instance_type: Globs,
) -> Catalogue:
    def mapped(images: frozenset[Image]) -> frozenset[Image]:
        return frozenset(change(image) if image.image_id == image_id else image for image in images)

    return _with_types_edited(catalogue, region_id, instance_type, mapped)


def _with_types_edited(
    catalogue: Catalogue,
    region_id: Globs,
    instance_type: Globs,
    edit: Callable[[frozenset[Image]], frozenset[Image]],
) -> Catalogue:
    # Types share their sets; editing each set once keeps 25,000 types at the memory of some dozen sets.
    edited: dict[int, frozenset[Image]] = {}

    def with_images_edited(offered: OfferedType) -> OfferedType:
        key = id(offered.images)
        if key not in edited:
            edited[key] = edit(offered.images)
        return replace(offered, images=edited[key])

    return _with_offers_edited(catalogue, region_id, instance_type, with_images_edited)


def _with_offers_edited(
    catalogue: Catalogue,
    region_id: Globs,
    instance_type: Globs,
    edit: Callable[[OfferedType], OfferedType],
) -> Catalogue:
    _demand_match(catalogue, region_id, instance_type)
    is_meant = _matcher_of(instance_type)

    def edited(region: Region) -> Region:
        return _region_of(region, [edit(o) if is_meant(o.instance_type) else o for o in region.types.values()])

    return _with_regions_edited(catalogue, region_id, edited)


def _with_regions_edited(catalogue: Catalogue, region_id: Globs, edit: Callable[[Region], Region]) -> Catalogue:
    is_meant = _matcher_of(region_id)
    if not any(is_meant(name) for name in catalogue.regions):
        raise ConfigError(f"No region of the catalogue matches {region_id}.")
    edited = {name: edit(region) if is_meant(name) else region for name, region in catalogue.regions.items()}
    return Catalogue(MappingProxyType(edited))


def _demand_match(catalogue: Catalogue, region_id: Globs, instance_type: Globs) -> None:
    """Refuse a pattern that matches nothing: a scripted change that changes nothing hides a test's mistake."""
    is_region, is_type = _matcher_of(region_id), _matcher_of(instance_type)
    for name, region in catalogue.regions.items():
        if is_region(name) and any(is_type(known) for known in region.types):
            return
    raise ConfigError(f"No instance type of the catalogue matches {instance_type} in {region_id}.")


def _with_offer(region: Region, offered: OfferedType) -> Region:
    return _region_of(region, {**region.types, offered.instance_type: offered}.values())


def _region_of(region: Region, offers: Iterable[OfferedType]) -> Region:
    types = {offered.instance_type: offered for offered in offers}
    return replace(region, types=MappingProxyType(types))


def _matcher_of(globs: Globs) -> Callable[[str], bool]:
    """Return the test of a name against globs; plain names are looked up, for lists can hold thousands of them."""
    patterns = [globs] if isinstance(globs, str) else list(globs)
    names = frozenset(pattern for pattern in patterns if not any(sign in pattern for sign in "*?["))
    wild = [pattern for pattern in patterns if pattern not in names]
    return lambda name: name in names or any(fnmatchcase(name, pattern) for pattern in wild)
