"""The changes, run by run: sentences for people, every row for programs, and pages that miss none."""

import csv
import io
import re
from datetime import timedelta
from html import unescape
from urllib.parse import urljoin

import pytest
import requests
from sqlalchemy import text, update

from sync.store.database import Database
from sync.store.schema import change
from tests.cli.story import at
from tests.store.test_groups import RUNS, write_many_runs
from tests.store.test_groups import at as at_run
from tests.web.stage import a_source, get, served


def words_of(html: str) -> str:
    """Return what a reader sees of a page, with single blanks."""
    return re.sub(r" ([,;.])", r"\1", unescape(" ".join(re.sub(r"<[^>]+>", " ", html).split())))


def runs_shown(html: str) -> list[int]:
    """Return the runs of a page, in its order."""
    return [int(found) for found in re.findall(r'<h3 id="run-(\d+)"', html)]


def link(html: str, relation: str) -> str | None:
    """Return where a link of the pager leads."""
    found = re.search(rf'<a rel="{relation}" href="([^"]+)"', html)
    return unescape(found[1]) if found else None


@pytest.fixture
def long_history(sqlite_url: str) -> Database:
    """Sixty runs that changed something."""
    database = Database(sqlite_url)
    write_many_runs(database)
    return database


def test_a_reader_sees_what_changed_with_the_names_of_a_few_types(history: Database) -> None:
    with served(a_source(history)) as url:
        words = words_of(get(url, "/changes").text)
    assert "CentOS 7.6 64 bit removed from ecs.c7.large, ecs.c7.xlarge in cn-hangzhou seen 2024-03-01 14:00" in words
    assert "Rocky Linux 9.3 64 bit added to ecs.c7.large, ecs.c7.xlarge in cn-hangzhou" in words
    assert "instance type ecs.g7.large retired in cn-hangzhou" in words
    assert words.index("run 4") < words.index("run 3") < words.index("run 2")


@pytest.mark.parametrize("query", ["", "?kind=added", "?region=cn-beijing", "?image=m-ubuntu&instance_type=ecs.g7.*"])
def test_the_twins_have_the_rows_of_the_view(history: Database, query: str) -> None:
    condition = {
        "": "1 = 1",
        "?kind=added": "kind = 'added'",
        "?region=cn-beijing": "region_id = 'cn-beijing'",
    }.get(query, "image_id = 'm-ubuntu' AND instance_type = 'ecs.g7.large'")
    with history.reading() as connection:
        view = text(f"SELECT * FROM image_changes WHERE {condition} ORDER BY change_id")
        expected = [dict(row) for row in connection.execute(view).mappings()]
    with served(a_source(history)) as url:
        rows = get(url, f"/changes.json{query}").json()
        table = list(csv.DictReader(io.StringIO(get(url, f"/changes.csv{query}").text)))
    assert [list(row) for row in rows] == [list(row) for row in expected]
    names = ("change_id", "run_id", "kind", "region_id", "instance_type", "image_id", "os_name_en")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in expected]
    assert [row["change_id"] for row in table] == [str(row["change_id"]) for row in expected]


def test_since_is_from_that_time_on_and_until_is_before_it(history: Database) -> None:
    with history.reading() as connection:
        recorded = connection.execute(text("SELECT MIN(recorded_at) FROM image_changes WHERE run_id = 3")).scalar()
    moment = str(recorded).replace("+00:00", "").replace(" ", "T") + "Z"
    with served(a_source(history)) as url:
        later = get(url, f"/changes.json?since={moment}").json()
        earlier = get(url, f"/changes.json?until={moment}").json()
    assert {row["run_id"] for row in later} == {3, 4}
    assert {row["run_id"] for row in earlier} == {2}


def test_following_the_links_of_the_twin_gives_every_change_once(long_history: Database) -> None:
    with long_history.reading() as connection:
        ids = list(connection.execute(text("SELECT id FROM change ORDER BY id")).scalars())
    found: list[int] = []
    with served(a_source(long_history)) as url:
        address: str | None = f"{url}/changes.json"
        while address:
            answer = requests.get(address, timeout=30)
            page = [row["change_id"] for row in answer.json()]
            assert page == sorted(page)
            found = page + found
            following = answer.links.get("next")
            address = urljoin(address, following["url"]) if following else None
    assert found == ids


