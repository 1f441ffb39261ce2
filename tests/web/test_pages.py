"""What all pages share: addresses, twins, refusals, and that nothing else is loaded or allowed."""

import re
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from sync.store.database import Database
from sync.web.pages import PAGES
from sync.web.visit import Page
from tests.web.stage import a_source, get, served


def test_the_start_leads_to_the_overview(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, "/")
    assert urlsplit(answer.url).path == "/overview"
    assert answer.history[0].status_code == 302


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_answers_and_has_its_twins(file_history: Database, page: Page) -> None:
    name, is_rows = page.name, page.is_rows
    with served(a_source(file_history)) as url:
        kinds = {suffix: get(url, f"/{name}{suffix}").headers["Content-Type"] for suffix in ("", ".json")}
        table = get(url, f"/{name}.csv")
    assert kinds == {"": "text/html; charset=utf-8", ".json": "application/json"}
    assert table.status_code == (200 if is_rows else 404)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_names_its_twins_and_loads_from_here_alone(file_history: Database, page: Page) -> None:
    name = page.name
    with served(a_source(file_history)) as url:
        html = get(url, f"/{name}").text
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', html)
        codes = {part: get(url, part).status_code for part in loaded}
    assert f'href="/{name}.json' in html
    assert loaded
    assert all(urlsplit(urljoin(url, part)).netloc == urlsplit(url).netloc for part in loaded)
    assert set(codes.values()) == {200}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_unknown_parameter_is_refused_with_the_known_ones(file_history: Database, page: Page) -> None:
    name = page.name
    with served(a_source(file_history)) as url:
        answer, twin = get(url, f"/{name}?bogus_thing=1"), get(url, f"/{name}.json?bogus_thing=1")
    assert (answer.status_code, twin.status_code) == (400, 400)
    assert twin.json()["error"].startswith(f"the page {name} has no parameter 'bogus_thing'; ")
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("region=cn-hangzhuo", "region cn-hangzhuo: the history does not know it; the nearest are cn-hangzhou"),
        ("instance_type=ecs.c7.lage", "instance_type ecs.c7.lage: the history does not know it; the nearest are ecs"),
        ("region=" + "x" * 1025, "region: a value is longer than 1024 characters; shorten it"),
    ],
)
def test_a_name_that_the_history_does_not_know_gets_the_nearest(
    file_history: Database, query: str, sentence: str
) -> None:
    with served(a_source(file_history)) as url:
        pages = [page.name for page in PAGES if "instance_type" in page.parameters and "region" in page.parameters]
        answers = [get(url, f"/{name}.json?{query}") for name in pages]
    assert pages
    assert {answer.status_code for answer in answers} == {400}
    assert all(answer.json()["error"].startswith(sentence) for answer in answers)


def test_a_page_may_load_nothing_but_its_own_scripts_and_styles(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        policy = get(url, "/overview").headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_charts_script_comes_from_the_installed_package(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        (address,) = re.findall(r'src="(/plotly\.min\.js\?v=[^"]+)"', get(url, "/timeline").text)
        packed = get(url, address)
        plain = requests.get(f"{url}{address}", headers={"Accept-Encoding": "gzip;q=0"}, timeout=30)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < len(packed.content) / 3
    assert packed.content == plain.content
    assert b"plotly.js v" in plain.content[:200]
    assert "immutable" in plain.headers["Cache-Control"]
