"""Rows → tables, JSON, JSON lines, CSV."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.render import change_lines, counted, failure_lines, iso, named, render_pages, render_rows, to_csv
from sync.render.tables import change_grid, held_grid, image_grids, image_life_grids, run_grid, type_life_grids

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMAGE = {
    "image_id": "m-1",
    "os_tag": "CentOS_7.6_64",
    "base_os_tag": "",
    "platform": "CentOS",
    "version": "7.6",
    "architecture": "x86_64",
    "os_name": "CentOS 7.6 64位",
    "os_name_en": "CentOS 7.6 64 bit",
}
NO_IMAGE = dict.fromkeys(IMAGE)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def show(moment: datetime | None) -> str:
    return f"{moment:%H:%M}" if moment else ""


def available(instance_type: str = "ecs.c7.large", **fields: object) -> Mapping[str, Any]:
    row = {"region_id": "r", "instance_type": instance_type, **IMAGE, "available_since": NOON, "from_baseline": False}
    return (
        row
        | {
            "missing_since": None,
            "base_os_tag_filter": "",
            "state": "available",
            "observed_at": at(5),
            "next_observed_at": None,
        }
        | fields
    )


def change(kind: str, instance_type: str = "ecs.c7.large", **fields: object) -> Mapping[str, Any]:
    image = NO_IMAGE if kind.startswith("type_") else IMAGE
    place = {"region_id": "r", "instance_type": instance_type, "run_id": 2, "detected_at": NOON}
    return {"kind": kind} | place | image | fields


def span(instance_type: str = "ecs.c7.large", **fields: object) -> Mapping[str, Any]:
    place = {"region_id": "r", "instance_type": instance_type, "base_os_tag_filter": ""}
    return place | IMAGE | {"valid_from": NOON, "valid_to": None, "from_baseline": False} | fields


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_times_are_iso_in_utc_with_milliseconds(form: str) -> None:
    moment = datetime(2026, 3, 1, 20, 0, 0, 120_999, tzinfo=UTC) - timedelta(hours=8)
    assert iso(moment) == "2026-03-01T12:00:00.120Z"
    assert iso(moment) in render_rows([{"at": moment}], ["at"], form)


def test_json_keeps_other_scripts_readable() -> None:
    text = render_rows([IMAGE], tuple(IMAGE), "json")
    assert "64位" in text
    assert json.loads(text) == [IMAGE]


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(
        st.fixed_dictionaries(
            {"a": st.text(st.characters(exclude_characters="\r\0", codec="utf-8")), "b": st.integers() | st.none()}
        )
    )
)
def test_csv_gives_every_row_and_text_back(rows: list[dict[str, Any]]) -> None:
    header, *lines = csv.reader(io.StringIO(to_csv(rows, ["a", "b"])))
    assert header == ["a", "b"]
    assert lines == [[row["a"], "" if row["b"] is None else str(row["b"])] for row in rows]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none())))
def test_json_and_json_lines_give_every_row_back(rows: list[dict[str, Any]]) -> None:
    assert json.loads(render_rows(rows, (), "json")) == rows
    lines = render_rows(rows, (), "jsonl")
    assert [json.loads(line) for line in lines.split("\n") if line] == rows


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_pages_are_written_as_they_come_and_like_all_rows_at_once(form: str) -> None:
    rows = [{"a": number} for number in range(5)]
    pages = [rows[:2], [], rows[2:4], rows[4:]]
    assert "".join(render_pages(pages, ("a",), form)) == render_rows(rows, ("a",), form) + "\n"

    def failing() -> Iterator[list[dict[str, Any]]]:
        yield rows[:2]
        raise ArithmeticError

    parts = render_pages(failing(), ("a",), form)
    begun = next(parts) + (next(parts) if form == "csv" else "")
    assert "1" in begun
    with pytest.raises(ArithmeticError):
        next(parts)


@pytest.mark.parametrize(("form", "text"), [("json", "[]\n"), ("jsonl", ""), ("csv", "a\n")])
def test_no_rows_are_an_empty_answer_in_every_format(form: str, text: str) -> None:
    assert "".join(render_pages([], ("a",), form)) == "".join(render_pages([[]], ("a",), form)) == text


def test_csv_writes_booleans_as_json_does() -> None:
    assert to_csv([{"a": True, "b": False, "c": []}], ["a", "b", "c"]) == "a,b,c\ntrue,false,[]"


def test_types_with_the_same_images_are_one_table() -> None:
    rows = [available("ecs.c7.large"), available("ecs.c7.xlarge"), available("ecs.g7.large", image_id="m-2")]
    assert [grid.title for grid in image_grids(rows, show)] == [
        "r  ecs.c7.large, ecs.c7.xlarge  (observed 12:05)",
        "r  ecs.g7.large  (observed 12:05)",
    ]


def test_a_group_shows_the_first_and_the_last_beginning() -> None:
    rows = [available("ecs.c7.large"), available("ecs.c7.xlarge", available_since=at(60))]
    (grid,) = image_grids(rows, show)
    assert grid.rows == [("12:00 …\n13:00", "CentOS 7.6 64 bit\nm-1")]


def test_a_baseline_may_be_older_than_its_beginning() -> None:
    (grid,) = image_grids([available(from_baseline=True)], show)
    assert grid.rows == [("12:00\nor earlier", "CentOS 7.6 64 bit\nm-1")]


def test_a_held_image_stands_apart_and_says_since_when_it_is_missing() -> None:
    rows = [available("ecs.c7.large"), available("ecs.c7.xlarge", missing_since=at(3))]
    cells = [grid.rows[0][1] for grid in image_grids(rows, show)]
    assert sorted(cells) == [
        "CentOS 7.6 64 bit\nm-1",
        "CentOS 7.6 64 bit\nm-1\nmissing since 12:03, not believed yet",
    ]


def test_unknown_types_are_grouped_by_their_last_observation() -> None:
    empty = NO_IMAGE | {"state": "unknown", "available_since": None, "from_baseline": None}
    rows = [
        available("a", **empty, observed_at=at(5)),
        available("b", **empty, observed_at=None),
        available("c", **empty, observed_at=at(5)),
    ]
    grids = image_grids(rows, show)
    assert sorted(grid.title for grid in grids) == [
        "r  a, c  (UNKNOWN since 12:05, not observed again)",
        "r  b  (UNKNOWN, never observed)",
    ]
    assert [list(grid.rows) for grid in grids] == [[], []]


def test_a_tag_filter_stands_in_the_title() -> None:
    (grid,) = image_grids([available(base_os_tag_filter="CentOS_7")], show)
    assert grid.title == "r  ecs.c7.large with BaseOsTag CentOS_7  (observed 12:05)"


def test_changes_are_one_line_per_kind_image_and_region() -> None:
    rows = [change("added", f"ecs.c{number}.large") for number in range(1, 7)]
    rows += [change("removed"), change("changed"), change("type_added"), change("type_retired", "ecs.x")]
    assert change_lines(rows) == [
        "+ r: CentOS 7.6 64 bit added to 6 types: ecs.c1.large, ecs.c2.large, ecs.c3.large, …",
        "~ r: CentOS 7.6 64 bit changed on ecs.c7.large",
        "- r: CentOS 7.6 64 bit removed from ecs.c7.large",
        "+ r: instance type launched: ecs.c7.large",
        "- r: instance type retired: ecs.x",
    ]


def test_the_table_of_changes_groups_within_a_run() -> None:
    rows = [change("added", "a"), change("added", "b", detected_at=at(1)), change("added", "c", run_id=3)]
    rows.append(change("type_retired", "d"))
    assert [(line[0], line[1], line[3], line[4]) for line in change_grid(rows, show).rows] == [
        ("12:00", "added", "CentOS 7.6 64 bit\nm-1", "a, b"),
        ("12:00", "added", "CentOS 7.6 64 bit\nm-1", "c"),
        ("12:00", "type_retired", "", "d"),
    ]


def test_spans_of_the_same_runs_are_one_line() -> None:
    rows = [span("a"), span("b", valid_from=at(0.5)), span("c", valid_to=at(60))]
    (grid,) = image_life_grids(rows, show, lambda moment: moment and moment.replace(minute=0, second=0), {})
    assert grid.title == "CentOS 7.6 64 bit  m-1"
    assert grid.rows == [("r", "12:00", "still available", "a, b"), ("r", "12:00", "13:00", "c")]


def test_the_life_of_a_type_lists_its_images() -> None:
    rows = [span(), span(image_id="m-2", valid_to=at(60), from_baseline=True)]
    (grid,) = type_life_grids(rows, show, lambda moment: moment, {}, [])
    assert grid.title == "r  ecs.c7.large"
    assert grid.rows == [
        ("12:00", "still available", "CentOS 7.6 64 bit\nm-1"),
        ("12:00\nor earlier", "13:00", "CentOS 7.6 64 bit\nm-2"),
    ]


def test_images_of_one_name_and_id_are_told_apart_by_what_differs() -> None:
    rows = [span(), span(os_name="CentOS 7.6 (2)")]
    grids = image_life_grids(rows, show, lambda moment: moment, {})
    assert [grid.title for grid in grids] == [
        "CentOS 7.6 64 bit (m-1) [CentOS 7.6 (2)]",
        "CentOS 7.6 64 bit (m-1) [CentOS 7.6 64位]",
    ]


def test_life_lines_are_told_in_the_order_of_time() -> None:
    late, early = span("a", valid_from=at(60)), span("b", valid_to=at(30))
    elsewhere = span("a", region_id="q", valid_from=at(90))
    (grid,) = image_life_grids([late, early, elsewhere], show, lambda moment: moment, {})
    assert [row[:2] for row in grid.rows] == [("q", "13:30"), ("r", "12:00"), ("r", "13:00")]
    gap: Mapping[str, Any] = {"region_id": "r", "instance_type": "a", "base_os_tag_filter": "", "error_code": "x"}
    spans = [late, span("a", image_id="m-2")]
    gaps = [{**gap, "gap_from": at(30), "gap_to": at(40)}, {**gap, "gap_from": at(70), "gap_to": None}]
    (grid,) = type_life_grids(spans, show, lambda moment: moment, {}, gaps)
    assert [row[0] for row in grid.rows] == ["12:00", "12:30", "13:00", "13:10"]
    assert [row[1] for row in grid.rows] == ["still available", "12:40", "still available", "still so"]


def test_an_image_without_names_is_called_by_what_there_is() -> None:
    bare = dict.fromkeys(IMAGE, "") | {"os_tag": "CentOS_7.6_64"}
    (grid,) = image_grids([available(**bare)], show)
    assert grid.rows[0][1] == "CentOS_7.6_64"


def test_a_run_under_way_has_no_duration() -> None:
    counts = ("targets_ok", "targets_failed", "images_added", "images_removed", "images_changed", "removals_held")
    row = {"run_id": 1, "started_at": NOON, "finished_at": None, "status": "running", "error": None}
    (line,) = run_grid([row | dict.fromkeys(counts, 0)], show).rows
    assert line == ("1", "12:00", "", "running", "0", "0", "0", "0", "0", "0", "")


def test_held_removals_are_grouped_by_image() -> None:
    held = {"region_id": "r", "missed_runs": 2, "first_missed_at": NOON}
    rows = [held | IMAGE | {"kind": "removed", "instance_type": name} for name in ("a", "b")]
    rows.append(held | NO_IMAGE | {"kind": "type_retired", "instance_type": "c"})
    assert list(held_grid(rows, show).rows) == [
        ("r", "CentOS 7.6 64 bit", "a, b", "12:00", "2"),
        ("r", "whole instance type", "c", "12:00", "2"),
    ]


def test_failures_are_one_line_per_region_and_cause() -> None:
    def failure(region_id: str, instance_type: str, code: str) -> Mapping[str, Any]:
        return {"region_id": region_id, "instance_type": instance_type, "code": code, "message": "no answer"}

    rows = [failure("r", "a", "network.timeout"), failure("r", "b", "network.timeout"), failure("r", "c", "http.502")]
    rows += [failure("q", "", "NotAuthorized"), failure("", "", "network.dns")]
    assert failure_lines(rows) == [
        "! list of regions: discovery failed: network.dns: no answer",
        "! q: discovery failed: NotAuthorized: no answer",
        "! r: c not observed: http.502: no answer",
        "! r: a, b not observed: network.timeout: no answer",
    ]


def test_numbers_agree_with_their_nouns() -> None:
    assert (counted(1, "image"), counted(0, "image"), counted(1200, "image")) == ("1 image", "0 images", "1,200 images")
    assert named(["b", "a"]) == "a, b"
