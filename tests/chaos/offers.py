"""What the simulated E-HPC offers at first, and the edits that the script makes to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sync.inventory import IMAGE_FIELDS, Image
from sync.simulator.catalogue import (
    Catalogue,
    OfferedType,
    catalogue_of,
    with_image_added,
    with_image_renamed,
    with_type,
    without_image,
    without_type,
)

HANGZHOU, BEIJING = "cn-hangzhou", "cn-beijing"
REGIONS = (BEIJING, HANGZHOU)
TYPES = tuple(f"ecs.{family}.large" for family in ("c6", "c7", "c8i", "g6", "g7", "g8i", "r6", "r7", "r8i", "i4"))

Key = tuple[str, str]
"""Region and instance type."""

Row = tuple[str, ...]
"""The eight fields of an image, as the views show them."""

Offer = dict[Key, frozenset[Row]]
Edit = Callable[[Catalogue], Catalogue]


def image_of(name: str, version: str = "1") -> Image:
    """Return an image whose fields all say its name."""
    tag = f"{name.capitalize()}_{version}_64"
    return Image(f"m-{name}", tag, tag, name.capitalize(), version, "x86_64", f"{name} {version}", f"{name} {version}")


STOCK = tuple(image_of(name) for name in ("centos", "ubuntu", "debian", "rocky", "alma", "aliyun"))


def baseline() -> Catalogue:
    """Return what is offered at first: ten types in each of two regions, six images on each."""
    return catalogue_of({region: dict.fromkeys(TYPES, STOCK) for region in REGIONS})


def offer_of(catalogue: Catalogue) -> Offer:
    """Return a catalogue as plain values."""
    return {
        (region, name): frozenset(row_of(image) for image in catalogue.images_of(region, name))
        for region in catalogue.region_ids
        for name in catalogue.instance_types_of(region)
    }


def row_of(image: Image) -> Row:
    """Return the fields of an image in the order of the views."""
    return tuple(str(getattr(image, name)) for name in IMAGE_FIELDS)


@dataclass(frozen=True, slots=True)
class CatalogueEvent:
    """One edit of the catalogue with a sentence for the timeline."""

    name: str
    edit: Edit


def added(name: str, region: str, types: str = "*") -> CatalogueEvent:
    """An image appears."""
    image = image_of(name)
    return CatalogueEvent(
        f"{image.image_id} appears in {region} on {types}",
        lambda now: with_image_added(now, image, region_id=region, instance_type=types),
    )


def removed(name: str, region: str, types: str = "*") -> CatalogueEvent:
    """An image goes."""
    return CatalogueEvent(
        f"m-{name} goes from {region} on {types}",
        lambda now: without_image(now, f"m-{name}", region_id=region, instance_type=types),
    )


def renamed(name: str, os_name: str, region: str, types: str = "*") -> CatalogueEvent:
    """An image gets another name under the same id."""
    return CatalogueEvent(
        f"m-{name} is renamed in {region} on {types}",
        lambda now: with_image_renamed(now, f"m-{name}", os_name, region_id=region, instance_type=types),
    )


def launched(name: str, region: str) -> CatalogueEvent:
    """An instance type is launched, with three images."""
    offered = OfferedType(name, frozenset(STOCK[:3]))
    return CatalogueEvent(f"{name} is launched in {region}", lambda now: with_type(now, region, offered))


def retired(name: str, region: str) -> CatalogueEvent:
    """An instance type is no longer listed."""
    return CatalogueEvent(f"{name} is retired in {region}", lambda now: without_type(now, name, region_id=region))


def both(first: CatalogueEvent, second: CatalogueEvent) -> CatalogueEvent:
    """Two edits at once."""
    return replace(first, name=f"{first.name}; {second.name}", edit=lambda now: second.edit(first.edit(now)))
