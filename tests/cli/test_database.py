"""`db verify` and `db prune`: what they say, in which format, and how they end."""

import shutil
from datetime import timedelta

import pytest

from sync.inventory import utc_now
from sync.store.database import Database
from sync.store.lease import Lease
from tests.cli.program import Program
from tests.cli.story import at, record_story
from tests.store.builders import execute

CHECKS = ("times", "views", "intervals", "changes", "digests", "gaps", "runs", "held removals")


def damage(statement: str) -> None:
    """Execute a statement that no run would on the program's history."""
    database = Database("sqlite:///history.db")
    execute(database, statement)
    database.close()


def test_a_sound_history_is_said_to_be_sound_check_by_check(reader: Program) -> None:
    answer = reader.ask("db", "verify", "--format", "table")
    lines = answer.out.splitlines()
    assert (answer.code, answer.err) == (0, "")
    assert [line.partition(":")[0] for line in lines[:-1]] == list(CHECKS)
    assert all(line.endswith("examined, sound") for line in lines[:-1])
    assert lines[-1] == "the history is sound"


@pytest.mark.parametrize(
    ("form", "text"),
    [("json", "[]\n"), ("jsonl", ""), ("csv", "check,region_id,instance_type,base_os_tag_filter,image_id,message\n")],
)
def test_a_sound_history_has_no_rows(reader: Program, form: str, text: str) -> None:
    answer = reader.ask("db", "verify", "--format", form)
    assert (answer.code, answer.out, answer.err) == (0, text, "")


def test_a_violation_is_a_row_and_ends_with_1_and_a_remedy(reader: Program) -> None:
    damage("UPDATE target SET image_digest = 'x' WHERE instance_type = 'ecs.c7.xlarge'")
    answer = reader.ask("db", "verify", "--format", "json")
    assert answer.code == 1
    assert answer.one == [
        {
            "check": "digests",
            "region_id": "cn-hangzhou",
            "instance_type": "ecs.c7.xlarge",
            "base_os_tag_filter": "",
            "image_id": "",
            "message": "its digest is not that of its 2 available images",
        }
    ]
    assert "restore a copy" in answer.sentence
    assert "report" in answer.sentence


def test_the_table_names_place_and_image_of_a_violation(reader: Program) -> None:
    damage("DELETE FROM change WHERE kind = 'added' AND target_id = (SELECT min(target_id) FROM change)")
    answer = reader.ask_on_terminal("db", "verify")
    assert answer.code == 1
    assert "changes: 7 examined, 1 violation\n  cn-hangzhou/ecs.c7.large m-rocky: no change says that it" in answer.out
    assert "intervals: 10 examined, sound\n" in answer.out
    assert "restore a copy" in answer.err


def test_a_terminal_sees_how_far_it_is(reader: Program) -> None:
    answer = reader.ask_on_terminal("db", "verify")
    assert (answer.code, "verifying: 7 of 7 targets" in answer.err) == (0, True)


@pytest.mark.parametrize("command", [("verify",), ("prune", "--keep", "1d")])
def test_without_a_history_it_is_a_sentence_and_no_file_appears(program: Program, command: tuple[str, ...]) -> None:
    answer = program.ask("db", *command)
    assert (answer.code, "there is no history" in answer.sentence) == (2, True)
    assert not (program.folder / "ehpc-images.db").exists()


def test_a_file_that_is_no_database_is_a_sentence(program: Program) -> None:
    (program.folder / "ehpc-images.db").write_text("no database " * 1000)
    answer = program.ask("db", "verify")
    assert (answer.code, "another kind of file" in answer.sentence) == (1, True)


def test_pruning_says_what_went_since_when_the_history_is_kept_and_how_the_file_shrinks(program: Program) -> None:
    start = utc_now() - timedelta(hours=240)
    program.configure(database_url="sqlite:///history.db")
    record_story("sqlite:///history.db", start)
    intended = program.ask("db", "prune", "--keep", "14250m", "--dry-run")
    done = program.ask("db", "prune", "--keep", "14250m")
    kept_from = f"{start + timedelta(hours=2):%Y-%m-%d %H:%M:%S} UTC"
    counts = "1 interval, 3 changes, 0 gaps and 0 region runs"
    assert (intended.code, done.code) == (0, 0)
    assert intended.out == f"{counts} would be dropped; the history would be kept from {kept_from} on.\n"
    first, second = done.out.splitlines()
    assert first == f"{counts} were dropped; the history is kept from {kept_from} on."
    assert "VACUUM" in second


def test_a_pruned_history_answers_unknown_before_and_is_sound(reader: Program) -> None:
    now = reader.rows("images")
    assert reader.ask("db", "prune", "--keep", "1d").code == 0
    assert {row["state"] for row in reader.rows("images", "--at", "2024-03-01T12:30:00Z")} == {"unknown"}
    assert reader.rows("images") == now
    assert reader.ask("db", "verify").code == 0


def test_a_second_prune_finds_nothing_to_drop(reader: Program) -> None:
    reader.ask("db", "prune", "--keep", "1d")
    answer = reader.ask("db", "prune", "--keep", "1d")
    assert (answer.code, answer.out.startswith("nothing to drop: the history is kept from 2024-03-01")) == (0, True)


def test_a_later_prune_says_that_more_is_unknown_though_it_drops_no_rows(reader: Program) -> None:
    damage("DELETE FROM change")
    damage("DELETE FROM availability WHERE valid_to < '9'")
    for hour in (1, 2):
        keep = (utc_now() - at(hour)) // timedelta(hours=1)
        answer = reader.ask("db", "prune", "--keep", f"{keep}h")
    assert answer.out.startswith("no rows to drop, but what is older is unknown now: the history is kept from")


def test_a_history_younger_than_the_span_is_left_alone(program: Program) -> None:
    record_story(f"sqlite:///{program.folder / 'young.db'}", utc_now() - timedelta(hours=5))
    answer = program.ask("db", "prune", "--keep", "730d", "--database-url", "sqlite:///young.db")
    assert (answer.code, answer.out.startswith("nothing to drop: no region has a complete run before")) == (0, True)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ("0d", "--keep 0d: it would keep nothing"),
        ("soon", "--keep soon: 'soon' is not a span of time"),
        ("-3d", "--keep -3d: '-3d' is not a span of time"),
        ("999999w", "--keep 999999w: no history is that old"),
    ],
)
def test_a_span_that_cannot_be_is_a_sentence(reader: Program, span: str, reason: str) -> None:
    answer = reader.ask("db", "prune", "--keep", span)
    assert (answer.code, reason in answer.sentence) == (2, True)


def test_the_span_must_be_given(reader: Program) -> None:
    answer = reader.ask("db", "prune")
    assert (answer.code, "--keep" in answer.sentence) == (2, True)


def test_pruning_beside_a_run_ends_with_4_and_writes_nothing(reader: Program) -> None:
    database = Database("sqlite:///history.db")
    lease = Lease(database)
    lease.acquire()
    before = shutil.copy("history.db", "before.db")
    answer = reader.ask("db", "prune", "--keep", "1d")
    lease.release()
    database.close()
    assert (answer.code, "another run is under way" in answer.sentence) == (4, True)
    assert reader.rows("changes", "--database-url", f"sqlite:///{before}") == reader.rows("changes")
