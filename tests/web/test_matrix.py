"""The matrix: its groups are the rows of ``images --at`` folded, and its table says what they hold."""

import json
import re
from collections import Counter
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from sqlalchemy import insert, select

from sync.inventory import IMAGE_FIELDS
from sync.render import iso, to_json
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.schema import WHOLE_TYPE, held_removal, image, target
from sync.store.snapshot import list_images_at
from tests.cli.program import Program
from tests.cli.story import Recording, an_image, at, baseline
from tests.store.past import record_past
from tests.web.stage import a_source, get, served

HOURS = (-0.5, 0, 0.5, 1, 1.99, 2, 2.5, 3, 3.2)
"""Before the first observation, at runs and between them, while targets are unknown."""

COVERAGE = ("base_os_tag_filter", "state")
Row = dict[str, Any]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder."""
    return Program(monkeypatch, tmp_path)


def matrix_of(url: str, region_id: str, **asked: str) -> Row:
    """Return the twin of one region's matrix."""
    answer = requests.get(f"{url}/matrix.json", params={"region": region_id, **asked}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


def unfolded(matrix: Row) -> Counter[tuple[Any, ...]]:
    """Return the groups as ``images`` tells them: a row per instance type and image, or one of an unknown type."""
    rows: Counter[tuple[Any, ...]] = Counter()
    for group in matrix["groups"]:
        nothing = [dict.fromkeys((*IMAGE_FIELDS, "missing_since"))] if group["state"] == "unknown" else []
        for entry in group["images"] or nothing:
            offer = tuple(entry[name] for name in IMAGE_FIELDS)
            known = entry["missing_since"] is not None, group["observed_at"] is not None
            rows.update((name, *offer, *known, *(group[k] for k in COVERAGE)) for name in group["instance_types"])
    return rows


def told_by(program: Program, region_id: str, *arguments: str) -> list[Row]:
    """Return the program's own rows."""
    answer = program.ask("images", "--region", region_id, *arguments, "--format", "json")
    assert answer.code == 0, answer.err
    rows: list[Row] = json.loads(answer.out)
    return rows


def told_at(database: Database, region_id: str, moment: datetime) -> list[Row]:
    """Return the rows that the program would tell if it were later."""
    with database.reading() as connection:
        rows: list[Row] = json.loads(to_json(list_images_at(connection, moment, Filter((region_id,)))))
    return rows


def folded(rows: list[Row]) -> Counter[tuple[Any, ...]]:
    """Return the rows as ``unfolded`` returns those of groups."""
    return Counter(
        (
            row["instance_type"],
            *(row[name] for name in IMAGE_FIELDS),
            row["missing_since"] is not None,
            row["observed_at"] is not None,
            *(row[name] for name in COVERAGE),
        )
        for row in rows
    )


def assert_times_are_the_earliest(matrix: Row, rows: list[Row]) -> None:
    """Check that what a group tells of its types is the first of their times."""
    for group in matrix["groups"]:
        of_group = [
            row
            for row in rows
            if row["instance_type"] in group["instance_types"]
            and all(row[name] == group[name] for name in COVERAGE)
            and (row["observed_at"] is None) == (group["observed_at"] is None)
        ]
        observed = [row["observed_at"] for row in of_group if row["observed_at"]]
        # A type that is known to have none has no rows.
        assert group["observed_at"] == min(observed, default=group["observed_at"])
        for entry in group["images"]:
            same = [row for row in of_group if all(row[name] == entry[name] for name in IMAGE_FIELDS)]
            assert entry["available_since"] == min(row["available_since"] for row in same)
            assert entry["missing_since"] == (min(row["missing_since"] or "" for row in same) or None)


def test_groups_are_the_rows_of_images_at_every_time_of_the_story(
    history: Database, history_url: str, program: Program
) -> None:
    program.configure(database_url=history_url)
    with served(a_source(history)) as url:
        for hours in HOURS:
            for region_id in ("cn-hangzhou", "cn-beijing"):
                matrix = matrix_of(url, region_id, at=iso(at(hours)))
                rows = told_by(program, region_id, "--at", iso(at(hours)))
                assert unfolded(matrix) == folded(rows)
                assert_times_are_the_earliest(matrix, rows)


def test_groups_are_the_rows_of_images_with_held_removals_gaps_tags_and_retired_types(database: Database) -> None:
    past, began = record_past(database)
    with served(a_source(database, now=past.clock)) as url:
        for region_id in ("aa", "bb"):
            for moment in (*began[1:], past.clock()):
                matrix = matrix_of(url, region_id, at=iso(moment))
                rows = told_at(database, region_id, moment)
                assert unfolded(matrix) == folded(rows)
                assert_times_are_the_earliest(matrix, rows)


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({"instance_type": "ecs.c7.*"}, ("--instance-type", "ecs.c7.*")),
        ({"os_tag": "CentOS_7.6_64"}, ("--os-tag", "CentOS_7.6_64")),
        ({"image": "Rocky*"}, ("--image", "Rocky*")),
    ],
    ids=str,
)
def test_filters_mean_what_they_mean_on_the_command_line(
    file_history: Database, sqlite_url: str, program: Program, asked: dict[str, str], arguments: tuple[str, ...]
) -> None:
    program.configure(database_url=sqlite_url)
    with served(a_source(file_history)) as url:
        for hours in (1.5, 2.5):
            matrix = matrix_of(url, "cn-hangzhou", at=iso(at(hours)), **asked)
            rows = told_by(program, "cn-hangzhou", "--at", iso(at(hours)), *arguments)
            assert rows
            assert unfolded(matrix) == folded(rows)


