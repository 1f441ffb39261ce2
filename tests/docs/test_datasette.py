"""docs/datasette.md and its metadata: Datasette is started with the page's command and asked over HTTP."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from sync.store.schema import views
from tests.docs.pages import DOCS, Block, blocks_of

INSTALL, SERVE, AT_A_TIME, PLATFORMS = blocks_of("datasette.md", "sh")
METADATA = yaml.safe_load((DOCS / "datasette/metadata.yml").read_text("utf-8"))["databases"]["ehpc-images"]
TIMEOUT_S = 60  # a start takes a second; a busy machine may need many


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """The address of a Datasette that the page's command started, on a free port."""
    program, *arguments = shlex.split(SERVE.code)
    command = [str(Path(sys.executable).with_name(program)), *arguments, "--port", "0"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            lines = (re.search(r"running on (http://\S+)", line) for line in process.stderr)
            found = next(filter(None, lines), None)
            assert found, "Datasette ended without a word of its address"
            yield found[1]
        finally:
            process.kill()


def asked(address: str, path: str) -> requests.Response:
    answer = requests.get(address + path, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return answer


def path_of(block: Block) -> str:
    """Return what a curl line asks for, without the server."""
    *_, url = shlex.split(block.code)
    return url.removeprefix("http://127.0.0.1:8001")


def test_the_curl_lines_ask_the_server_that_the_page_starts() -> None:
    for block in (AT_A_TIME, PLATFORMS):
        assert shlex.split(block.code)[:2] == ["curl", "-s"]
        assert urlsplit(shlex.split(block.code)[2]).netloc == "127.0.0.1:8001"


def test_the_lines_of_the_page_give_what_it_shows(address: str) -> None:
    assert asked(address, path_of(AT_A_TIME)).text.replace("\r\n", "\n") == AT_A_TIME.output
    facets = asked(address, path_of(PLATFORMS)).json()["facet_results"]["platform"]["results"]
    assert ", ".join(f"{facet['value']} {facet['count']}" for facet in facets) + "\n" == PLATFORMS.output


def test_the_views_are_shown_and_the_tables_hidden(address: str) -> None:
    database = asked(address, "/ehpc-images.json").json()
    assert [table["name"] for table in database["tables"] if not table["hidden"]] == []
    assert {view["name"] if isinstance(view, dict) else view for view in database["views"]} == set(views.tables)


@pytest.mark.parametrize("name", sorted(views.tables))
def test_a_view_shows_its_facets_and_the_description_of_each_column(address: str, name: str) -> None:
    told = METADATA["tables"][name]
    assert set(views.tables[name].columns.keys()) <= set(told["columns"])
    answer = asked(address, f"/ehpc-images/{name}.json").json()
    assert list(answer["facet_results"]) == told["facets"]
    assert answer["human_description_en"].startswith(f"sorted by {told.get('sort', told.get('sort_desc'))}")
    assert told["title"] in asked(address, f"/ehpc-images/{name}").text


def rows_of(address: str, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = asked(address, f"/ehpc-images/{query}&_shape=array").json()
    return rows


def test_images_at_a_time_understands_an_offset(address: str) -> None:
    rows = rows_of(address, "images_at.json?region=cn-hangzhou&instance_type=ecs.g7.large&at=2024-03-01T20:30%2B08:00")
    assert [(row["state"], row["image_id"], row["valid_to"][:16]) for row in rows] == [
        ("available", "m-ubuntu", "2024-03-01 13:00")
    ]


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("region=cn-beijing&instance_type=&at=2024-03-01T13:30", [("available", "m-centos", None)]),
        ("region=cn-beijing&instance_type=&at=", [("unknown", "m-centos", "InvalidParameter.Scripted")]),
        ("region=&instance_type=ecs.c1.large&at=2024-03-01T13:30", [("none", None, None)]),
        ("region=&instance_type=ecs.c1.large&at=now", [("unknown", None, "InvalidInstanceType.Scripted")]),
        ("region=&instance_type=ecs.hpc8.large&at=2024-03-01T13:30", [("unknown", None, "not observed yet")]),
        ("region=&instance_type=ecs.g7.large&at=2024-03-01T14:30", []),
    ],
)
def test_images_at_a_time_tells_unknown_from_none(
    address: str, query: str, states: list[tuple[str, str | None, str | None]]
) -> None:
    rows = rows_of(address, f"images_at.json?{query}")
    assert [(row["state"], row["image_id"], row["unknown_because"]) for row in rows] == states


def test_a_time_that_cannot_be_read_is_no_empty_answer(address: str) -> None:
    (row,) = rows_of(address, "images_at.json?region=&instance_type=&at=last+week")
    assert row["region_id"] == "not a time: last week"


def test_the_other_queries_answer(address: str) -> None:
    lives = rows_of(address, "life_of_an_image.json?os_tag=CentOS*&region=")
    assert [(row["region_id"], row["valid_to"]) for row in lives] == [
        ("cn-beijing", None),
        ("cn-hangzhou", "2024-03-01 14:00:00.000"),
        ("cn-hangzhou", "2024-03-01 14:00:00.000"),
    ]
    days = rows_of(address, "changes_per_day.json?region=cn-hangzhou")
    assert {row["kind"]: row["changes"] for row in days if row["day"] == "2024-03-01"} == {
        "added": 2,
        "changed": 1,
        "removed": 2,
        "type_added": 2,
        "type_retired": 1,
    }
    unknown = rows_of(address, "unknown_now.json?")
    assert [row["instance_type"] for row in unknown] == ["ecs.c7.large", "ecs.c1.large", "ecs.new.large"]


@pytest.mark.parametrize(
    ("query", "regions"),
    [
        ("os_tag__glob=CentOS*", {"cn-beijing", "cn-hangzhou"}),
        ("os_tag__glob=CentOS*&valid_to__isnull=1", {"cn-beijing"}),
        ("platform=CentOS&region_id=cn-hangzhou", {"cn-hangzhou"}),
    ],
)
def test_filters_go_into_the_address(address: str, query: str, regions: set[str]) -> None:
    rows = asked(address, f"/ehpc-images/image_history.json?{query}&_shape=array").json()
    assert {row["region_id"] for row in rows} == regions


def test_a_page_shows_what_is_written_meanwhile_and_an_immutable_file_does_not(address: str, folder: Path) -> None:
    path = "/ehpc-images/sync_runs.json?_shape=array&_size=1"
    assert asked(address, path).json()[0]["run_id"] == 4
    writer = sqlite3.connect(folder / "ehpc-images.db", isolation_level=None)
    writer.execute("INSERT INTO run (id, started_at, status, \"trigger\") VALUES (5, '2024-03-02', 'running', 'test')")
    assert asked(address, path).json()[0]["run_id"] == 5
    immutable = sqlite3.connect(f"file:{folder / 'ehpc-images.db'}?immutable=1", uri=True)
    assert immutable.execute("SELECT MAX(run_id) FROM sync_runs").fetchone() == (4,)
    immutable.close()
    writer.close()
