"""Configuration and listed types → what is asked."""

import pytest

from sync.config import Settings
from sync.errors import ConfigError
from sync.inventory import Target
from sync.plan import (
    Restriction,
    check_patterns,
    check_restricted_types,
    check_restriction,
    exact_names,
    needs_discovery,
    planned_types,
    targets_of,
    unmatched_patterns,
)

LISTED = ["ecs.g7.large", "ecs.c7.large", "ecs.c7.xlarge", "ecs.hpc8ae.32xlarge"]


def settings_with(*instance_types: str, **keys: tuple[str, ...] | bool) -> Settings:
    return Settings.model_validate({"instance_types": instance_types, **keys})


def test_discover_plans_every_listed_type_sorted() -> None:
    assert planned_types(LISTED, settings_with("discover")) == sorted(LISTED)


def test_a_glob_plans_the_listed_types_that_match() -> None:
    assert planned_types(LISTED, settings_with("ecs.c7.*")) == ["ecs.c7.large", "ecs.c7.xlarge"]


def test_an_exact_name_is_planned_whether_it_is_listed_or_not() -> None:
    settings = settings_with("ecs.old.large", "ecs.hpc*")
    assert planned_types(LISTED, settings) == ["ecs.hpc8ae.32xlarge", "ecs.old.large"]
    assert exact_names(settings) == ("ecs.old.large",)


def test_a_type_that_several_entries_name_is_planned_once() -> None:
    assert planned_types(LISTED, settings_with("ecs.g7.large", "ecs.g7.*", "discover")) == sorted(LISTED)


def test_excluded_types_are_left_out_of_patterns_and_names() -> None:
    settings = settings_with("discover", "ecs.old.large", exclude_instance_types=("ecs.c7.*", "ecs.old.*"))
    assert planned_types(LISTED, settings) == ["ecs.g7.large", "ecs.hpc8ae.32xlarge"]


@pytest.mark.parametrize(
    ("types", "expected"),
    [(("discover",), True), (("ecs.c7.*",), True), (("ecs.c7.large",), False), (("ecs.a", "ecs.[cg]7"), True)],
)
def test_only_patterns_need_discovery(types: tuple[str, ...], *, expected: bool) -> None:
    assert needs_discovery(settings_with(*types)) is expected


def test_each_type_is_asked_alone_and_with_each_tag() -> None:
    settings = settings_with("discover", base_os_tags=("CentOS_7",), all_types_target=True)
    assert targets_of("r", ["b", "a"], settings) == [
        Target("r", "*", ""),
        Target("r", "*", "CentOS_7"),
        Target("r", "a", ""),
        Target("r", "a", "CentOS_7"),
        Target("r", "b", ""),
        Target("r", "b", "CentOS_7"),
    ]


def test_a_pattern_that_matches_nothing_is_told_with_the_nearest_types() -> None:
    settings = settings_with("ecs.c77*", "ecs.g7.*", "ecs.absent")
    assert unmatched_patterns(settings, LISTED) == ["ecs.c77*"]
    with pytest.raises(ConfigError, match=r"'ecs\.c77\*' matches no instance type; the nearest are ecs\.c7\."):
        check_patterns(settings, LISTED)


def test_a_pattern_is_told_where_no_type_is_known() -> None:
    with pytest.raises(ConfigError, match="no instance type is known yet"):
        check_patterns(settings_with("ecs.*"), [])


def test_a_restriction_admits_names_and_globs() -> None:
    restriction = Restriction(instance_types=("ecs.c7.*", "ecs.g7.large"))
    assert [name for name in LISTED if restriction.admits(name)] == ["ecs.g7.large", "ecs.c7.large", "ecs.c7.xlarge"]
    assert (restriction.covers_whole_regions, restriction.covers_everything) == (False, False)


def test_a_restriction_to_regions_covers_them_whole() -> None:
    restriction = Restriction(region_ids=("r",))
    assert (restriction.covers_whole_regions, restriction.covers_everything) == (True, False)
    assert Restriction().covers_everything


def test_a_restriction_beyond_the_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="--region x: the configuration does not plan it; it plans a, b"):
        check_restriction(Restriction(region_ids=("a", "x")), ["a", "b"])
    with pytest.raises(ConfigError, match=r"no region of this run plans it; the nearest are ecs\.c7\.large"):
        check_restricted_types(Restriction(instance_types=("ecs.c7.lorge",)), LISTED)
