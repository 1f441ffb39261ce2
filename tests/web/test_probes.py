"""What probes and strangers get: verdicts with reasons, and nothing that they should not see."""

import logging
import re
from collections.abc import Mapping

import pytest
import requests

from sync.config import Settings
from sync.health import find_health
from sync.store.database import Database
from tests.cli.story import at
from tests.web.stage import a_source, get, health_of, served

PATHS = ("/healthz", "/livez", "/metrics")


def broken() -> bool:
    raise RuntimeError("a secret detail")


def test_fresh_data_are_healthy(history: Database) -> None:
    with served(a_source(history)) as url:
        assert health_of(url) == (200, [])


def test_stale_data_are_unhealthy_with_the_reasons_that_status_gives(history: Database) -> None:
    source = a_source(history, now=lambda: at(3.75))
    with history.reading() as connection:
        expected = find_health(connection, source.settings, at(3.75)).outage
    with served(source) as url:
        assert health_of(url) == (503, list(expected))
    assert [reason.split()[0] for reason in expected] == ["cn-beijing"]


def test_a_region_that_was_never_observed_is_named(file_history: Database) -> None:
    settings = Settings(regions=("cn-hangzhou", "cn-shanghai"))
    with served(a_source(file_history, settings=settings)) as url:
        assert health_of(url) == (503, ["cn-shanghai has never been observed"])


def test_the_loop_alone_decides_who_lives(empty_file: Database) -> None:
    alive = [True]
    with served(a_source(empty_file, is_alive=lambda: alive[0])) as url:
        assert get(url, "/livez").status_code == 200
        alive[0] = False
        answer = get(url, "/livez")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert "no sign of life" in answer.json()["reasons"][0]


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_like_get_without_a_body(file_history: Database, path: str) -> None:
    with served(a_source(file_history)) as url:
        answer = requests.head(f"{url}{path}", timeout=30)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_allowed(empty_file: Database, method: str) -> None:
    with served(a_source(empty_file)) as url:
        answer = requests.request(method, f"{url}/healthz", timeout=30)
    assert (answer.status_code, answer.text, answer.headers["Allow"]) == (405, "405 Method Not Allowed\n", "GET, HEAD")


@pytest.mark.parametrize("path", ["/healthz/", "/metrics.json", "/static/x", "/..%2f..%2fetc", "/%3Cb%3E%0A"])
def test_other_paths_are_not_there(empty_file: Database, path: str) -> None:
    with served(a_source(empty_file)) as url:
        answer = get(url, path)
    assert (answer.status_code, answer.text) == (404, "404 Not Found\n")
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_browser_that_finds_nothing_gets_a_page_with_ways_out(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        answer = get(url, "/<script>", Accept="text/html,*/*;q=0.8")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert 'href="/overview"' in answer.text
    assert "<script>" not in answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path", [*PATHS, "/", "/overview", "/overview.json", "/overview?x=1", "/static/style.css", "/static/x", "/nothing"]
)
def test_every_answer_forbids_what_browsers_might_do_with_it(file_history: Database, method: str, path: str) -> None:
    with served(a_source(file_history)) as url:
        headers = requests.request(method, f"{url}{path}", allow_redirects=False, timeout=30).headers
    assert_forbids(headers)
    assert ("Cache-Control", "no-cache") in headers.items() or headers["Cache-Control"] == "no-store"


def assert_forbids(headers: Mapping[str, str]) -> None:
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    expected = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    assert {name: headers[name] for name in expected} == expected
    assert "camera=()" in headers["Permissions-Policy"]
    assert not {"Server", "Access-Control-Allow-Origin", "Set-Cookie"} & set(headers)


def test_an_answer_that_breaks_forbids_the_same(empty_file: Database) -> None:
    with served(a_source(empty_file, is_alive=broken)) as url:
        answer = get(url, "/livez")
    assert answer.status_code == 500
    assert_forbids(answer.headers)


def test_a_file_is_kept_for_a_while_where_its_address_has_the_version(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        page = get(url, "/overview").text
        (address,) = re.findall(r'href="(/static/style\.css\?v=[^"]+)"', page)
        kept, asked = get(url, address), get(url, "/static/style.css")
        other = get(url, "/static/style.css?v=of-another-version")
        again = get(url, "/static/style.css", **{"If-None-Match": asked.headers["ETag"]})
    assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert other.headers["Cache-Control"] == "no-cache"
    assert (asked.headers["Cache-Control"], again.status_code) == ("no-cache", 304)


@pytest.mark.parametrize("debug", ["0", "1"])
def test_what_breaks_is_told_to_the_log_alone(
    empty_file: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, debug: str
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", debug)
    with served(a_source(empty_file, is_alive=broken)) as url, caplog.at_level(logging.ERROR):
        answer = get(url, "/livez")
    assert (answer.status_code, answer.text) == (500, "internal error; the log has the traceback\n")
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("a secret detail",)
    ]


def test_what_breaks_in_a_metric_is_told_to_the_log_alone(
    file_history: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with served(a_source(file_history, next_run_at=broken)) as url, caplog.at_level(logging.ERROR):
        answer = get(url, "/metrics")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert len(caplog.records) == 1
