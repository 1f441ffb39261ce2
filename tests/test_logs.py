"""Log lines: text for people, JSON for collectors, secrets in neither."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from sync import logs
from sync.logs import JsonFormatter, TextFormatter, configure_logging, hide, redact

CANARY = "canary-1c9e"


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what logging is set to, and forget the secrets of the test."""
    monkeypatch.setattr(logs, "_hidden", set())
    root, ours = logging.getLogger(), logging.getLogger("sync")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def a_record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("sync.run", logging.WARNING, "run.py", 1, message, (), None)
    record.created = 1_772_366_400.5
    record.__dict__ |= fields
    return record


def test_a_text_line_reads_alone() -> None:
    assert TextFormatter().format(a_record("run 3 started")) == "2026-03-01 12:00:00 UTC WARNING run 3 started"


def test_a_json_line_carries_its_values_as_fields() -> None:
    line = JsonFormatter().format(a_record("cn-hangzhou: ok", run_id=3, region_id="cn-hangzhou"))
    assert json.loads(line) == {
        "time": "2026-03-01T12:00:00.500Z",
        "level": "warning",
        "logger": "sync.run",
        "message": "cn-hangzhou: ok",
        "run_id": 3,
        "region_id": "cn-hangzhou",
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_hidden_secrets_reach_no_line_and_no_traceback(formatter: logging.Formatter) -> None:
    hide(CANARY, "")
    try:
        int(f"refused {CANARY}")
    except ValueError:
        line = formatter.format(a_record(f"sent {CANARY}", exc_info=sys.exc_info()))
    assert CANARY not in line
    assert "sent ***" in line
    assert "refused ***" in line


@pytest.mark.parametrize("secret", ['quo"te', "back\\slash", "键-secret"])
def test_a_secret_that_json_would_escape_is_hidden_too(secret: str) -> None:
    hide(secret)
    entry = json.loads(JsonFormatter().format(a_record(f"sent {secret}")))
    assert entry["message"] == "sent ***"


def test_a_secret_inside_a_longer_one_leaves_nothing_behind() -> None:
    hide("abc", "abcdef")
    assert redact("sent abcdef") == "sent ***"


def test_an_empty_secret_hides_nothing() -> None:
    hide("")
    assert redact("plain") == "plain"


@pytest.mark.parametrize(("is_verbose", "expected"), [(False, ["careful"]), (True, ["started", "careful"])])
def test_progress_is_logged_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, *, is_verbose: bool, expected: list[str]
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("json", is_verbose=is_verbose)
    ours = logging.getLogger("sync.run")
    ours.info("started")
    ours.warning("careful")
    logging.getLogger("urllib3").info("noise")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == expected


@pytest.mark.parametrize(("log_format", "is_json"), [("auto", True), ("json", True), ("text", False)])
def test_logs_without_a_terminal_are_json_unless_text_is_wanted(
    monkeypatch: pytest.MonkeyPatch, log_format: str, *, is_json: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(log_format, is_verbose=False)
    logging.getLogger("sync.run").warning("careful")
    assert stream.getvalue().startswith("{") is is_json
