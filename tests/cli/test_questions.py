"""``images``, ``changes``, ``history`` and ``runs`` on a recorded story: rows, filters, formats."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Table

from sync.render import iso
from sync.store.schema import available_images, image_changes, image_history, sync_runs
from tests.cli.program import Program, Row, environment_of
from tests.cli.story import at

QUESTIONS: list[tuple[list[str], Table, list[str]]] = [
    (["images"], available_images, ["state", "observed_at", "next_observed_at"]),
    (["changes"], image_changes, []),
    (["history", "--image", "*"], image_history, []),
    (["runs"], sync_runs, []),
]
IN_HANGZHOU = ("--region", "cn-hangzhou")


def pairs_of(rows: list[Row]) -> list[tuple[str, str, str | None]]:
    return [(row["region_id"], row["instance_type"], row["image_id"]) for row in rows]


@pytest.mark.parametrize(("question", "view", "more"), QUESTIONS, ids=str)
def test_the_data_formats_give_the_same_rows_with_the_views_columns(
    reader: Program, question: list[str], view: Table, more: list[str]
) -> None:
    columns = [*view.columns.keys(), *more]
    rows = reader.rows(*question)
    header, *lines = reader.ask(*question, "--format", "csv").records
    assert [list(row) for row in rows] == [columns] * len(rows)
    assert reader.ask(*question, "--format", "json").one == rows
    assert header == columns
    assert [len(line) for line in lines] == [len(columns)] * len(rows)
    assert reader.ask(*question).rows == rows


@pytest.mark.parametrize("question", [question for question, _, _ in QUESTIONS], ids=str)
def test_a_terminal_gets_a_table_that_names_its_time_zone(reader: Program, question: list[str]) -> None:
    answer = reader.ask_on_terminal(*question)
    assert (answer.code, answer.err) == (0, "")
    assert [line for line in answer.out.splitlines() if line.startswith("times in UTC")]
    assert "{" not in answer.out


def test_images_gives_one_row_per_region_type_and_image(reader: Program) -> None:
    assert pairs_of(reader.rows("images", *IN_HANGZHOU, "--instance-type", "ecs.c7.*")) == [
        ("cn-hangzhou", "ecs.c7.large", "m-rocky"),
        ("cn-hangzhou", "ecs.c7.large", "m-ubuntu"),
        ("cn-hangzhou", "ecs.c7.xlarge", "m-rocky"),
        ("cn-hangzhou", "ecs.c7.xlarge", "m-ubuntu"),
    ]


def test_images_at_a_time_shows_what_was_available_then(reader: Program) -> None:
    asked = ("images", *IN_HANGZHOU, "--instance-type", "ecs.c7.large", "--at")
    assert [row["image_id"] for row in reader.rows(*asked, "2024-03-01T12:59:59Z")] == ["m-centos", "m-ubuntu"]
    assert [row["image_id"] for row in reader.rows(*asked, "2024-03-01T13:00Z")] == ["m-centos", "m-rocky", "m-ubuntu"]
    assert [row["image_id"] for row in reader.rows(*asked, "2024-03-01T14:00Z")] == ["m-rocky", "m-ubuntu"]


def test_an_available_image_carries_its_beginning_and_the_last_observation(reader: Program) -> None:
    asked = ("images", *IN_HANGZHOU, "--instance-type", "ecs.c7.large", "--image", "Rocky*")
    (row,) = reader.rows(*asked, "--at", "2024-03-01T13:30Z")
    assert (row["state"], row["from_baseline"], row["missing_since"]) == ("available", False, None)
    assert (row["available_since"], row["observed_at"]) == (iso(at(1)), iso(at(1)))


def test_a_target_in_a_gap_is_unknown_with_its_last_known_images(reader: Program) -> None:
    (row,) = reader.rows("images", "--region", "cn-beijing")
    assert (row["image_id"], row["state"], row["observed_at"]) == ("m-centos", "unknown", iso(at(2)))


def test_before_its_gap_a_target_was_available(reader: Program) -> None:
    (row,) = reader.rows("images", "--region", "cn-beijing", "--at", "2024-03-01T13:59Z")
    assert (row["image_id"], row["state"], row["observed_at"]) == ("m-centos", "available", iso(at(1)))


@pytest.mark.parametrize(("instance_type", "observed_at"), [("ecs.c1.large", iso(at(2))), ("ecs.new.large", None)])
def test_an_unknown_target_without_images_has_one_row_without_image(
    reader: Program, instance_type: str, observed_at: str | None
) -> None:
    (row,) = reader.rows("images", "--instance-type", instance_type)
    assert (row["image_id"], row["os_tag"], row["state"]) == (None, None, "unknown")
    assert row["observed_at"] == observed_at


def test_a_type_that_is_known_to_have_no_images_has_no_row_and_a_word_on_stderr(reader: Program) -> None:
    answer = reader.ask("images", "--instance-type", "ecs.c1.large", "--at", "2024-03-01T13:00Z")
    assert (answer.code, answer.out) == (0, "")
    assert "known to have none" in answer.sentence


def test_a_retired_type_has_images_until_then_and_none_after(reader: Program) -> None:
    asked = ("images", "--instance-type", "ecs.g7.large")
    assert reader.rows(*asked) == []
    (row,) = reader.rows(*asked, "--at", "2024-03-01T13:59Z")
    assert (row["state"], row["os_name"], row["available_since"]) == ("available", "Ubuntu LTS", iso(at(1)))


def test_before_the_first_observation_every_target_is_unknown(reader: Program) -> None:
    answer = reader.ask("images", "--at", "2024-03-01T11:59Z")
    assert {row["state"] for row in answer.rows} == {"unknown"}
    assert {row["image_id"] for row in answer.rows} == {None}
    assert re.search(r"the first observation is of 2024-03-01 12:00\S* \(UTC\)$", answer.sentence)


def test_only_the_table_groups_types_with_the_same_images(reader: Program) -> None:
    asked = ("images", *IN_HANGZHOU, "--instance-type", "ecs.c7.*")
    table = reader.ask(*asked, "--format", "table").out
    assert table.count("ecs.c7.large, ecs.c7.xlarge  (observed 2024-03-01 15:00)") == 1
    assert table.count("m-rocky") == 1
    assert len(reader.rows(*asked)) == 4


def test_the_table_keeps_unknown_types_apart_by_their_last_observation(reader: Program) -> None:
    table = reader.ask("images", "--format", "table").out
    assert "cn-hangzhou  ecs.c1.large  (UNKNOWN since 2024-03-01 14:00, not observed again)" in table
    assert "cn-hangzhou  ecs.new.large  (UNKNOWN, never observed)" in table


def test_an_image_can_be_named_by_id_tag_and_either_name(reader: Program) -> None:
    names = ["m-centos", "CentOS_7.6_64", "CentOS 7.6 64位", "CentOS 7.6 64 bit", "centos*7.6*"]
    found = [reader.rows("history", "--image", name) for name in names]
    assert pairs_of(found[0]) == [
        ("cn-beijing", "ecs.c7.large", "m-centos"),
        ("cn-hangzhou", "ecs.c7.large", "m-centos"),
        ("cn-hangzhou", "ecs.c7.xlarge", "m-centos"),
    ]
    assert all(rows == found[0] for rows in found)


def test_history_gives_the_life_line_of_an_image(reader: Program) -> None:
    rows = reader.rows("history", "--image", "m-centos")
    spans = {(row["region_id"], row["valid_from"], row["valid_to"], row["from_baseline"]) for row in rows}
    assert spans == {("cn-beijing", iso(at(0)), None, True), ("cn-hangzhou", iso(at(0)), iso(at(2)), True)}


def test_history_of_a_type_has_a_line_per_image_and_span(reader: Program) -> None:
    rows = reader.rows("history", "--instance-type", "ecs.g7.large")
    assert [(row["os_name"], row["valid_from"], row["valid_to"]) for row in rows] == [
        ("Ubuntu 22.04 64位", iso(at(0)), iso(at(1))),
        ("Ubuntu LTS", iso(at(1)), iso(at(2))),
    ]


def test_changes_are_told_in_the_order_of_recording(reader: Program) -> None:
    rows = reader.rows("changes")
    numbers = [row["change_id"] for row in rows]
    assert numbers == sorted(numbers)
    assert {(row["kind"], row["instance_type"], row["image_id"], row["detected_at"]) for row in rows} == {
        ("added", "ecs.c7.large", "m-rocky", iso(at(1))),
        ("added", "ecs.c7.xlarge", "m-rocky", iso(at(1))),
        ("changed", "ecs.g7.large", "m-ubuntu", iso(at(1))),
        ("removed", "ecs.c7.large", "m-centos", iso(at(2))),
        ("removed", "ecs.c7.xlarge", "m-centos", iso(at(2))),
        ("type_retired", "ecs.g7.large", None, iso(at(2))),
        ("type_added", "ecs.hpc8.large", None, iso(at(2))),
        ("type_added", "ecs.new.large", None, iso(at(3))),
    }


def test_a_removal_carries_the_last_observation_that_had_the_image(reader: Program) -> None:
    rows = reader.rows("changes", "--kind", "removed")
    assert [(row["last_seen_at"], row["detected_at"], row["recorded_at"]) for row in rows] == [
        (iso(at(1)), iso(at(2)), iso(at(2)))
    ] * 2


def test_since_includes_its_moment_and_until_does_not(reader: Program) -> None:
    rows = reader.rows("changes", "--since", "2024-03-01T13:00Z", "--until", "2024-03-01T14:00Z")
    assert {row["kind"] for row in rows} == {"added", "changed"}
    assert len(rows) == 3


def test_the_filters_of_changes_narrow_together(reader: Program) -> None:
    asked = ["--kind", "added", "--kind", "removed", "--instance-type", "*.xlarge", "--image", "Rocky*"]
    (row,) = reader.rows("changes", *asked, *IN_HANGZHOU)
    assert (row["kind"], row["instance_type"], row["image_id"]) == ("added", "ecs.c7.xlarge", "m-rocky")
    assert reader.rows("changes", *asked, "--region", "cn-beijing") == []


def test_no_change_is_said_on_stderr(reader: Program) -> None:
    answer = reader.ask("changes", "--since", "now")
    assert (answer.code, answer.out, answer.sentence) == (0, "", "no change matches")


def test_runs_are_shown_newest_first_up_to_the_limit(reader: Program) -> None:
    rows = reader.rows("runs", "--limit", "2")
    assert [(row["run_id"], row["status"], row["targets_failed"]) for row in rows] == [(4, "partial", 3), (3, "ok", 0)]
    assert rows[0]["error"].startswith("InvalidParameter.Scripted: ")


def test_a_history_without_runs_says_how_to_make_one(program: Program) -> None:
    program.configure(database_url="sqlite:///history.db")
    assert program.ask("db", "upgrade").code == 0
    answer = program.ask("runs")
    assert (answer.code, answer.out) == (0, "")
    assert answer.sentence == "no run has been made yet; run: ehpc-image-sync run"
    assert program.ask("images").sentence == "nothing has been observed yet"


def test_no_rows_are_an_empty_array_and_a_bare_header(reader: Program) -> None:
    asked = ("changes", "--since", "now", "--format")
    assert json.loads(reader.ask(*asked, "json").out) == []
    assert len(reader.ask(*asked, "csv").records) == 1


def test_times_are_read_and_shown_in_the_configured_zone(reader: Program) -> None:
    asked = ("images", "--region", "cn-beijing", "--set", "timezone=Asia/Shanghai", "--at", "2024-03-01 21:59")
    assert [row["state"] for row in reader.ask(*asked).rows] == ["available"]
    table = reader.ask(*asked, "--format", "table").out
    assert "(observed 2024-03-01 21:00)" in table
    assert table.endswith("times in Asia/Shanghai\n")


def test_history_says_until_when_it_was_observed_and_what_is_unknown(reader: Program) -> None:
    table = " ".join(reader.ask_on_terminal("history", "--os-tag", "CentOS*").out.split())
    assert "cn-beijing 2024-03-01 12:00 unknown since ecs.c7.large or earlier 2024-03-01 14:00" in table
    assert "times in UTC; observed until 2024-03-01 15:00 3 instance types had times of no observation" in table


def test_the_life_line_of_a_type_has_the_times_of_no_observation(reader: Program) -> None:
    asked = ("history", "--instance-type", "ecs.c7.large", "--region", "cn-beijing")
    table = " ".join(reader.ask_on_terminal(*asked).out.split())
    assert "2024-03-01 14:00 still so UNKNOWN: InvalidParameter.Scripted" in table


def test_a_type_without_images_but_with_gaps_is_not_passed_over(reader: Program) -> None:
    answer = reader.ask("history", "--instance-type", "ecs.c1.large")
    assert (answer.code, answer.out) == (0, "")
    assert answer.sentence.startswith("no image matches; 1 instance type had times of no observation")


def test_what_a_prune_has_dropped_has_no_observation_before_it(reader: Program) -> None:
    assert reader.ask("db", "prune", "--keep", "1d").code == 0
    rows = reader.rows("images", "--region", "cn-beijing", "--at", "2024-03-01T13:30Z")
    assert [(row["state"], row["observed_at"], row["next_observed_at"]) for row in rows] == [
        ("unknown", None, iso(at(2)))
    ]


def test_a_target_that_was_never_asked_is_not_known_to_have_none(reader: Program) -> None:
    answer = reader.ask("images", "--region", "cn-beijing", "--instance-type", "ecs.g7.large", "--format", "json")
    assert (answer.code, answer.one) == (0, [])
    assert answer.sentence == "nothing is known of that: no run has asked this region and instance type"


def test_names_that_begin_with_what_was_typed_are_the_nearest(reader: Program) -> None:
    assert reader.ask("images", "--os-tag", "rocky").sentence.endswith("the nearest are RockyLinux_9.3_64")


def test_a_full_disk_is_a_sentence(reader: Program) -> None:
    with Path("/dev/full").open("w") as full:
        environment = environment_of(reader.folder, EHPC_SYNC_DATABASE_URL="sqlite:///history.db")
        asked = [sys.executable, "-m", "sync", "images", "--format", "csv"]
        ended = subprocess.run(
            asked, env=environment, cwd=reader.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (
        1,
        "ehpc-image-sync: the answer cannot be written: no space is left there; make room\n",
    )


def test_an_os_tag_is_a_filter_of_every_question(reader: Program) -> None:
    for question in (["images", "--at", "2024-03-01T13:30Z"], ["changes"], ["history"]):
        rows = reader.rows(*question, "--os-tag", "RockyLinux*", "--os-tag", "CentOS_7.6_64")
        assert {row["os_tag"] for row in rows if row["image_id"]} == {"RockyLinux_9.3_64", "CentOS_7.6_64"}


def test_an_unknown_target_names_the_observations_around_the_time(reader: Program) -> None:
    (row,) = reader.rows("images", "--instance-type", "ecs.hpc8.large", "--at", "2024-03-01T13:30Z")
    assert (row["state"], row["observed_at"], row["next_observed_at"]) == ("unknown", None, iso(at(2)))


def test_questions_write_nothing(reader: Program) -> None:
    before = (reader.folder / "history.db").read_bytes()
    for question, _, _ in QUESTIONS:
        assert reader.ask(*question).code == 0
    assert reader.ask("accept-removals").code == 0
    assert (reader.folder / "history.db").read_bytes() == before


@pytest.mark.parametrize(
    "question",
    [
        ["images", "--at", "2024-03-01T15:30Z"],
        ["changes"],
        ["history", "--os-tag", "*"],
        ["history", "--instance-type", "ecs.*"],
        ["compare", "2024-03-01T12:30Z", "2024-03-01T15:30Z"],
        ["runs"],
        ["runs", "4"],
    ],
    ids=" ".join,
)
def test_every_table_fits_80_columns(reader: Program, monkeypatch: pytest.MonkeyPatch, question: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = reader.ask_on_terminal(*question)
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []
