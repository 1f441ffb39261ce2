"""The page of an image: where it is and was, its life line, its changes, and what it says of what it does not know."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from sqlalchemy import insert, select

from sync.render import iso
from sync.store.database import Database
from sync.store.schema import WHOLE_TYPE, held_removal, image, target
from tests.cli.program import Program
from tests.cli.story import CENTOS, Recording, at, baseline
from tests.store.past import record_past
from tests.web.stage import a_source, get, served

Row = dict[str, Any]
WHOLE = {"since": iso(at(-1))}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder."""
    return Program(monkeypatch, tmp_path)


def told_of(url: str, **asked: str) -> Row:
    """Return the twin of the page."""
    answer = requests.get(f"{url}/image.json", params=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


def test_each_region_says_on_how_many_types_an_image_is_since_when_or_until_when(history: Database) -> None:
    with served(a_source(history)) as url:
        rocky, centos = (told_of(url, image=name)["available"] for name in ("m-rocky", "CentOS_7.6_64"))
    names = ("region_id", "available_types", "unknown_types", "all_types", "available_since", "from_baseline")
    assert [tuple(row[name] for name in (*names, "available_until")) for row in rocky] == [
        ("cn-hangzhou", 3, 0, 5, iso(at(1)), False, None)
    ]
    assert [tuple(row[name] for name in (*names, "available_until")) for row in centos] == [
        ("cn-beijing", 0, 1, 1, iso(at(0)), True, None),
        ("cn-hangzhou", 0, 0, 5, iso(at(0)), True, iso(at(2))),
    ]


def test_the_counts_are_those_of_the_views(database: Database) -> None:
    past, _ = record_past(database)
    past.run(failing=[("aa", "t.1", ""), ("bb", "t.2", "tag"), ("bb", "t.2", "")])
    query = """
        SELECT a.region_id, COUNT(DISTINCT a.instance_type) AS types,
               COUNT(DISTINCT CASE WHEN s.unknown_since IS NULL THEN a.instance_type END) AS seen,
               COUNT(DISTINCT CASE WHEN a.missing_since IS NOT NULL THEN a.instance_type END) AS missing
        FROM available_images a JOIN target_status s
          ON s.region_id = a.region_id AND s.instance_type = a.instance_type
         AND s.base_os_tag_filter = a.base_os_tag_filter
        WHERE a.image_id = 'a' GROUP BY a.region_id ORDER BY a.region_id
    """
    with database.reading() as connection:
        expected = [tuple(row) for row in connection.execute(sa.text(query))]
    with served(a_source(database, now=past.clock)) as url:
        rows = told_of(url, image="a")["available"]
    told = [(row, row["available_types"]) for row in rows if row["available_until"] is None]
    assert expected
    assert [
        (row["region_id"], seen + row["unknown_types"], seen, row["missing_types"]) for row, seen in told
    ] == expected


@pytest.mark.parametrize("asked", ["m-centos", "Rocky*", "Ubuntu 22.04 64 bit"])
def test_the_life_line_has_the_rows_of_history(
    history: Database, history_url: str, program: Program, asked: str
) -> None:
    program.configure(database_url=history_url)
    rows = json.loads(program.ask("history", "--image", asked, "--format", "json").out)
    with served(a_source(history)) as url:
        found = told_of(url, image=asked, **WHOLE)
        images = {(row["image_id"], row["os_name"]) for row in found["images"]}
    key = sorted(rows, key=str)
    assert rows
    assert sorted(found["history"], key=str) == key
    assert images == {(row["image_id"], row["os_name"]) for row in rows}


def test_a_period_narrows_the_life_line(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        before = told_of(url, image="m-rocky", since=iso(at(0)), until=iso(at(0.9)))
        during = told_of(url, image="m-rocky", since=iso(at(1.2)), until=iso(at(1.5)))
    assert before["history"] == []
    assert {row["instance_type"] for row in during["history"]} == {"ecs.c7.large", "ecs.c7.xlarge"}


def test_changes_are_those_of_the_image(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        changes = told_of(url, image="m-centos")["changes"]
        page = get(url, "/image?image=m-centos").text
    assert [(row["kind"], row["region_id"], row["instance_types"]) for row in changes] == [
        ("removed", "cn-hangzhou", 2)
    ]
    assert "removed from" in page
    assert 'href="/changes?image=m-centos"' in page


@pytest.mark.parametrize(
    ("asked", "heading", "verdict"),
    [
        ("m-rocky", "Rocky Linux 9.3 64 bit", "<strong>Available</strong> in 1 region, on 3 instance types"),
        ("m-centos", "CentOS 7.6 64 bit", "<strong>Unknown:</strong>"),
        ("m-centos&region=cn-hangzhou", "CentOS 7.6 64 bit", "<strong>Not available any more</strong>"),
        ("m-rocky&region=cn-beijing", "Rocky Linux 9.3 64 bit", "<strong>Never offered</strong>"),
    ],
)
def test_the_page_begins_with_the_name_and_the_answer(
    file_history: Database, asked: str, heading: str, verdict: str
) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, f"/image?image={asked}").text
    assert f"<h1>{heading}" in page
    assert f"<title>{heading} · E-HPC images</title>" in page
    assert verdict in page


def test_held_removals_are_told_with_their_number(file_history: Database) -> None:
    with file_history.writing() as connection:
        target_id = select(target.c.id).where(target.c.instance_type == "ecs.hpc8.large").scalar_subquery()
        key = select(image.c.id).where(image.c.image_id == "m-rocky").scalar_subquery()
        times = {"first_missed_at": at(3), "last_missed_at": at(3), "last_seen_at": at(2)}
        row = insert(held_removal).values(target_id=target_id, image_key=key, missed_runs=1, missed_answers=1)
        connection.execute(row.values(times))
    with served(a_source(file_history)) as url:
        (row_told,) = told_of(url, image="m-rocky")["available"]
        page = get(url, "/image?image=m-rocky").text
    assert row_told["missing_types"] == 1
    assert "missing on 1 type, not believed yet" in page


def test_a_held_type_misses_only_what_it_has(file_history: Database) -> None:
    with file_history.writing() as connection:
        wanted = (target.c.region_id == "cn-hangzhou", target.c.instance_type == "ecs.c7.large")
        target_id = select(target.c.id).where(*wanted).scalar_subquery()
        times = {"first_missed_at": at(3), "last_missed_at": at(3), "last_seen_at": at(2)}
        row = insert(held_removal).values(target_id=target_id, image_key=WHOLE_TYPE, missed_runs=1, missed_answers=1)
        connection.execute(row.values(times))
    with served(a_source(file_history)) as url:
        rocky, centos = (told_of(url, image=name, region="cn-hangzhou") for name in ("m-rocky", "m-centos"))
    assert [row["missing_types"] for row in rocky["available"]] == [1]
    assert [row["missing_types"] for row in centos["available"]] == [0]


def test_a_glob_shows_all_that_it_matches(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        found = told_of(url, image="*64*")
        page = get(url, "/image?image=*64*").text
    assert {row["image_id"] for row in found["images"]} == {"m-centos", "m-rocky", "m-ubuntu"}
    assert "Distinct images" in page


def test_without_an_image_the_page_leads_to_the_search(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page, twin = get(url, "/image"), get(url, "/image.json")
    assert 'href="/search"' in page.text
    assert "<title>Image · E-HPC images</title>" in page.text
    assert twin.json() == {"images": [], "available": [], "history": [], "changes": [], "page": 1, "pages": 1}


def test_a_glob_that_matches_nothing_says_so(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page, twin = get(url, "/image?image=zz*"), get(url, "/image.json?image=zz*")
    assert "No image matches" in page.text
    assert twin.json() == {"images": [], "available": [], "history": [], "changes": [], "page": 1, "pages": 1}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("image=m-cent", "the nearest are m-centos"),
        ("image=m-centos&region=cn-hangzou", "the nearest are cn-hangzhou"),
        ("image=m-centos&until=2199-01-01", "in the future"),
        ("image=m-centos&since=2024-03-01T14:00Z&until=2024-03-01T13:00Z", "exchange them"),
        ("image=m-centos&page=9", "page 9"),
        ("img=m-centos", "did you mean image?"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(file_history: Database, asked: str, sentence: str) -> None:
    with served(a_source(file_history)) as url:
        page, twin = (get(url, f"/image{suffix}?{asked}") for suffix in ("", ".json"))
    assert (page.status_code, twin.status_code) == (400, 400)
    assert sentence in twin.json()["error"]


def test_what_came_from_the_api_is_escaped(file_history: Database) -> None:
    hostile = "</script><img src=x onerror=alert(1)>\"'"
    with file_history.writing() as connection:
        named = {"os_name_en": hostile, "platform": hostile, "image_id": hostile, "os_name": hostile}
        connection.execute(image.update().where(image.c.image_id == "m-rocky").values(named))
        connection.execute(
            target.update().where(target.c.instance_type == "ecs.c7.large").values(instance_type=hostile)
        )
    with served(a_source(file_history)) as url:
        page = get(url, "/image?image=RockyLinux_9.3_64").text
    assert "<img" not in page
    assert hostile in unescape(page)


def test_an_image_without_id_is_found_by_its_tag(sqlite_url: str) -> None:
    from dataclasses import replace

    from sync.simulator.catalogue import with_image_added

    recording = Recording(sqlite_url)
    with recording.simulator as simulator:
        nameless = replace(CENTOS, image_id="", os_tag="CentOS_bare")
        simulator.catalogue = with_image_added(baseline(), nameless, region_id="cn-beijing", instance_type="*")
        recording.make_run()
    with served(a_source(recording.database)) as url:
        found = told_of(url, image="CentOS_bare")
    recording.database.close()
    assert [(row["region_id"], row["available_types"]) for row in found["available"]] == [("cn-beijing", 1)]