def test_the_form_offers_the_regions_one_by_one(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        matrix, timeline = (get(url, f"/{page}?region=cn-hangzhou").text for page in ("matrix", "timeline"))
    offered = [re.findall(r"<option.*?>(.*?)</option>", page) for page in (matrix, timeline)]
    assert offered == [["cn-beijing", "cn-hangzhou"], ["all regions", "cn-beijing", "cn-hangzhou"]]
    assert "<option selected>cn-hangzhou</option>" in matrix


def test_available_groups_hold_the_pairs_of_the_view(history: Database) -> None:
    with served(a_source(history)) as url:
        matrix = matrix_of(url, "cn-hangzhou")
    with history.reading() as connection:
        query = "SELECT instance_type, image_id FROM available_images WHERE region_id = 'cn-hangzhou'"
        pairs = {tuple(row) for row in connection.execute(sa.text(query))}
    held = {
        (name, entry["image_id"])
        for group in matrix["groups"]
        for name in group["instance_types"]
        for entry in group["images"]
    }
    assert held == pairs


def test_types_with_the_same_images_in_the_same_state_are_one_group(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        groups = matrix_of(url, "cn-hangzhou")["groups"]
    told = [(group["families"], group["instance_types"], group["state"], group["observed_at"]) for group in groups]
    assert told == [
        (["c7"], ["ecs.c7.large", "ecs.c7.xlarge"], "available", iso(at(3))),
        (["hpc8"], ["ecs.hpc8.large"], "available", iso(at(3))),
        (["c1"], ["ecs.c1.large"], "unknown", iso(at(2))),
        (["new"], ["ecs.new.large"], "unknown", None),
    ]


def cells_of(page: str) -> dict[str, list[str]]:
    """Return the table's rows: by the name of the image what each cell says to who cannot see."""
    found = {}
    for row in re.findall(r"<tr><th scope=\"row\".*?</tr>", page, re.DOTALL):
        name = re.search(r"<a [^>]*>(.*?)</a>", row)
        assert name
        found[unescape(name[1])] = re.findall(r"<td.*?<span class=\"hidden\">(.*?)</span></td>", row)
    return found


def test_the_table_says_what_each_cell_means_without_its_colour(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, "/matrix?region=cn-hangzhou").text
        beijing = get(url, "/matrix?region=cn-beijing").text
    assert cells_of(page) == {
        "Rocky Linux 9.3 64 bit": ["available", "available", "unknown, was absent", "never observed"],
        "Ubuntu 22.04 64 bit": ["available", "absent", "unknown, was absent", "never observed"],
    }
    assert cells_of(beijing) == {"CentOS 7.6 64 bit": ["unknown, was available"]}


def test_held_removals_have_a_sign_of_their_own(file_history: Database) -> None:
    with file_history.writing() as connection:
        wanted = (target.c.region_id == "cn-hangzhou", target.c.instance_type == "ecs.hpc8.large")
        target_id = connection.execute(select(target.c.id).where(*wanted)).scalar_one()
        times = {"first_missed_at": at(3), "last_missed_at": at(3), "last_seen_at": at(2)}
        row = insert(held_removal).values(target_id=target_id, image_key=WHOLE_TYPE, missed_runs=1, missed_answers=1)
        connection.execute(row.values(times))
    with served(a_source(file_history)) as url:
        page = get(url, "/matrix?region=cn-hangzhou&instance_type=ecs.hpc8.*").text
        before = get(url, f"/matrix?region=cn-hangzhou&instance_type=ecs.hpc8.*&at={iso(at(2.9))}").text
    assert cells_of(page) == {"Rocky Linux 9.3 64 bit": ["missing since 2024-03-01 15:00, not believed yet"]}
    assert cells_of(before) == {"Rocky Linux 9.3 64 bit": ["available"]}


def test_a_type_that_misses_an_image_stands_apart_from_those_that_have_it(file_history: Database) -> None:
    with file_history.writing() as connection:
        wanted = (target.c.region_id == "cn-hangzhou", target.c.instance_type == "ecs.c7.large")
        target_id = select(target.c.id).where(*wanted).scalar_subquery()
        key = select(image.c.id).where(image.c.image_id == "m-rocky").scalar_subquery()
        times = {"first_missed_at": at(3), "last_missed_at": at(3), "last_seen_at": at(2)}
        row = insert(held_removal).values(target_id=target_id, image_key=key, missed_runs=1, missed_answers=1)
        connection.execute(row.values(times))
    with served(a_source(file_history)) as url:
        groups = matrix_of(url, "cn-hangzhou", instance_type="ecs.c7.*")["groups"]
    missing = [
        (group["instance_types"], [row["image_id"] for row in group["images"] if row["missing_since"]])
        for group in groups
    ]
    assert missing == [(["ecs.c7.large"], ["m-rocky"]), (["ecs.c7.xlarge"], [])]


def test_builds_with_the_same_tag_share_a_row_that_names_them(sqlite_url: str) -> None:
    from sync.simulator.catalogue import with_image_added

    recording = Recording(sqlite_url)
    newer = an_image("m-centos-2", "CentOS", "7.6")
    with recording.simulator as simulator:
        simulator.catalogue = with_image_added(baseline(), newer, region_id="cn-hangzhou", instance_type="ecs.c7.large")
        recording.make_run()
    with served(a_source(recording.database)) as url:
        page = get(url, "/matrix?region=cn-hangzhou").text
    recording.database.close()
    assert cells_of(page)["CentOS 7.6 64 bit"] == ["absent", "available", "available", "absent"]
    assert 'title="m-centos, m-centos-2"' in page
    assert "c7 (1 of 2)" in page


def test_an_image_without_tag_has_a_row_by_its_name(file_history: Database) -> None:
    with file_history.writing() as connection:
        connection.execute(image.update().where(image.c.image_id == "m-rocky").values(os_tag="", platform=""))
    with served(a_source(file_history)) as url:
        page = get(url, "/matrix?region=cn-hangzhou").text
    assert "Rocky Linux 9.3 64 bit" in cells_of(page)
    assert '/image?image=Rocky+Linux+9.3+64+bit&amp;region=cn-hangzhou"' in page


@pytest.mark.parametrize("asked", ["region=*", "region=cn-hangzhou&region=cn-beijing", "instance_type=ecs.c7.*"])
def test_several_regions_are_shown_one_at_a_time(file_history: Database, asked: str) -> None:
    with served(a_source(file_history)) as url:
        page, twin = (get(url, f"/matrix{suffix}?{asked}") for suffix in ("", ".json"))
    assert "shows one region at a time: this is <strong>cn-beijing</strong>" in page.text
    assert "region=cn-hangzhou" in page.text
    assert twin.json()["region_id"] == "cn-beijing"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("region=cn-hangzhou&at=2024-03-01T11:00Z", "the first observation is of 2024-03-01 12:00"),
        ("region=cn-hangzhou&instance_type=ecs.g7.large", "Nothing is known of that"),
        ("region=zz*", "Nothing is known of that"),
        ("region=cn-hangzhou&instance_type=ecs.c1.*&at=2024-03-01T13:00Z", "known to have none"),
        ("region=cn-hangzhou&instance_type=ecs.new.*", "Unknown: 1 instance type not observed"),
    ],
)
def test_a_matrix_without_images_says_why(file_history: Database, asked: str, sentence: str) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, f"/matrix?{asked}")
    assert answer.status_code == 200
    assert sentence in answer.text


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("region=cn-hangzou", "the nearest are cn-hangzhou"),
        ("at=2199-01-01", "in the future"),
        ("at=soon", "is not a time"),
        ("page=2", "there is no page 2; the last one is 1"),
        ("page=0", "is not a number"),
        ("colour=red", "no parameter"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(file_history: Database, asked: str, sentence: str) -> None:
    with served(a_source(file_history)) as url:
        page, twin = (get(url, f"/matrix{suffix}?{asked}") for suffix in ("", ".json"))
    assert (page.status_code, twin.status_code) == (400, 400)
    assert sentence in twin.json()["error"]


def test_many_groups_are_shown_page_by_page(sqlite_url: str) -> None:
    from sync.simulator.catalogue import catalogue_of

    images = [an_image(f"m-{number}", "CentOS", f"7.{number}") for number in range(45)]
    recording = Recording(sqlite_url)
    with recording.simulator as simulator:
        offers = {f"ecs.c{number}.large": [entry] for number, entry in enumerate(images)}
        simulator.catalogue = catalogue_of({"cn-hangzhou": offers, "cn-beijing": {}})
        recording.make_run()
    with served(a_source(recording.database)) as url:
        first = get(url, "/matrix.json?region=cn-hangzhou")
        second = get(url, first.links["next"]["url"])
        page = get(url, "/matrix?region=cn-hangzhou&page=2").text
    recording.database.close()
    names = [name for part in (first, second) for group in part.json()["groups"] for name in group["instance_types"]]
    assert (len(first.json()["groups"]), first.json()["pages"]) == (40, 2)
    assert names == [f"ecs.c{number}.large" for number in range(45)]
    assert len(cells_of(page)) == 5
    assert "further groups" not in page


def test_what_came_from_the_api_is_escaped(file_history: Database) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'"
    with file_history.writing() as connection:
        named = {"os_name_en": hostile, "platform": hostile, "image_id": hostile, "os_tag": hostile}
        connection.execute(image.update().where(image.c.image_id == "m-rocky").values(named))
        connection.execute(
            target.update().where(target.c.instance_type == "ecs.c7.large").values(instance_type=hostile)
        )
    with served(a_source(file_history)) as url:
        page = get(url, "/matrix?region=cn-hangzhou").text
    assert "<img" not in page
    assert hostile in unescape(page)


def test_a_history_without_observations_says_so(database: Database) -> None:
    from sync.store.lease import Lease

    lease = Lease(database)
    lease.acquire()
    with served(a_source(database)) as url:
        page, twin = get(url, "/matrix"), get(url, "/matrix.json")
    assert "Nothing has been observed yet" in page.text
    assert (twin.json()["region_id"], twin.json()["groups"]) == (None, [])
