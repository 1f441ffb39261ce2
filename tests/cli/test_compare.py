"""``compare`` on the recorded story: two times, two regions, two instance types."""

import pytest

from sync.compare import COMPARE_COLUMNS, differences
from sync.inventory import ChangeKind
from sync.render import iso
from tests.cli.program import Program, Row
from tests.cli.story import CENTOS, ROCKY, UBUNTU, an_image, at

BASELINE, ROCKY_CAME, CENTOS_WENT, FAILED = (f"2024-03-01T{hour}:30Z" for hour in (12, 13, 14, 15))
C7 = ("--region", "cn-hangzhou", "--instance-type", "ecs.c7.*")


def told(rows: list[Row]) -> list[tuple[str, str, str, str | None]]:
    return [(row["kind"], row["region_id"], row["instance_type"], row["image_id"]) for row in rows]


def test_two_times_differ_by_what_came_and_what_went(reader: Program) -> None:
    assert told(reader.rows("compare", BASELINE, CENTOS_WENT, *C7)) == [
        ("added", "cn-hangzhou", "ecs.c7.large", "m-rocky"),
        ("removed", "cn-hangzhou", "ecs.c7.large", "m-centos"),
        ("added", "cn-hangzhou", "ecs.c7.xlarge", "m-rocky"),
        ("removed", "cn-hangzhou", "ecs.c7.xlarge", "m-centos"),
    ]


def test_a_row_names_both_observations(reader: Program) -> None:
    (row,) = reader.rows("compare", ROCKY_CAME, CENTOS_WENT, "--instance-type", "ecs.c7.xlarge")
    assert (row["before_observed_at"], row["after_observed_at"]) == (iso(at(1)), iso(at(2)))


def test_another_row_of_the_same_image_id_is_a_change(reader: Program) -> None:
    (row,) = reader.rows("compare", BASELINE, ROCKY_CAME, "--instance-type", "ecs.g7.large")
    assert (row["kind"], row["image_id"], row["os_name"]) == ("changed", "m-ubuntu", "Ubuntu LTS")


def test_a_retired_type_has_lost_its_images(reader: Program) -> None:
    rows = reader.rows("compare", ROCKY_CAME, CENTOS_WENT, "--instance-type", "ecs.g7.large")
    assert told(rows) == [("removed", "cn-hangzhou", "ecs.g7.large", "m-ubuntu")]


def test_a_gap_at_either_time_is_unknown_and_no_removal(reader: Program) -> None:
    rows = reader.rows("compare", ROCKY_CAME, FAILED, "--region", "cn-beijing")
    assert told(rows) == [("unknown", "cn-beijing", "ecs.c7.large", None)]
    assert (rows[0]["unknown_side"], rows[0]["before_observed_at"]) == ("after", iso(at(1)))


def test_a_type_that_was_not_observed_yet_was_unknown(reader: Program) -> None:
    rows = reader.rows("compare", ROCKY_CAME, CENTOS_WENT, "--instance-type", "ecs.hpc8.large")
    assert [(row["kind"], row["unknown_side"]) for row in rows] == [("unknown", "before")]


def test_the_second_time_is_now_unless_given(reader: Program) -> None:
    assert reader.rows("compare", CENTOS_WENT, *C7) == []
    assert reader.rows("compare", CENTOS_WENT, "-1d", *C7) == []


def test_an_image_filter_keeps_its_differences(reader: Program) -> None:
    rows = reader.rows("compare", BASELINE, CENTOS_WENT, *C7, "--os-tag", "CentOS*")
    assert {row["kind"] for row in rows} == {"removed"}
    (renamed,) = reader.rows("compare", BASELINE, ROCKY_CAME, "--instance-type", "ecs.g7.large", "--image", "*LTS")
    assert renamed["kind"] == "changed"


def test_two_regions_differ_by_what_each_alone_offers(reader: Program) -> None:
    rows = reader.rows("compare", "--region", "cn-beijing", "--region", "cn-hangzhou", "--at", ROCKY_CAME)
    assert ("added", "cn-hangzhou", "ecs.c7.large", "m-rocky") in told(rows)
    assert ("added", "cn-hangzhou", "ecs.c7.xlarge", "m-centos") in told(rows)  # cn-beijing does not list the type
    assert ("added", "cn-hangzhou", "ecs.c7.large", "m-centos") not in told(rows)


