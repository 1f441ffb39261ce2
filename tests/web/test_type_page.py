"""The page of an instance type: how it stands in each region, what it has, when it was not observed."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from sync.render import iso, to_json
from sync.store.database import Database
from sync.store.history import rows_of
from sync.store.schema import coverage_gap, image, observation_gaps, target, target_status
from tests.cli.program import Program
from tests.cli.story import at
from tests.store.past import record_past
from tests.web.stage import a_source, get, served

Row = dict[str, Any]
WHOLE = {"since": iso(at(-1))}
TYPES = ("ecs.c7.large", "ecs.g7.large", "ecs.c1.large", "ecs.new.large", "ecs.hpc8.large")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder."""
    return Program(monkeypatch, tmp_path)


def told_of(url: str, instance_type: str, **asked: str) -> Row:
    """Return the twin of the page."""
    parameters = {"instance_type": instance_type, **asked}
    answer = requests.get(f"{url}/type.json", params=parameters, timeout=30)
    assert answer.status_code == 200, answer.text
    found: Row = answer.json()
    return found


def plain(rows: list[Row]) -> list[Row]:
    """Return rows as programs read them."""
    found: list[Row] = json.loads(to_json(rows))
    return found


@pytest.mark.parametrize("instance_type", TYPES)
def test_the_twin_has_what_the_commands_and_views_tell(
    history: Database, history_url: str, program: Program, instance_type: str
) -> None:
    program.configure(database_url=history_url)
    asked = ("--instance-type", instance_type, "--format", "json")
    images, spans = (json.loads(program.ask(command, *asked).out) for command in ("images", "history"))
    with served(a_source(history)) as url:
        found = told_of(url, instance_type, **WHOLE)
    with history.reading() as connection:
        of_type = [
            plain(rows_of(connection, sa.select(view).where(view.c.instance_type == instance_type)))
            for view in (target_status, observation_gaps)
        ]
    assert found["images"] == [row for row in images if row["image_id"] is not None]
    assert sorted(found["history"], key=str) == sorted(spans, key=str)
    assert sorted(found["targets"], key=str) == sorted(of_type[0], key=str)
    assert sorted(found["gaps"], key=str) == sorted(of_type[1], key=str)


@pytest.mark.parametrize(
    ("asked", "sentences"),
    [
        ("ecs.c7.large&region=cn-hangzhou", ["available", "2024-03-01 15:00", "It was observed by every run"]),
        ("ecs.c7.large&region=cn-beijing", ["unknown since", "<code>InvalidParameter.Scripted</code>", "still so"]),
        ("ecs.g7.large", ["retired", "It is not offered any more"]),
        ("ecs.hpc8.large", ["launched", "at least since"]),
        ("ecs.new.large", ["unknown", "it was never observed", "InvalidInstanceType.Scripted"]),
        ("ecs.c1.large", ["unknown since", "Nothing is known of its images"]),
        ("ecs.c1.large&until=2024-03-01T13:00Z", ["Nothing was available in this period"]),
    ],
)
def test_the_page_says_how_the_type_stands(file_history: Database, asked: str, sentences: list[str]) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, f"/type?instance_type={asked}").text
    assert [sentence for sentence in sentences if sentence not in page] == []


def test_every_region_has_a_section_where_none_is_named(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, "/type?instance_type=ecs.c7.large").text
    sections = re.findall(r'<details id="images-\d+".*?<summary>(\S+) <small>(.*?)</small>', page, re.DOTALL)
    assert sections == [
        ("cn-beijing", "1 image, unknown: these it had when last observed"),
        ("cn-hangzhou", "2 images"),
    ]
    assert "<title>ecs.c7.large · E-HPC images</title>" in page


def test_what_was_asked_with_a_tag_stands_apart(database: Database) -> None:
    past, _ = record_past(database)
    with served(a_source(database, now=past.clock)) as url:
        page = get(url, "/type?instance_type=t.1&region=aa").text
        found = told_of(url, "t.1", region="aa")
    assert [(row["region_id"], row["base_os_tag_filter"]) for row in found["targets"]] == [("aa", ""), ("aa", "tag")]
    assert "<summary>aa, asked with BaseOsTag tag <small>1 image</small></summary>" in page


def test_missing_images_say_since_when(database: Database) -> None:
    past, _ = record_past(database)
    past.offer("aa", "t.2", frozenset())
    moment = past.run()
    with served(a_source(database, now=past.clock)) as url:
        found = told_of(url, "t.2", region="aa")
        page = get(url, "/type?instance_type=t.2&region=aa").text
    missing = {row["missing_since"] for row in found["images"] if row["base_os_tag_filter"] == ""}
    assert {since[:16] for since in missing} == {iso(moment)[:16]}
    assert '<span class="state warn">missing</span> since' in page


def test_changes_are_those_of_the_type(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        changes = told_of(url, "ecs.g7.large")["changes"]
    assert [(row["kind"], row["image_id"]) for row in changes] == [("type_retired", None), ("changed", "m-ubuntu")]


def test_a_glob_leads_to_the_types_that_it_matches(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page, twin = get(url, "/type?instance_type=ecs.c7.*").text, told_of(url, "ecs.c7.*")
        none = get(url, "/type?instance_type=zz*").text
    assert re.findall(r'<li><a href="/type\?instance_type=(.*?)">', page) == ["ecs.c7.large", "ecs.c7.xlarge"]
    assert [row["instance_type"] for row in twin["targets"]] == ["ecs.c7.large", "ecs.c7.large", "ecs.c7.xlarge"]
    assert "Nothing is known of that" in none


def test_a_type_that_was_never_asked_in_a_region_is_not_known_there(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, "/type?instance_type=ecs.g7.large&region=cn-beijing").text
    assert "no run has asked this instance type in this region" in page


def test_without_a_type_the_page_leads_to_the_search(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page, twin = get(url, "/type"), get(url, "/type.json")
    assert 'href="/search"' in page.text
    assert "<title>Instance type · E-HPC images</title>" in page.text
    assert twin.json() == {"targets": [], "images": [], "history": [], "changes": [], "gaps": [], "page": 1, "pages": 1}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("instance_type=ecs.c7.larg", "the nearest are ecs.c7.large"),
        ("instance_type=ecs.c7.large&region=cn-hangzou", "the nearest are cn-hangzhou"),
        ("instance_type=ecs.c7.large&since=2199-01-01", "in the future"),
        ("instance_type=ecs.c7.large&since=now&until=-1h", "exchange them"),
        ("instance_type=ecs.c7.large&page=9", "page 9"),
        ("type=ecs.c7.large", "no parameter"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(file_history: Database, asked: str, sentence: str) -> None:
    with served(a_source(file_history)) as url:
        page, twin = (get(url, f"/type{suffix}?{asked}") for suffix in ("", ".json"))
    assert (page.status_code, twin.status_code) == (400, 400)
    assert sentence in twin.json()["error"]


def test_what_came_from_the_api_is_escaped(file_history: Database) -> None:
    hostile = "</script><img src=x onerror=alert(1)>\"'"
    with file_history.writing() as connection:
        named = {"os_name_en": hostile, "image_id": hostile, "os_name": hostile}
        connection.execute(image.update().where(image.c.image_id == "m-centos").values(named))
        connection.execute(target.update().where(target.c.region_id == "cn-beijing").values(instance_type=hostile))
        connection.execute(coverage_gap.update().values(message=hostile))
    with served(a_source(file_history)) as url:
        page = requests.get(f"{url}/type", params={"instance_type": hostile}, timeout=30).text
    assert "<img" not in page
    assert unescape(page).count(hostile) > 3
