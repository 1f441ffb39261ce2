"""The overview says what `status` says, what needs a person, and what changed."""

import re
from datetime import timedelta

import pytest

from sync.config import Settings
from sync.store.database import Database
from tests.cli.story import Recording, at
from tests.web.stage import REGIONS, a_source, get, served


def words_of(html: str) -> str:
    """Return what a reader sees of a page, with single blanks."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_it_tells_what_status_tells(history: Database) -> None:
    with served(a_source(history)) as url:
        told = get(url, "/overview.json").json()
    states = {entry["region_id"]: (entry["state"], entry["targets_unknown"]) for entry in told["regions"]}
    assert states == {"cn-beijing": ("failing", 1), "cn-hangzhou": ("failing", 2)}
    assert told["state"] == "attention"
    assert [run["run_id"] for run in told["runs"]] == [4, 3, 2, 1]
    assert told["runs"][0]["status"] == "partial"


def test_the_newest_changes_are_counted_by_kind_image_and_region(history: Database) -> None:
    with served(a_source(history)) as url:
        changes = get(url, "/overview.json").json()["changes"]
    found = {
        (row["run_id"], row["kind"], row["image_id"]): (row["instance_types"], row["first_instance_type"])
        for row in changes
    }
    assert found == {
        (4, "type_added", None): (1, "ecs.new.large"),
        (3, "removed", "m-centos"): (2, "ecs.c7.large"),
        (3, "type_added", None): (1, "ecs.hpc8.large"),
        (3, "type_retired", None): (1, "ecs.g7.large"),
        (2, "added", "m-rocky"): (2, "ecs.c7.large"),
        (2, "changed", "m-ubuntu"): (1, "ecs.g7.large"),
    }


def test_a_reader_sees_what_needs_a_look_and_what_changed(history: Database) -> None:
    with served(a_source(history)) as url:
        words = words_of(get(url, "/overview").text)
    assert "Needs a look: cn-beijing: ecs.c7.large not observed since 2024-03-01 14:00 UTC" in words
    assert "CentOS 7.6 64 bit removed from 2 instance types in cn-hangzhou" in words
    assert "instance type ecs.hpc8.large launched in cn-hangzhou" in words


def test_data_that_are_well_are_said_to_be_well(sqlite_url: str) -> None:
    recording = Recording(sqlite_url)
    with recording.simulator:
        recording.make_run()
    with served(a_source(recording.database, now=lambda: at(0.25))) as url:
        words = words_of(get(url, "/overview").text)
    recording.database.close()
    assert "All is well." in words
    assert "Needs a look" not in words
    assert "Nothing has changed since the first observation." in words


def test_stale_data_are_called_stale(file_history: Database) -> None:
    source = a_source(file_history, settings=Settings(regions=REGIONS, stale_after="1h"), now=lambda: at(12))
    with served(source) as url:
        told = get(url, "/overview.json").json()
        words = words_of(get(url, "/overview").text)
    assert {entry["state"] for entry in told["regions"]} == {"stale"}
    assert "cn-hangzhou has not been observed for 9 h" in words


def test_times_are_shown_in_the_configured_zone(file_history: Database) -> None:
    settings = Settings(regions=REGIONS, timezone="Asia/Shanghai")
    with served(a_source(file_history, settings=settings)) as url:
        html = get(url, "/overview").text
    assert "Times in Asia/Shanghai." in words_of(html)
    begun = at(3) + timedelta(hours=8)
    assert f'<time datetime="2024-03-01T15:00:00.000Z">{begun:%Y-%m-%d %H:%M}</time>' in html


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_an_empty_database_is_told_with_what_to_do(empty_file: Database, suffix: str) -> None:
    with served(a_source(empty_file)) as url:
        answer = get(url, f"/overview{suffix}")
    assert answer.status_code == 503
    assert "ehpc-image-sync run" in answer.text
    assert not empty_file.engine.url.database or empty_file.is_missing_file
