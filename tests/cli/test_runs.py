"""``runs ID`` on the recorded story: one run, its regions and what it could not observe."""

import pytest

from sync.render import iso
from sync.store.database import Database
from sync.store.runs import FAILURE_COLUMNS
from tests.cli.program import Program
from tests.cli.story import at
from tests.store.builders import execute

FAILED = [
    ("cn-beijing", "ecs.c7.large", "InvalidParameter.Scripted", iso(at(2))),
    ("cn-hangzhou", "ecs.c1.large", "InvalidInstanceType.Scripted", iso(at(2))),
    ("cn-hangzhou", "ecs.new.large", "InvalidInstanceType.Scripted", iso(at(3))),
]


def test_one_run_is_one_object_with_regions_and_failures(reader: Program) -> None:
    run = reader.ask("runs", "4", "--format", "json").one
    assert (run["run_id"], run["status"], run["targets_failed"]) == (4, "partial", 3)
    assert [(entry["region_id"], entry["status"]) for entry in run["regions"]] == [
        ("cn-beijing", "failed"),
        ("cn-hangzhou", "partial"),
    ]
    names = ("region_id", "instance_type", "code", "unknown_since")
    assert [tuple(entry[name] for name in names) for entry in run["failures"]] == FAILED
    assert [entry["cause_run_id"] for entry in run["failures"]] == [4, 4, 4]


def test_rows_are_the_targets_that_were_not_observed(reader: Program) -> None:
    header, *lines = reader.ask("runs", "4", "--format", "csv").records
    assert header == list(FAILURE_COLUMNS)
    assert [line[1] for line in lines] == ["ecs.c7.large", "ecs.c1.large", "ecs.new.large"]


def test_a_run_without_failures_has_none(reader: Program) -> None:
    answer = reader.ask("runs", "2")
    assert (answer.code, answer.out, answer.sentence) == (0, "", "run 2 observed all that it asked")
    assert reader.ask("runs", "2", "--format", "json").one["failures"] == []


def test_the_table_fits_a_terminal_and_has_regions_and_causes(reader: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = reader.ask_on_terminal("runs", "4")
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []
    assert {"regions", "not observed"} <= set(answer.out.splitlines())
    assert answer.out.endswith("times in UTC\n")


def test_an_unknown_run_is_told_with_the_newest(reader: Program) -> None:
    answer = reader.ask("runs", "99")
    assert (answer.code, answer.out) == (2, "")
    assert answer.sentence == "ehpc-image-sync: the history has no run 99; the newest is 4"


@pytest.mark.parametrize("arguments", [["99999999999999999999999"], ["--limit", "99999999999999999999"]])
def test_a_number_beyond_every_run_is_a_usage_error(reader: Program, arguments: list[str]) -> None:
    answer = reader.ask("runs", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "is not in the range" in answer.sentence


def test_failures_that_were_dropped_are_no_failed_discovery(reader: Program) -> None:
    database = Database(f"sqlite:///{reader.folder / 'history.db'}")
    execute(database, "DELETE FROM coverage_gap")
    execute(database, "DELETE FROM region_run")
    database.close()
    answer = reader.ask("runs", "4")
    assert (answer.code, answer.out) == (0, "")
    assert answer.sentence == "3 targets failed; which ones is no longer known of any"
