"""The comparison says what the command line says: removed, added, changed, and unknown, which is never removed."""

import csv
import io

import pytest
from sqlalchemy import text

from sync.compare import COMPARE_COLUMNS
from sync.store.database import Database
from tests.cli.story import at
from tests.store.test_groups import make_tables
from tests.web.stage import a_source, get, served
from tests.web.test_changes_page import words_of

Difference = tuple[str, str, str, str | None, str | None]


def differences(url: str, query: str) -> set[Difference]:
    """Return what the twin tells, each as kind, region, instance type, image and unknown side."""
    answer = get(url, f"/compare.json?{query}")
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert all(tuple(row) == COMPARE_COLUMNS for row in rows)
    names = ("kind", "region_id", "instance_type", "image_id", "unknown_side")
    found = [tuple(row[name] for name in names) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


HANGZHOU_SINCE_NOON: set[Difference] = {
    ("removed", "cn-hangzhou", "ecs.c7.large", "m-centos", None),
    ("removed", "cn-hangzhou", "ecs.c7.xlarge", "m-centos", None),
    ("removed", "cn-hangzhou", "ecs.g7.large", "m-ubuntu", None),
    ("added", "cn-hangzhou", "ecs.c7.large", "m-rocky", None),
    ("added", "cn-hangzhou", "ecs.c7.xlarge", "m-rocky", None),
    ("unknown", "cn-hangzhou", "ecs.c1.large", None, "after"),
    ("unknown", "cn-hangzhou", "ecs.new.large", None, "both"),
    ("unknown", "cn-hangzhou", "ecs.hpc8.large", None, "before"),
}


def test_two_times_differ_as_they_do_on_the_command_line(history: Database) -> None:
    with served(a_source(history)) as url:
        found = differences(url, "region=cn-hangzhou&from=2024-03-01T12:10Z&to=now")
    assert found == HANGZHOU_SINCE_NOON


def test_it_compares_with_a_week_ago_or_with_the_first_run_where_that_is_later(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        assert differences(url, "region=cn-hangzhou") == HANGZHOU_SINCE_NOON
        assert "from 2024-03-01 12:00 (" in words_of(get(url, "/compare").text)
    with served(a_source(file_history, now=lambda: at(24 * 10))) as url:
        assert "from 2024-03-04 12:00 (" in words_of(get(url, "/compare").text)
        assert "from 2024-03-02 12:00 (" in words_of(get(url, "/compare?to=2024-03-09T12:00Z").text)


def test_without_region_and_type_it_compares_the_first_region(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        expected = {("unknown", "cn-beijing", "ecs.c7.large", None, "after")}
        assert differences(url, "") == expected
        assert differences(url, "image=m-rocky") == expected
        assert {row[1] for row in differences(url, "region=*")} == {"cn-beijing", "cn-hangzhou"}


def test_two_regions_are_compared_at_one_time(history: Database) -> None:
    with served(a_source(history)) as url:
        found = differences(url, "region=cn-beijing&region=cn-hangzhou&at=2024-03-01T12:30Z")
    assert found == {
        ("added", "cn-hangzhou", "ecs.c7.large", "m-ubuntu", None),
        ("added", "cn-hangzhou", "ecs.c7.xlarge", "m-centos", None),
        ("added", "cn-hangzhou", "ecs.c7.xlarge", "m-ubuntu", None),
        ("added", "cn-hangzhou", "ecs.g7.large", "m-ubuntu", None),
        # Launched later: what they had at that time nobody has observed.
        ("unknown", "cn-hangzhou", "ecs.hpc8.large", None, "after"),
        ("unknown", "cn-hangzhou", "ecs.new.large", None, "after"),
    }


def test_two_regions_and_a_time_each_side_are_two_times(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        found = differences(url, "region=cn-beijing&region=cn-hangzhou&from=2024-03-01T12:30Z&to=2024-03-01T13:30Z")
    assert {row[0] for row in found} == {"added", "changed", "unknown"}
    assert ("changed", "cn-hangzhou", "ecs.g7.large", "m-ubuntu", None) in found


def test_two_instance_types_are_compared_now(history: Database) -> None:
    with served(a_source(history)) as url:
        found = differences(url, "instance_type=ecs.c7.large&instance_type=ecs.hpc8.large&region=cn-hangzhou")
        words = words_of(get(url, "/compare?instance_type=ecs.c7.large&instance_type=ecs.hpc8.large").text)
    assert found == {("removed", "cn-hangzhou", "ecs.c7.large", "m-ubuntu", None)}
    assert "Only ecs.c7.large 1 image, 1 instance type - Ubuntu 22.04 64 bit m-ubuntu on ecs.c7.large" in words


def test_a_reader_sees_groups_and_that_unknown_is_not_removed(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        words = words_of(get(url, "/compare?region=cn-hangzhou&from=2024-03-01T12:10Z").text)
    removed, added = words.index("Removed 2 images, 3 instance types"), words.index("Added 1 image, 2 instance types")
    unknown = words.index("UNKNOWN at 2024-03-01 15:15 1 instance type")
    assert removed < added < unknown
    assert "CentOS 7.6 64 bit m-centos on ecs.c7.large, ecs.c7.xlarge" in words[removed:added]
    assert "nothing is said of their images, which is not the same as removed. ? ecs.c1.large" in words[unknown:]


def test_the_csv_has_the_same_rows(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        table = list(csv.reader(io.StringIO(get(url, "/compare.csv?region=cn-hangzhou").text)))
        rows = get(url, "/compare.json?region=cn-hangzhou").json()
    assert tuple(table[0]) == COMPARE_COLUMNS
    assert table[1:] == [["" if value is None else value for value in row.values()] for row in rows]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("from=2024-03-01T14:00Z&to=2024-03-01T13:00Z", "from is after to; exchange them"),
        ("from=-1h&to=-1h", "from and to are the same time; give two times"),
        ("from=now", "from and to are the same time; give two times"),
        ("from=2099-01-01", "from: '2099-01-01' is in the future; the history ends now"),
        ("to=soon", "to: 'soon' is not a time; write ISO 8601"),
        ("from=-1h&at=-2h", "from and to are times of their own; leave out at"),
        ("at=-1h", "that is nothing to compare at one time: give two different regions or instance types"),
        ("at=-1h&region=cn-beijing&region=cn-*", "that is nothing to compare at one time"),
        ("at=-1h&instance_type=a*&instance_type=b*&instance_type=c*", "that is nothing to compare at one time"),
        ("region=cn-beijing&region=cn-beijing", "that is nothing to compare at one time"),
        ("instance_type=ecs.*&instance_type=ecs.c*", "that is nothing to compare at one time"),
        (
            "region=cn-beijing&region=cn-hangzhou&instance_type=ecs.c7.large&instance_type=ecs.g7.large",
            "two regions and two instance types: compare one of the two pairs at a time",
        ),
        ("region=cn-nowhere", "region cn-nowhere: the history does not know it"),
    ],
)
def test_what_cannot_be_compared_is_told_in_words_of_the_address(
    file_history: Database, query: str, sentence: str
) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, f"/compare.json?{query}")
        page = get(url, f"/compare?{query}")
    assert (answer.status_code, page.status_code) == (400, 400)
    assert sentence in answer.json()["error"]
    assert "--" not in answer.json()["error"]


def test_no_difference_and_nothing_observed_are_told(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        same = "/compare?instance_type=ecs.c7.*&from=2024-03-01T12:10Z&to=2024-03-01T12:20Z"
        early = "/compare?from=2024-01-01&to=2024-01-02"
        assert "No difference." in words_of(get(url, same).text)
        assert "Nothing was observed at 2024-01-01 00:00; the first observation is of" in words_of(get(url, early).text)


def test_an_empty_history_is_told(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    make_tables(database)
    with served(a_source(database)) as url:
        assert "Nothing has been observed yet." in words_of(get(url, "/compare").text)
        assert get(url, "/compare.json").json() == []
    database.close()


def test_hostile_names_stay_text(file_history: Database) -> None:
    with file_history.writing() as connection:
        connection.execute(text("UPDATE image SET os_name_en = '<script>x</script>' WHERE image_id = 'm-rocky'"))
    with served(a_source(file_history)) as url:
        page = get(url, "/compare?region=cn-hangzhou").text
    assert "<script>x" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
