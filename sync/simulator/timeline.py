"""A believable story in steps: what E-HPC offers today, and how that changes; the demo and many tests play it."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from sync.errors import ConfigError
from sync.inventory import Image
from sync.simulator.catalogue import (
    Catalogue,
    EmptyAnswer,
    OfferedType,
    Region,
    with_image_added,
    with_image_renamed,
    with_image_replaced,
    with_type,
    with_type_sold_out,
    without_image,
    without_images,
    without_type,
)
from sync.simulator.stock import StockImage, made_up_types, stock_image, stock_images, stock_regions, stock_types

DEFAULT_REGION_IDS = ("cn-hangzhou", "cn-shanghai", "ap-southeast-1")
DEFAULT_TYPES_PER_REGION = 32
MAX_TYPES_PER_REGION = 2_000

ROCKY_9_3 = "rockylinux_9_3_x64_20G_alibase_20240228.vhd"
CENTOS_7_6 = "centos_7_6_x64_20G_alibase_20211130.vhd"
ALIYUN_3_BEFORE = "aliyun_3_x64_20G_alibase_20250629.vhd"
ALIYUN_3_AFTER = "aliyun_3_x64_20G_alibase_20260122.vhd"
UBUNTU_22_04 = "ubuntu_22_04_x64_20G_alibase_20250415.vhd"
LAST_BASELINE_BUILD = "20250630"

CORE_TYPES = (
    "ecs.c7.large",
    "ecs.c7.xlarge",
    "ecs.c7.4xlarge",
    "ecs.g7.xlarge",
    "ecs.g7.8xlarge",
    "ecs.r7.2xlarge",
    "ecs.c8i.2xlarge",
    "ecs.g8i.4xlarge",
    "ecs.hpc7ip.32xlarge",
    "ecs.gn6v-c8g1.2xlarge",
    "ecs.gn7i-c16g1.4xlarge",
    "ecs.gn7e-c16g1.4xlarge",
    "ecs.c8y.xlarge",
    "ecs.g8y.2xlarge",
    "ecs.ebmgn7ex.32xlarge",
    "ecs.ebmc5s.24xlarge",
    "ecs.c1.large",
    "ecs.c2.large",
)
"""In every region, so that the story has its actors: general, HPC, GPU, arm, bare metal, and very old types."""

LAUNCHED_TYPE = OfferedType("ecs.hpc8ae.32xlarge", frozenset(), 64, 256, "ecs.hpc8ae")
RETIRED_TYPE = "ecs.c2.large"
SINGLE_IMAGE_TYPE = "ecs.ebmgn7ex.32xlarge"
WITHOUT_IMAGES = {"ecs.c1.large": EmptyAnswer.NOT_FOUND, "ecs.ebmc5s.24xlarge": EmptyAnswer.MISSING}

FIRST_FAMILIES = ("ecs.c8i.*", "ecs.g8i.*", "ecs.hpc7ip.*")
PLATFORMS_OF_HPC = frozenset({"Aliyun", "Rocky Linux"})
PLATFORMS_OF_GPU = frozenset({"Aliyun", "CentOS", "Ubuntu", "Rocky Linux", "windows"})
PLATFORMS_OF_OLD = frozenset({"CentOS", "Aliyun", "Debian", "windows"})

OFFERED_VERSIONS = {
    "AlmaLinux": r"[89]\.",
    "Aliyun": r"2|3",
    "CentOS": r"7\.|8\.[2-5]",
    "Debian": r"11\.[4-9]|12\.",
    "Rocky Linux": r"[89]\.",
    "Ubuntu": r"18\.04|2[024]\.04",
    "windows": r"2016|2019",
}
"""What the baseline offers of each platform, as patterns of the start of the version."""

EDITION = re.compile(r"uefi|scc|dengbao|qboot|container|anck|rhck|IPV6")


@dataclass(frozen=True, slots=True)
class Step:
    """One state of the story with a name for programs and one sentence for people."""

    name: str
    description: str
    catalogue: Catalogue


def default_timeline(
    *, region_ids: Sequence[str] = DEFAULT_REGION_IDS, types_per_region: int = DEFAULT_TYPES_PER_REGION
) -> tuple[Step, ...]:
    """Return the story over these regions, the same for the same arguments.

    The first region loses CentOS 7.6 first; the last one suffers the accident. Up to 696 instance types are real
    names, more are made up (``ecs.c9i.large``).

    Raises:
        ConfigError: no region, a region twice, or a number of types out of range.
    """
    _check_size(region_ids, types_per_region)
    first, second, last = region_ids[0], region_ids[min(1, len(region_ids) - 1)], region_ids[-1]
    steps = [Step("baseline", "What the regions offer today.", _baseline_of(region_ids, types_per_region))]

    def add(name: str, description: str, *edits: Callable[[Catalogue], Catalogue]) -> None:
        catalogue = steps[-1].catalogue
        for edit in edits:
            catalogue = edit(catalogue)
        steps.append(Step(name, description, catalogue))

    _add_rollout(add, first)
    _add_withdrawal(add, second)
    _add_accident(add, last, steps)
    _add_aftermath(add, region_ids)
    return tuple(steps)


_Add = Callable[..., None]


def _add_rollout(add: _Add, first: str) -> None:
    rocky = stock_image(ROCKY_9_3)
    add("quiet-day", "Nothing changed: a run writes nothing but its own row.")
    add(
        "rocky-appears",
        "Rocky Linux 9.3 appears on the newest Intel and HPC families first.",
        lambda now: with_image_added(now, rocky, instance_type=FIRST_FAMILIES),
    )
    add(
        "centos-withdrawn-first",
        f"Rocky Linux 9.3 reaches more families; {first} withdraws CentOS 7.6 and launches ecs.hpc8ae.32xlarge.",
        lambda now: with_image_added(now, rocky, instance_type=_x86_of(now)),
        lambda now: without_image(now, CENTOS_7_6, region_id=first),
        lambda now: with_type(now, first, replace(LAUNCHED_TYPE, images=_images_of_hpc() | {rocky})),
    )


def _add_withdrawal(add: _Add, second: str) -> None:
    new_name = "Ubuntu 22.04 64位 (长期支持版)"
    add(
        "centos-withdrawn-second",
        f"{second} withdraws CentOS 7.6 as well and retires {RETIRED_TYPE}; Ubuntu 22.04 gets another display name.",
        lambda now: without_image(now, CENTOS_7_6, region_id=second),
        lambda now: with_image_renamed(now, UBUNTU_22_04, new_name),
        lambda now: without_type(now, RETIRED_TYPE, region_id=second),
    )


def _add_accident(add: _Add, last: str, steps: list[Step]) -> None:
    before = steps[-1].catalogue
    struck = [name for name in before.instance_types_of(last) if not name.startswith("ecs.hpc")]
    add(
        "accident",
        f"An accident behind the API: {last} answers with empty lists for nearly all instance types.",
        lambda now: without_images(now, region_id=last, instance_type=struck),
    )
    add("recovered", f"The images of {last} are back as they were.", lambda _: before)


def _add_aftermath(add: _Add, region_ids: Sequence[str]) -> None:
    newer = stock_image(ALIYUN_3_AFTER)
    add(
        "build-replaced",
        "Alibaba Cloud Linux 3 gets a new build: the old image id goes, another one comes.",
        lambda now: with_image_replaced(now, ALIYUN_3_BEFORE, newer),
    )
    add(
        "sold-out",
        "GPU types are sold out everywhere; what they support has not changed.",
        lambda now: with_type_sold_out(now, "ecs.gn*"),
    )
    add(
        "centos-gone",
        "The remaining regions withdraw CentOS 7.6 too: no cluster can be built with it any more.",
        lambda now: without_image(now, CENTOS_7_6, region_id=list(region_ids)),
    )


def _check_size(region_ids: Sequence[str], types_per_region: int) -> None:
    if not region_ids or len(set(region_ids)) != len(region_ids):
        raise ConfigError(f"A timeline needs one region or more, each once; not {', '.join(region_ids) or 'none'}.")
    if not len(CORE_TYPES) <= types_per_region <= MAX_TYPES_PER_REGION:
        limits = f"{len(CORE_TYPES)} to {MAX_TYPES_PER_REGION}"
        raise ConfigError(f"A timeline can have {limits} instance types per region, not {types_per_region}.")


def _baseline_of(region_ids: Sequence[str], types_per_region: int) -> Catalogue:
    names = stock_regions()
    regions = {}
    for region_id in region_ids:
        offers = [_with_baseline_images(o, region_id) for o in _types_of(region_id, types_per_region)]
        types = MappingProxyType({offered.instance_type: offered for offered in offers})
        regions[region_id] = Region(region_id, names.get(region_id, region_id), types)
    return Catalogue(MappingProxyType(regions))


def _types_of(region_id: str, count: int) -> list[OfferedType]:
    """Return the core types and others that differ from region to region, as real regions do; sorted by name."""
    real = stock_types()
    others = [name for name in real if name not in CORE_TYPES]
    shuffled = random.Random(region_id).sample(others, len(others))  # noqa: S311  the same story each time
    chosen = [*CORE_TYPES, *shuffled][:count]
    offers = [real[name] for name in chosen] + made_up_types(max(0, count - len(chosen)))
    return sorted(offers, key=lambda offered: offered.instance_type)


def _with_baseline_images(offered: OfferedType, region_id: str) -> OfferedType:
    name = offered.instance_type
    if name in WITHOUT_IMAGES:
        return replace(offered, empty_answer=WITHOUT_IMAGES[name])
    if name == SINGLE_IMAGE_TYPE:
        return replace(offered, images=frozenset({stock_image(ALIYUN_3_BEFORE)}))
    emptiness = list(EmptyAnswer)[sum(name.encode()) % len(EmptyAnswer)]
    return replace(offered, images=_images_of(_kind_of(name), region_id), empty_answer=emptiness)


def _kind_of(instance_type: str) -> str:
    """Return what decides which systems run on an instance type: hpc, arm, gpu, old or general."""
    if instance_type.startswith("ecs.hpc"):
        return "hpc"
    if re.match(r"ecs\.(ebm)?[a-z]+\d+y\.|ecs\.[cg]6r\.", instance_type):
        return "arm"
    if re.match(r"ecs\.(ebm|s|v)?gn\d", instance_type):
        return "gpu"
    if re.match(r"ecs\.([cemns][1-4]|mn4|t[15]|se1ne|sn2ne)\b", instance_type):
        return "old"
    return "general"


@cache
def _images_of(kind: str, region_id: str) -> frozenset[Image]:
    if kind == "hpc":
        return _images_of_hpc()
    if kind == "arm":
        return frozenset(stock.image for stock in stock_images() if stock.image.architecture == "arm64")
    images = _baseline_images() | _extra_builds_of(region_id)
    if kind == "gpu":
        return frozenset(image for image in images if image.platform in PLATFORMS_OF_GPU)
    if kind == "old":
        return frozenset(i for i in images if i.platform in PLATFORMS_OF_OLD and i.version[:2] not in {"8.", "12"})
    return images


@cache
def _images_of_hpc() -> frozenset[Image]:
    return frozenset(image for image in _baseline_images() if image.platform in PLATFORMS_OF_HPC)


@cache
def _baseline_images() -> frozenset[Image]:
    """Return the newest plain build of each offered system, as it stood before the story begins."""
    newest = {
        (stock.image.platform, stock.image.version): stock.image for stock in stock_images() if _is_offered(stock)
    }
    return frozenset(newest.values())


@cache
def _extra_builds_of(region_id: str) -> frozenset[Image]:
    """Return two older builds that this region still offers: image ids differ from region to region."""
    older = [s.image for s in stock_images() if _is_offered(s) and s.image not in _baseline_images()]
    return frozenset(random.Random(region_id).sample(older, 2))  # noqa: S311  the same story each time


def _is_offered(stock: StockImage) -> bool:
    image = stock.image
    pattern = OFFERED_VERSIONS.get(image.platform)
    is_plain = not EDITION.search(image.image_id) and image.architecture == "x86_64"
    in_time = stock.built_on <= LAST_BASELINE_BUILD and image.image_id != ROCKY_9_3
    return bool(is_plain and in_time and pattern and re.match(pattern, image.version))


def _x86_of(catalogue: Catalogue) -> list[str]:
    """Return the types of the later families that run x86 systems and have images at all."""
    names = {name for region in catalogue.regions.values() for name in region.types}
    excluded = {*WITHOUT_IMAGES, SINGLE_IMAGE_TYPE, RETIRED_TYPE}
    matching = [name for name in names - excluded if _kind_of(name) in {"hpc", "general"}]
    return sorted(name for name in matching if re.match(r"ecs\.([cgr][78]|hpc|hf[cgr][78])", name))
