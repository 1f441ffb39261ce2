import pytest

from sync.errors import ConfigError
from sync.simulator.stock import stock_images, stock_regions, stock_types
from sync.simulator.timeline import CENTOS_7_6, RETIRED_TYPE, ROCKY_9_3, UBUNTU_22_04, Step, default_timeline

FIRST, SECOND, LAST = "cn-hangzhou", "cn-shanghai", "ap-southeast-1"


@pytest.fixture(scope="module")
def story() -> dict[str, Step]:
    return {step.name: step for step in default_timeline()}


def test_the_baseline_has_the_actors_of_the_story_in_each_region(story: dict[str, Step]) -> None:
    for region_id in (FIRST, SECOND, LAST):
        types = story["baseline"].catalogue.instance_types_of(region_id)
        assert len(types) == 32
        assert {"ecs.c7.large", "ecs.hpc7ip.32xlarge", "ecs.g8y.2xlarge", "ecs.gn7i-c16g1.4xlarge"} <= set(types)


def test_hpc_types_run_only_alibaba_cloud_linux_and_rocky(story: dict[str, Step]) -> None:
    for step in story.values():
        images = step.catalogue.images_of(FIRST, "ecs.hpc7ip.32xlarge")
        assert {image.platform for image in images} == {"Aliyun", "Rocky Linux"}


def test_arm_types_get_arm_images_only(story: dict[str, Step]) -> None:
    images = story["centos-gone"].catalogue.images_of(FIRST, "ecs.g8y.2xlarge")
    assert {image.architecture for image in images} == {"arm64"}


def test_nothing_changes_on_the_quiet_day(story: dict[str, Step]) -> None:
    assert story["quiet-day"].catalogue is story["baseline"].catalogue


def test_rocky_appears_type_by_type(story: dict[str, Step]) -> None:
    before, at_first, later = (
        story[name].catalogue.types_with(ROCKY_9_3, FIRST)
        for name in ("quiet-day", "rocky-appears", "centos-withdrawn-first")
    )
    assert before == ()
    assert 0 < len(at_first) < len(later)


def test_centos_goes_region_by_region(story: dict[str, Step]) -> None:
    names = ("rocky-appears", "centos-withdrawn-first", "centos-withdrawn-second", "centos-gone")
    left = [[r for r in (FIRST, SECOND, LAST) if story[n].catalogue.types_with(CENTOS_7_6, r)] for n in names]
    assert left == [[FIRST, SECOND, LAST], [SECOND, LAST], [LAST], []]


def test_types_are_launched_and_retired(story: dict[str, Step]) -> None:
    assert "ecs.hpc8ae.32xlarge" in story["centos-withdrawn-first"].catalogue.instance_types_of(FIRST)
    assert RETIRED_TYPE in story["centos-withdrawn-first"].catalogue.instance_types_of(SECOND)
    assert RETIRED_TYPE not in story["centos-withdrawn-second"].catalogue.instance_types_of(SECOND)


def test_an_image_gets_another_name_under_the_same_id(story: dict[str, Step]) -> None:
    names = [
        {i.os_name for i in story[step].catalogue.images_of(FIRST, "ecs.c7.large") if i.image_id == UBUNTU_22_04}
        for step in ("centos-withdrawn-first", "centos-withdrawn-second")
    ]
    assert names == [{"Ubuntu 22.04 64位"}, {"Ubuntu 22.04 64位 (长期支持版)"}]


def test_the_accident_empties_one_region_and_is_undone(story: dict[str, Step]) -> None:
    before, during, after = (story[n].catalogue for n in ("centos-withdrawn-second", "accident", "recovered"))
    assert during.images_of(LAST, "ecs.c7.large") == frozenset()
    assert during.images_of(FIRST, "ecs.c7.large") == before.images_of(FIRST, "ecs.c7.large")
    assert during.instance_types_of(LAST) == before.instance_types_of(LAST)
    assert during.pair_count < 0.75 * before.pair_count
    assert after.images_of(LAST, "ecs.c7.large") == before.images_of(LAST, "ecs.c7.large")


def test_every_step_has_its_own_name_and_a_sentence(story: dict[str, Step]) -> None:
    assert len(story) == len(default_timeline()) == 10
    assert all(step.description.endswith(".") for step in story.values())


def test_the_same_arguments_tell_the_same_story() -> None:
    one, other = default_timeline()[3].catalogue, default_timeline()[3].catalogue
    assert one.instance_types_of(SECOND) == other.instance_types_of(SECOND)
    assert one.images_of(SECOND, "*") == other.images_of(SECOND, "*")


def test_regions_differ_in_types_and_images(story: dict[str, Step]) -> None:
    catalogue = story["baseline"].catalogue
    assert catalogue.instance_types_of(FIRST) != catalogue.instance_types_of(SECOND)
    assert catalogue.images_of(FIRST, "ecs.c7.large") != catalogue.images_of(SECOND, "ecs.c7.large")


@pytest.mark.parametrize("region_ids", [("eu-central-1",), ("us-west-1", "cn-beijing"), ("nowhere-1",)])
def test_any_regions_will_do(region_ids: tuple[str, ...]) -> None:
    steps = default_timeline(region_ids=region_ids, types_per_region=18)
    assert steps[-1].catalogue.region_ids == region_ids


def test_a_timeline_grows_beyond_the_real_names() -> None:
    steps = default_timeline(region_ids=tuple(stock_regions())[:2], types_per_region=1_000)
    assert len(steps[0].catalogue.instance_types_of(FIRST)) == 1_000
    assert "ecs.c9i.large" in steps[0].catalogue.instance_types_of(FIRST)


@pytest.mark.parametrize(("region_ids", "types"), [((), 32), (("a", "a"), 32), (("a",), 3), (("a",), 5_000)])
def test_an_impossible_size_is_refused(region_ids: tuple[str, ...], types: int) -> None:
    with pytest.raises(ConfigError):
        default_timeline(region_ids=region_ids, types_per_region=types)


def test_the_stock_is_real_and_unmasked() -> None:
    assert len(stock_types()) == 696
    assert len(stock_regions()) == 25
    assert not [stock for stock in stock_images() if "*" in stock.image.image_id]
    assert all(image.image.os_name and image.image.os_tag for image in stock_images())
