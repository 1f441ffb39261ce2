"""What the tests of the simulator share: a running simulator with a small catalogue."""

from collections.abc import Iterator

import pytest

from sync.inventory import Image
from sync.simulator.catalogue import Catalogue, EmptyAnswer, OfferedType, catalogue_of
from sync.simulator.server import Simulator


def image(image_id: str = "m-1", os_tag: str = "CentOS_7.6_64", os_name: str = "CentOS 7.6 64位") -> Image:
    return Image(image_id, os_tag, os_tag, "CentOS", "7.6", "x86_64", os_name, "CentOS 7.6 64 bit")


@pytest.fixture
def catalogue() -> Catalogue:
    images = frozenset({image("m-1"), image("m-2", "Rocky_9.3_64")})
    return catalogue_of(
        {
            "cn-hangzhou": [
                OfferedType("ecs.c7.large", images),
                OfferedType("ecs.g8y.large", frozenset({image("m-3")}), memory_gib=15.5, is_sold_out=True),
                *(OfferedType(f"ecs.none.{way}", empty_answer=way) for way in EmptyAnswer),
            ],
            "cn-shanghai": {"ecs.c7.large": [image("m-4")]},
        }
    )


@pytest.fixture
def simulator(catalogue: Catalogue) -> Iterator[Simulator]:
    with Simulator(catalogue) as running:
        yield running