def test_two_regions_the_other_way_round_lose_what_they_gained(reader: Program) -> None:
    there = reader.rows("compare", "--region", "cn-beijing", "--region", "cn-hangzhou", "--at", ROCKY_CAME)
    back = reader.rows("compare", "--region", "cn-hangzhou", "--region", "cn-beijing", "--at", ROCKY_CAME)
    opposite = {"added": "removed", "removed": "added", "unknown": "unknown"}
    assert told(back) == [(opposite[kind], *rest) for kind, *rest in told(there)]


def test_two_instance_types_are_compared_in_each_region(reader: Program) -> None:
    rows = reader.rows(
        "compare", *("--instance-type", "ecs.c7.large"), *("--instance-type", "ecs.g7.large"), "--at", ROCKY_CAME
    )
    assert told(rows) == [
        ("removed", "cn-beijing", "ecs.c7.large", "m-centos"),
        ("removed", "cn-hangzhou", "ecs.c7.large", "m-centos"),
        ("removed", "cn-hangzhou", "ecs.c7.large", "m-rocky"),
        ("changed", "cn-hangzhou", "ecs.g7.large", "m-ubuntu"),
    ]


def test_the_data_formats_have_the_same_columns(reader: Program) -> None:
    header, *lines = reader.ask("compare", BASELINE, FAILED, "--format", "csv").records
    rows = reader.rows("compare", BASELINE, FAILED)
    assert header == list(COMPARE_COLUMNS)
    assert [list(row) for row in rows] == [header] * len(lines)


def test_the_table_names_times_and_groups_types(reader: Program) -> None:
    answer = reader.ask_on_terminal("compare", BASELINE, CENTOS_WENT, *C7)
    words = " ".join(answer.out.split())
    assert words.startswith(
        "from 2024-03-01 12:30 (observed 2024-03-01 12:00) to 2024-03-01 14:30 (observed 2024-03-01 14:00)"
    )
    assert [words.count(kind) for kind in ("removed", "added")] == [1, 1]
    assert answer.out.endswith("times in UTC\n")


def test_a_retired_type_is_not_there_in_the_title(reader: Program) -> None:
    words = " ".join(
        reader.ask_on_terminal("compare", ROCKY_CAME, CENTOS_WENT, "--instance-type", "ecs.g7.large").out.split()
    )
    assert "to 2024-03-01 14:30 (not there)" in words


def test_the_help_shows_each_example_on_a_line(reader: Program) -> None:
    lines = [line.strip() for line in reader.ask("compare", "--help").out.splitlines()]
    assert "compare --instance-type S --instance-type T" in lines


def test_no_difference_is_said_and_is_an_empty_array(reader: Program) -> None:
    answer = reader.ask("compare", CENTOS_WENT, FAILED, *C7, "--format", "json")
    assert (answer.code, answer.one, answer.sentence) == (0, [], "no difference")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs two times, or two different --region"),
        (["--region", "cn-beijing"], "needs two times"),
        (["--region", "cn-beijing", "--region", "cn-beijing"], "two different --region"),
        (["--instance-type", "ecs.c7.*", "--instance-type", "ecs.g7.*"], "which are no globs"),
        ([CENTOS_WENT, BASELINE], "the first is after the second; exchange them"),
        ([BASELINE, BASELINE], "the two times are the same"),
        ([BASELINE, CENTOS_WENT, FAILED], "needs two times"),
        ([BASELINE, CENTOS_WENT, "--at", FAILED], "leave out --at"),
        ([BASELINE, "2999-01-01"], "is in the future"),
        (["noon"], "'noon' is not a time"),
        (
            [
                *("--region", "cn-beijing", "--region", "cn-hangzhou"),
                *("--instance-type", "ecs.c7.large", "--instance-type", "ecs.g7.large"),
            ],
            "compare one of the two pairs at a time",
        ),
        (["--region", "cn-bejing", "--region", "cn-hangzhou"], "the nearest are cn-beijing"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(reader: Program, arguments: list[str], words: str) -> None:
    answer = reader.ask("compare", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.sentence


def test_differences_pair_rows_of_one_image_id_and_no_others() -> None:
    nameless, unnamed = an_image("", "Nameless", "1"), an_image("", "Unnamed", "1")
    renamed = an_image("m-ubuntu", "Ubuntu", "22.10")
    found = differences([CENTOS, UBUNTU, nameless], [renamed, ROCKY, unnamed])
    assert [(entry.kind, entry.image) for entry in found] == [
        (ChangeKind.ADDED, unnamed),
        (ChangeKind.ADDED, ROCKY),
        (ChangeKind.CHANGED, renamed),
        (ChangeKind.REMOVED, nameless),
        (ChangeKind.REMOVED, CENTOS),
    ]
