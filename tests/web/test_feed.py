"""The feed: valid Atom, an entry per run and region, with ids that stay."""

import re
from xml.etree import ElementTree as ET

import pytest
import requests
from sqlalchemy import text

from sync.store.database import Database
from tests.store.test_groups import at, make_tables, write_many_runs
from tests.web.stage import a_source, get, served

ATOM = "{http://www.w3.org/2005/Atom}"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


def feed_of(url: str, query: str = "", **headers: str) -> ET.Element:
    """Return the feed, read by a parser that refuses what is no XML."""
    answer = get(url, f"/changes.atom{query}", **headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/atom+xml; charset=utf-8")
    return ET.fromstring(answer.content)


def part(element: ET.Element, name: str) -> str:
    """Return the text of the only element of a name."""
    (found,) = element.findall(f"{ATOM}{name}")
    return found.text or ""


def entries_of(feed: ET.Element) -> dict[str, ET.Element]:
    """Return the entries by their titles, in their order."""
    return {part(entry, "title"): entry for entry in feed.findall(f"{ATOM}entry")}


def test_every_run_and_region_has_an_entry_with_its_sentences(history: Database) -> None:
    with served(a_source(history)) as url:
        entries = entries_of(feed_of(url))
    assert {title: part(entry, "summary") for title, entry in entries.items()} == {
        "instance type ecs.new.large launched in cn-hangzhou": "instance type ecs.new.large launched in cn-hangzhou",
        "CentOS 7.6 64 bit removed from ecs.c7.large, ecs.c7.xlarge in cn-hangzhou, and 2 more changes": (
            "CentOS 7.6 64 bit removed from ecs.c7.large, ecs.c7.xlarge in cn-hangzhou<br>\n"
            "instance type ecs.g7.large retired in cn-hangzhou<br>\n"
            "instance type ecs.hpc8.large launched in cn-hangzhou"
        ),
        "Ubuntu 22.04 64 bit changed on ecs.g7.large in cn-hangzhou, and 1 more change": (
            "Ubuntu 22.04 64 bit changed on ecs.g7.large in cn-hangzhou<br>\n"
            "Rocky Linux 9.3 64 bit added to ecs.c7.large, ecs.c7.xlarge in cn-hangzhou"
        ),
    }


def test_a_feed_has_what_the_standard_demands(history: Database) -> None:
    with served(a_source(history)) as url:
        feed = feed_of(url)
    assert feed.tag == f"{ATOM}feed"
    (author,) = feed.findall(f"{ATOM}author")
    assert part(author, "name")
    for element in (feed, *feed.findall(f"{ATOM}entry")):
        assert part(element, "id").startswith("urn:uuid:")
        assert part(element, "title")
        assert TIME.fullmatch(part(element, "updated"))
    newest = max(part(entry, "updated") for entry in feed.findall(f"{ATOM}entry"))
    assert part(feed, "updated") == newest
    ids = [part(element, "id") for element in (feed, *feed.findall(f"{ATOM}entry"))]
    assert len(ids) == len(set(ids))


def test_an_entry_is_as_old_as_its_record(file_history: Database) -> None:
    with file_history.reading() as connection:
        query = "SELECT MAX(recorded_at) FROM image_changes WHERE run_id = 3"
        recorded = str(connection.execute(text(query)).scalar())
    with served(a_source(file_history)) as url:
        entries = list(entries_of(feed_of(url)).values())
    assert part(entries[1], "updated")[:19] == recorded.replace(" ", "T")[:19]


def test_ids_are_the_same_under_every_name_but_not_with_a_filter(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        one = feed_of(url)
        other = feed_of(url, "?region=cn-hangzhou&kind=removed", Host="localhost:8080")
        same = feed_of(url, Host="localhost:8080")
    ids = [part(entry, "id") for entry in one.findall(f"{ATOM}entry")]
    assert [part(entry, "id") for entry in same.findall(f"{ATOM}entry")] == ids
    (removed,) = other.findall(f"{ATOM}entry")
    assert part(removed, "id") not in ids  # it says less than the entry of the whole run
    assert part(removed, "title") == "CentOS 7.6 64 bit removed from ecs.c7.large, ecs.c7.xlarge in cn-hangzhou"
    assert part(other, "id") != part(one, "id")
    assert part(other, "title") == "E-HPC image changes: region cn-hangzhou, kind removed"


def test_links_lead_to_the_page_under_the_name_that_was_asked(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        feed = feed_of(url, "?kind=removed", Host="localhost:8080")
        links = {found.get("rel"): found.get("href") for found in feed.findall(f"{ATOM}link")}
        (entry,) = feed.findall(f"{ATOM}entry")
        (target,) = [found.get("href", "") for found in entry.findall(f"{ATOM}link")]
        page = requests.get(target.replace("http://localhost:8080", url), timeout=30)
    assert links == {
        "alternate": "http://localhost:8080/changes?kind=removed",
        "self": "http://localhost:8080/changes.atom?kind=removed",
    }
    assert target == "http://localhost:8080/changes?kind=removed&region=cn-hangzhou&before=4"
    assert (page.status_code, "CentOS 7.6 64 bit" in page.text) == (200, True)


def test_hostile_names_stay_text_for_whoever_reads_the_summary_as_html(file_history: Database) -> None:
    name = "<img src=x onerror=alert(1)>]]>&amp;\x01\x1b\ufffe"
    with file_history.writing() as connection:
        connection.execute(text("UPDATE image SET os_name_en = :name WHERE image_id = 'm-centos'"), {"name": name})
    with served(a_source(file_history)) as url:
        (entry,) = entries_of(feed_of(url, "?kind=removed")).values()
    shown = "<img src=x onerror=alert(1)>]]>&amp;\ufffd\ufffd\ufffd removed from"
    assert part(entry, "title").startswith(shown)
    assert part(entry, "summary").startswith(
        "&lt;img src=x onerror=alert(1)&gt;]]&gt;&amp;amp;\ufffd\ufffd\ufffd removed from"
    )


def test_the_newest_entries_are_told(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    write_many_runs(database)
    with served(a_source(database, now=lambda: at(100))) as url:
        entries = feed_of(url).findall(f"{ATOM}entry")
    assert len(entries) == 60
    assert [part(entry, "updated")[11:16] for entry in entries[:3]] == ["13:00", "13:00", "12:59"]
    database.close()


def test_a_feed_without_entries_does_not_change_from_answer_to_answer(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    make_tables(database)
    with served(a_source(database)) as url:
        answers = [get(url, "/changes.atom").text for _ in range(2)]
    assert answers[0] == answers[1]
    assert TIME.fullmatch(part(ET.fromstring(answers[0]), "updated"))
    database.close()


@pytest.mark.parametrize("query", ["kind=gone", "before=3", "region=cn-nowhere"])
def test_what_cannot_be_asked_is_refused(file_history: Database, query: str) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, f"/changes.atom?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def test_the_page_names_its_feed(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, "/changes?kind=removed&before=4").text
    assert (
        '<link rel="alternate" type="application/atom+xml" title="Changes" href="/changes.atom?kind=removed">' in page
    )
