"""The search finds what contains a text, and helps where nothing does."""

import re
from urllib.parse import quote

import pytest
from sqlalchemy import insert, text

from sync.inventory import IMAGE_FIELDS
from sync.store.database import Database
from sync.store.schema import image
from tests.cli.story import NOON
from tests.web.stage import a_source, get, served
from tests.web.test_changes_page import words_of


def found_by(url: str, query: str) -> tuple[list[str], list[str], list[str]]:
    """Return the ids of images, the instance types and the regions that a search finds."""
    data = get(url, f"/search.json?q={query}").json()
    return [row["image_id"] for row in data["images"]], data["instance_types"], data["regions"]


@pytest.mark.parametrize(
    ("query", "images", "types", "regions"),
    [
        ("rocky", ["m-rocky"], [], []),
        ("CENTOS_7", ["m-centos"], [], []),
        ("ubuntu%20lts", ["m-ubuntu"], [], []),
        ("HPC8", [], ["ecs.hpc8.large"], []),
        ("ecs.c7.*", [], ["ecs.c7.large", "ecs.c7.xlarge"], []),
        ("ecs.c?.large", [], ["ecs.c1.large", "ecs.c7.large"], []),
        ("beijing", [], [], ["cn-beijing"]),
        ("c7.l", [], ["ecs.c7.large"], []),
        ("%25", [], [], []),
        ("_7.6_", ["m-centos"], [], []),
    ],
)
def test_it_finds_images_types_and_regions_that_contain_a_text(
    file_history: Database, query: str, images: list[str], types: list[str], regions: list[str]
) -> None:
    with served(a_source(file_history)) as url:
        assert found_by(url, query) == (images, types, regions)


def test_it_finds_the_same_on_every_database(history: Database) -> None:
    with served(a_source(history)) as url:
        assert found_by(url, "uBuNtU") == (["m-ubuntu", "m-ubuntu"], [], [])
        assert found_by(url, "hangzhou") == ([], [], ["cn-hangzhou"])
        assert get(url, "/search.json?q=centos").json()["images"] == [
            {
                "image_id": "m-centos",
                "os_tag": "CentOS_7.6_64",
                "base_os_tag": "CentOS_7.6_64",
                "platform": "CentOS",
                "version": "7.6",
                "architecture": "x86_64",
                "os_name": "CentOS 7.6 64位",
                "os_name_en": "CentOS 7.6 64 bit",
            }
        ]


def test_everything_that_is_found_has_a_link_to_its_page(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        assert '<a href="/image?image=m-rocky">Rocky Linux 9.3 64 bit</a>' in get(url, "/search?q=rocky").text
        assert '<a href="/type?instance_type=ecs.hpc8.large">' in get(url, "/search?q=hpc8").text
        assert '<a href="/matrix?region=cn-beijing">' in get(url, "/search?q=beijing").text


def test_at_most_fifty_are_shown_and_the_others_counted(file_history: Database) -> None:
    rows = [
        {"id": 100 + number, "fingerprint": f"{number:064}", "first_seen_at": NOON}
        | dict.fromkeys(IMAGE_FIELDS, "")
        | {"image_id": f"m-many-{number:03}"}
        for number in range(1, 71)
    ]
    with file_history.writing() as connection:
        connection.execute(insert(image), rows)
    with served(a_source(file_history)) as url:
        data = get(url, "/search.json?q=many").json()
        page = get(url, "/search?q=many").text
    assert [row["image_id"] for row in data["images"]] == [f"m-many-{number:03}" for number in range(1, 51)]
    assert data["more"] == {"images": 20}
    assert page.count('<a href="/image?') == 50
    assert "… and 20 more: type more of the name." in words_of(page)


@pytest.mark.parametrize(
    ("query", "nearest"),
    [("CentOSS_7.6", "CentOS_7.6_64"), ("hangzou", "cn-hangzhou"), ("ecs.hpc9.large", "ecs.hpc8.large")],
)
def test_where_nothing_is_found_the_nearest_names_are_offered(file_history: Database, query: str, nearest: str) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, f"/search?q={query}")
    assert page.status_code == 200
    assert "No image, instance type or region has this in its name." in words_of(page.text)
    assert f'<a href="/search?q={nearest}">{nearest}</a>' in page.text


def test_without_a_text_it_says_what_to_type(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        for query in ("", "?q=", "?q=%20"):
            assert "Type a part of an image id" in words_of(get(url, f"/search{query}").text)
        assert get(url, "/search.json").json() == {"images": [], "instance_types": [], "regions": [], "more": {}}


def test_hostile_texts_and_names_stay_text(file_history: Database) -> None:
    with file_history.writing() as connection:
        connection.execute(text("UPDATE image SET os_name_en = '<b onclick=x>' WHERE image_id = 'm-rocky'"))
    with served(a_source(file_history)) as url:
        pages = [get(url, f"/search?q={query}").text for query in ("m-rocky", "%3Cscript%3E%22", "[(a+)+$", "**?*")]
    assert not [page for page in pages if re.search(r"<b onclick|<script", page)]
    assert "Found for “&lt;script&gt;&#34;”" in pages[1]


def test_a_text_that_is_too_long_is_refused(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, f"/search.json?q={'x' * 1025}")
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "q: a value is longer than 1024 characters; shorten it",
    )


@pytest.mark.parametrize("pattern", ["*" * 100 + "Z", "*a" * 300, "?*" * 200, "[*]" * 50])
def test_a_pattern_full_of_stars_takes_no_longer_than_another(file_history: Database, pattern: str) -> None:
    with served(a_source(file_history)) as url:
        found = get(url, f"/search.json?q={quote(pattern)}").json()
    assert (found["images"], found["instance_types"], found["regions"]) == ([], [], [])


def test_a_parameter_that_stands_there_too_often_is_refused(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, "/changes.json?" + "&".join(f"image=*{number}*" for number in range(101)))
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "image stands in the address 101 times; 100 is the most, or use a glob",
    )