def test_links_lead_through_all_pages_and_back(long_history: Database) -> None:
    with served(a_source(long_history)) as url:
        pages, address = [], "/changes"
        while address:
            pages.append(get(url, address).text)
            address = link(pages[-1], "next") or ""
        back = [pages[-1]]
        while newer := link(back[-1], "prev"):
            back.append(get(url, newer).text)
    assert [run_id for page in pages for run_id in runs_shown(page)] == list(range(RUNS, 0, -1))
    assert {run_id for page in back for run_id in runs_shown(page)} == set(range(1, RUNS + 1))
    assert runs_shown(back[-1]) == runs_shown(pages[0])
    assert len(pages) > 3


def test_a_page_has_whole_runs_and_stops_before_it_gets_long(long_history: Database) -> None:
    with served(a_source(long_history)) as url:
        before_the_large_run = runs_shown(get(url, "/changes?before=33").text)
        from_the_large_run = runs_shown(get(url, "/changes?before=31").text)
        large = get(url, "/changes.json?before=31").json()
    assert before_the_large_run == [32, 31]
    assert from_the_large_run == [30]
    assert [row["run_id"] for row in large] == [30] * 500


def test_a_filter_stays_in_every_link(long_history: Database) -> None:
    with served(a_source(long_history)) as url:
        page = get(url, "/changes?kind=removed&region=cn-busy-1").text
    assert link(page, "next") == f"/changes?kind=removed&region=cn-busy-1&before={runs_shown(page)[-1]}"
    assert 'href="/changes.csv?kind=removed&amp;region=cn-busy-1"' in page
    assert 'href="/changes.atom?kind=removed&amp;region=cn-busy-1"' in page


def test_what_was_believed_late_says_when_it_happened(file_history: Database) -> None:
    early = {"detected_at": at(1.5), "last_seen_at": at(1)}
    with file_history.writing() as connection:
        connection.execute(update(change).where(change.c.run_id == 3, change.c.kind == "removed").values(early))
    with served(a_source(file_history)) as url:
        words = words_of(get(url, "/changes?kind=removed").text)
    assert "happened between 2024-03-01 13:00 and 2024-03-01 13:30, believed only in this run" in words


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("kind=gone", "kind gone: there is no such kind of change; it is one of added, removed, changed, type_added,"),
        ("since=2024-03-01T13:00Z&until=2024-03-01T12:00Z", "until 2024-03-01T12:00Z is not after since 2024-03-01T13"),
        ("since=2099-01-01", "since: '2099-01-01' is in the future"),
        ("before=0", "before: '0' is not a number from 1 to"),
        ("image=m-cent", "image m-cent: the history does not know it; the nearest are m-centos"),
        ("page=2", "the page changes has no parameter 'page'"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_sentence(file_history: Database, query: str, sentence: str) -> None:
    with served(a_source(file_history)) as url:
        answers = [get(url, f"/changes{suffix}?{query}") for suffix in ("", ".json", ".csv")]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert sentence.lower() in words_of(answers[0].text).lower()
    assert sentence in answers[1].json()["error"]


def test_nothing_that_matches_is_told(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        assert "No change matches." in words_of(get(url, "/changes?region=cn-beijing").text)
        assert "No change matches." in words_of(get(url, "/changes?since=-1m").text)
        assert get(url, "/changes.json?region=cn-beijing").json() == []


def test_hostile_names_are_shown_as_they_are(file_history: Database) -> None:
    with file_history.writing() as connection:
        connection.execute(
            text("UPDATE image SET os_name_en = '<script>x</script>\" onload=' WHERE image_id = 'm-rocky'")
        )
    with served(a_source(file_history)) as url:
        html = get(url, "/changes").text
    assert "<script>x" not in html
    assert "&lt;script&gt;x&lt;/script&gt;&#34; onload= added to" in " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_a_time_between_two_runs_parts_them(long_history: Database) -> None:
    middle = (at_run(55) + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    now = lambda: at_run(RUNS + 1)  # noqa: E731 - a clock
    with served(a_source(long_history, now=now)) as url:
        assert runs_shown(get(url, f"/changes?since={middle}").text)[-1] == 56
        assert runs_shown(get(url, f"/changes?until={middle}").text)[0] == 55
