import pytest

from sync.errors import ConfigError
from sync.inventory import Image
from sync.simulator.catalogue import (
    Catalogue,
    OfferedType,
    Region,
    catalogue_of,
    with_image_added,
    with_image_renamed,
    with_image_replaced,
    with_region,
    with_type,
    with_type_sold_out,
    without_image,
    without_images,
    without_region,
    without_type,
)
from tests.simulator.conftest import image


def ids(images: frozenset[Image]) -> set[str]:
    return {known.image_id for known in images}


def test_an_added_image_reaches_only_the_matching_types(catalogue: Catalogue) -> None:
    after = with_image_added(catalogue, image("m-9"), region_id="cn-hangzhou", instance_type="ecs.c7.*")
    assert after.types_with("m-9", "cn-hangzhou") == ("ecs.c7.large",)
    assert after.types_with("m-9", "cn-shanghai") == ()
    assert "m-9" not in catalogue.image_ids()


def test_a_withdrawn_image_is_gone_from_the_named_region_only(catalogue: Catalogue) -> None:
    both = with_image_added(catalogue, image("m-9"))
    after = without_image(both, "m-9", region_id=["cn-shanghai"])
    assert after.types_with("m-9", "cn-shanghai") == ()
    assert "ecs.c7.large" in after.types_with("m-9", "cn-hangzhou")


def test_a_renamed_image_keeps_its_id_and_is_another_row(catalogue: Catalogue) -> None:
    after = with_image_renamed(catalogue, "m-4", "CentOS 7.6 (new)")
    (renamed,) = after.images_of("cn-shanghai", "ecs.c7.large")
    assert (renamed.image_id, renamed.os_name) == ("m-4", "CentOS 7.6 (new)")
    assert after.images_of("cn-hangzhou", "ecs.c7.large") == catalogue.images_of("cn-hangzhou", "ecs.c7.large")


def test_a_replaced_image_takes_the_place_of_the_old_one(catalogue: Catalogue) -> None:
    after = with_image_replaced(catalogue, "m-1", image("m-8"))
    assert ids(after.images_of("cn-hangzhou", "ecs.c7.large")) == {"m-8", "m-2"}


def test_types_without_images_stay_listed(catalogue: Catalogue) -> None:
    after = without_images(catalogue, region_id="cn-shanghai")
    assert after.instance_types_of("cn-shanghai") == ("ecs.c7.large",)
    assert after.images_of("cn-shanghai", "ecs.c7.large") == frozenset()


def test_a_retired_type_is_no_longer_listed(catalogue: Catalogue) -> None:
    after = without_type(catalogue, "ecs.g8y.*", region_id="cn-hangzhou")
    assert "ecs.g8y.large" not in after.instance_types_of("cn-hangzhou")


def test_a_launched_type_brings_its_images(catalogue: Catalogue) -> None:
    after = with_type(catalogue, "cn-shanghai", OfferedType("ecs.c9i.large", frozenset({image("m-5")})))
    assert ids(after.images_of("cn-shanghai", "ecs.c9i.large")) == {"m-5"}
    assert after.type_count == catalogue.type_count + 1


def test_a_sold_out_type_keeps_its_images(catalogue: Catalogue) -> None:
    after = with_type_sold_out(catalogue, "ecs.c7.large", region_id="cn-shanghai")
    assert after.regions["cn-shanghai"].types["ecs.c7.large"].is_sold_out
    assert after.images_of("cn-shanghai", "ecs.c7.large") == catalogue.images_of("cn-shanghai", "ecs.c7.large")


def test_regions_can_open_and_close(catalogue: Catalogue) -> None:
    opened = with_region(catalogue, Region("eu-central-1", "德国"))
    assert opened.region_ids == ("cn-hangzhou", "cn-shanghai", "eu-central-1")
    assert without_region(opened, "cn-shanghai").region_ids == ("cn-hangzhou", "eu-central-1")


def test_all_types_means_the_union_of_a_region(catalogue: Catalogue) -> None:
    assert ids(catalogue.images_of("cn-hangzhou", "*")) == {"m-1", "m-2", "m-3"}


def test_an_edit_that_matches_nothing_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match=r"No instance type .* ecs\.typo"):
        with_image_added(catalogue, image(), instance_type="ecs.typo")
    with pytest.raises(ConfigError, match="No region"):
        with_type(catalogue, "cn-typo", OfferedType("ecs.c7.large"))
    with pytest.raises(ConfigError, match="no region cn-typo"):
        without_region(catalogue, "cn-typo")


def test_a_catalogue_counts_its_types_and_pairs(catalogue: Catalogue) -> None:
    assert (catalogue.type_count, catalogue.pair_count) == (8, 4)


def test_types_that_shared_their_images_share_them_after_an_edit() -> None:
    images = frozenset({image()})
    before = catalogue_of({"cn-hangzhou": [OfferedType("ecs.c7.large", images), OfferedType("ecs.c7.xlarge", images)]})
    after = with_image_added(before, image("m-9"))
    large, xlarge = after.regions["cn-hangzhou"].types.values()
    assert large.images is xlarge.images
