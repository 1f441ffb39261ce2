"""The real names that timelines are built from: instance types, images and regions, read from the package's data."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sync.inventory import IMAGE_FIELDS, Image
from sync.simulator.catalogue import OfferedType

GENERATIONS = range(9, 40)
"""Generations of made-up families; the real ones end at 8."""

MADE_UP_SIZES = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "16xlarge": 64}
"""Sizes of made-up instance types with their vCPUs."""


@dataclass(frozen=True, slots=True)
class StockImage:
    """A real image with the day (``yyyymmdd``) that its id carries, so that builds of one system can be ordered."""

    image: Image
    built_on: str


@cache
def stock_images() -> tuple[StockImage, ...]:
    """Return all images of the data file, oldest build first."""
    rows = [Image(*(row[name] for name in IMAGE_FIELDS)) for row in _rows_of("images.csv")]
    dated = [StockImage(image, _build_day_of(image.image_id)) for image in rows]
    return tuple(sorted(dated, key=lambda stock: (stock.built_on, stock.image.image_id)))


@cache
def stock_image(image_id: str) -> Image:
    """Return the image of the data file with this id."""
    return next(stock.image for stock in stock_images() if stock.image.image_id == image_id)


@cache
def stock_types() -> Mapping[str, OfferedType]:
    """Return the 696 real instance types by name, without images, sorted by name."""
    rows = _rows_of("instance_types.csv")
    offers = [
        OfferedType(
            row["instance_type"],
            vcpu_count=int(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            family=row["family"],
        )
        for row in rows
    ]
    return {offered.instance_type: offered for offered in sorted(offers, key=lambda o: o.instance_type)}


@cache
def stock_regions() -> Mapping[str, str]:
    """Return the display names of 25 regions by id; those with a known E-HPC endpoint come first."""
    return {row["region_id"]: row["local_name"] for row in _rows_of("regions.csv")}


def made_up_types(count: int) -> list[OfferedType]:
    """Return plausible instance types beyond the real ones (``ecs.c9i.2xlarge``), at most 1,674, in fixed order."""
    made: list[OfferedType] = []
    for generation in GENERATIONS:
        for letter, gib_per_vcpu in (("c", 2), ("g", 4), ("r", 8)):
            for maker in ("i", "a", "y"):
                family = f"ecs.{letter}{generation}{maker}"
                made += [
                    OfferedType(f"{family}.{size}", frozenset(), vcpus, vcpus * gib_per_vcpu, family)
                    for size, vcpus in MADE_UP_SIZES.items()
                ]
    return made[:count]


def _rows_of(name: str) -> list[dict[str, str]]:
    text = (files(__package__) / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _build_day_of(image_id: str) -> str:
    return image_id.removesuffix(".vhd").rpartition("_")[2][:8]
