"""Each promise of DESIGN section 4 about images in a test of its own, named after it."""

from collections.abc import Collection

import pytest

from sync.accept import accept_removals
from sync.config import Settings
from sync.errors import ExitCode
from sync.inventory import Image, RunStatus, Target
from tests.job.fake import Fault, Script, row, rows
from tests.job.journal import Row
from tests.job.judge import FAULT, KEPT, MANY, A, Judge

# --- only a complete observation can remove


@pytest.mark.parametrize("code", ["network.timeout", "NotAuthorized", "answer.unreadable", "http.502"])
def test_a_failure_removes_nothing_and_opens_a_gap(judge: Judge, code: str) -> None:
    judge.run(rows("a", "b"))
    judge.run(Fault(code))
    assert judge.now() == dict.fromkeys(rows("a", "b"))
    assert [gap["error_code"] for gap in judge.view("observation_gaps")] == [code]


def test_failures_never_add_up_to_a_removal(judge: Judge) -> None:
    judge.run(rows("a"))
    for _ in range(4):
        judge.run(FAULT)
    assert (judge.now(), judge.kinds()) == ({row("a"): None}, [])


def test_the_next_good_answer_ends_the_gap_although_nothing_has_changed(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.run(FAULT)
    judge.run(rows("a"))
    (gap,) = judge.view("observation_gaps")
    assert (gap["gap_to"], judge.kinds()) == (judge.asked_at()[0], [])


# --- missing means missing from several answers


def test_an_image_missing_from_two_answers_of_one_run_is_removed(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    judge.run(rows("b"))
    assert (judge.now(), judge.kinds()) == ({row("b"): None}, ["removed"])


def test_an_image_that_was_removed_and_returns_is_added(judge: Judge) -> None:
    for images in (rows("a", "b"), rows("b"), rows("a", "b")):
        judge.run(images)
    assert (judge.kinds(), judge.offered()) == (["removed", "added"], rows("a", "b"))


def test_an_image_that_the_second_answer_shows_again_changes_nothing(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    result = judge.run(rows("b"), rows("a", "b"))
    assert (result.status, judge.kinds(), len(judge.asked_at())) == (RunStatus.OK, [], 2)
    assert judge.now() == dict.fromkeys(rows("a", "b"))


def test_nothing_is_asked_twice_while_nothing_is_missing(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.run(rows("a", "b"))
    assert len(judge.asked_at()) == 1


def test_the_observation_of_a_run_is_the_union_of_its_answers(judge: Judge) -> None:
    judge.run(rows("a", "b", "c"))
    judge.run(rows("a", "x"), rows("b", "y"))
    assert judge.offered() == rows("a", "b", "x", "y")


def test_a_failing_second_call_leaves_the_target_observed_and_holds_the_removal(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    result = judge.run(rows("b", "new"), FAULT)
    assert (result.status, result.counts.targets_failed, result.counts.removals_held) == (RunStatus.HELD, 0, 1)
    assert judge.now() == {row("a"): judge.asked_at()[0], row("b"): None, row("new"): None}


def test_answers_in_a_row_count_across_runs(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    judge.run(rows("b"), FAULT)
    first_missed_at = judge.asked_at()[0]
    judge.run(rows("b"))
    assert len(judge.asked_at()) == 1
    assert [(entry["kind"], entry["detected_at"]) for entry in judge.view("image_changes")] == [
        ("removed", first_missed_at)
    ]


def test_an_answer_that_has_the_image_begins_the_count_anew(judge: Judge) -> None:
    judge.values["removal_confirmations"] = 3
    judge.run(rows("a", "b"))
    judge.run(rows("b"), rows("b"), FAULT)
    judge.run(rows("a", "b"))
    judge.run(rows("b"), rows("b"), FAULT)
    assert (judge.offered(), judge.kinds()) == (rows("a", "b"), [])


@pytest.mark.parametrize("confirmations", [1, 2, 3])
def test_a_removal_takes_as_many_answers_as_configured(judge: Judge, confirmations: int) -> None:
    judge.values["removal_confirmations"] = confirmations
    judge.run(rows("a"))
    judge.run(frozenset())
    assert (len(judge.asked_at()), judge.kinds()) == (confirmations, ["removed"])


def test_a_types_last_image_can_be_removed(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.run(frozenset())
    assert (judge.now(), judge.kinds()) == ({}, ["removed"])
    assert [entry["image_count"] for entry in judge.view("target_status")] == [0]


# --- changed


def test_a_row_with_the_same_image_id_replaces_the_old_one_as_one_change(judge: Judge) -> None:
    judge.run(frozenset({row("old", "m-1")}))
    seen_at = judge.asked_at()[-1]
    judge.run(frozenset({row("new", "m-1")}))
    (change,) = judge.view("image_changes")
    assert (change["kind"], change["os_name"], change["detected_at"]) == ("changed", "new", judge.asked_at()[-1])
    assert change["last_seen_at"] <= seen_at
    assert judge.offered() == frozenset({row("new", "m-1")})


def test_a_replaced_row_that_the_second_answer_shows_again_was_not_replaced(judge: Judge) -> None:
    old, new = row("old", "m-1"), row("new", "m-1")
    judge.run(frozenset({old}))
    judge.run(frozenset({new}), frozenset({old, new}))
    assert (judge.offered(), judge.kinds()) == (frozenset({old, new}), ["added"])


def test_a_replaced_row_is_not_believed_gone_while_the_second_call_fails(judge: Judge) -> None:
    old, new = row("old", "m-1"), row("new", "m-1")
    judge.run(frozenset({old}))
    judge.run(frozenset({new}), FAULT)
    assert judge.offered() == frozenset({old, new})


def test_rows_without_image_id_do_not_replace_each_other(judge: Judge) -> None:
    judge.run(frozenset({row("old", "")}))
    judge.run(frozenset({row("new", "")}))
    assert sorted(judge.kinds()) == ["added", "removed"]


# --- the limit


def test_more_removals_than_share_and_number_are_held(judge: Judge) -> None:
    judge.run(MANY | KEPT)
    result = judge.run(KEPT)
    assert (result.status, result.exit_code, result.counts.removals_held) == (RunStatus.HELD, ExitCode.PARTIAL, 30)
    assert judge.now() == dict.fromkeys(KEPT) | dict.fromkeys(MANY, judge.asked_at()[-1])
    assert judge.kinds() == []


def test_removals_over_the_number_but_within_the_share_are_believed(judge: Judge) -> None:
    others = frozenset(row(f"o{number}") for number in range(91))
    judge.run(MANY | others)
    judge.run(others)
    assert (len(judge.kinds()), judge.offered()) == (30, others)


def test_removals_over_the_share_but_within_the_number_are_believed(judge: Judge) -> None:
    judge.run(rows("a", "b", "c"))
    judge.run(rows("a"))
    assert judge.kinds() == ["removed", "removed"]


def test_exactly_the_number_is_not_more_than_it(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 2, "removal_limit_percent": 0}
    judge.run(rows("a", "b", "c"))
    judge.run(rows("a"))
    assert judge.kinds() == ["removed", "removed"]


def test_exactly_the_share_is_not_more_than_it(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 0, "removal_limit_percent": 50}
    judge.run(rows("a", "b", "c"))  # four pairs with the one of t.2
    judge.run(rows("a"))
    assert judge.kinds() == ["removed", "removed"]


def test_removals_of_all_types_of_a_region_count_together(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 2}
    judge.announce("t.1")
    judge.values |= {"base_os_tags": ("tag",)}
    judge.tag_answers = [rows("c", "d")]
    judge.run(rows("a", "b"))
    judge.tag_answers = [rows("d")]
    judge.run(frozenset())
    assert judge.kinds() == []


def test_the_removals_of_another_region_do_not_count(judge: Judge) -> None:
    judge.values |= {"regions": ("r", "s"), "removal_limit_count": 1, "removal_limit_percent": 60}
    settings = Settings.model_validate(judge.values)
    listings = {name: [frozenset({"t.1"})] for name in ("r", "s")}
    for found in (rows("a", "b"), frozenset[Row]()):
        images = {A: [found], ("s", "t.1", ""): [rows("a", "b")]}
        judge.bench.run(settings, Script(images, listings))
        assert judge.bench.differences() == []
    assert len(judge.now()) == 2


def test_held_images_count_among_the_pairs_open_before_the_run(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 0, "removal_limit_percent": 50}
    judge.announce("t.1")
    judge.run(rows("a", "b", "c", "d"))
    judge.run(rows("a"))
    judge.run(rows("a", "d"))
    assert (judge.kinds(), judge.offered()) == (["removed", "removed"], rows("a", "d"))


def test_replaced_rows_do_not_count_for_the_limit(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 1, "removal_limit_percent": 0}
    judge.run(frozenset({row("old", "m-1"), row("old2", "m-2"), row("gone")}))
    judge.run(frozenset({row("new", "m-1"), row("new2", "m-2")}))
    assert judge.kinds() == ["changed", "changed", "removed"]


def test_additions_are_written_while_removals_are_held(judge: Judge) -> None:
    judge.run(MANY)
    judge.run(rows("new"))
    assert (judge.kinds(), judge.now()[row("new")]) == (["added"], None)


# --- held removals


def test_the_third_run_in_a_row_accepts_and_dates_to_the_first(judge: Judge) -> None:
    judge.run(MANY)
    seen_at = judge.asked_at()[-1]
    judge.run(frozenset())
    first_missed_at = judge.asked_at()[-1]
    judge.run(frozenset())
    assert len(judge.now()) == 30
    result = judge.run(frozenset())
    changes = judge.view("image_changes")
    assert (judge.now(), len(changes), result.status) == ({}, 30, RunStatus.OK)
    assert {entry["detected_at"] for entry in changes} == {first_missed_at}
    assert all(entry["last_seen_at"] <= seen_at for entry in changes)
    assert {entry["valid_to"] for entry in judge.view("image_history")} == {first_missed_at}
    assert all(entry["recorded_at"] > first_missed_at for entry in changes)


def test_zero_runs_mean_that_held_removals_are_never_accepted_by_themselves(judge: Judge) -> None:
    judge.values["removal_accept_after_runs"] = 0
    judge.run(MANY)
    for _ in range(5):
        judge.run(frozenset())
    assert (len(judge.now()), judge.kinds()) == (30, [])


def test_an_image_that_comes_back_while_held_leaves_no_trace(judge: Judge) -> None:
    judge.run(MANY)
    history = judge.view("image_history")
    judge.run(frozenset())
    result = judge.run(MANY)
    assert (result.status, judge.kinds(), judge.view("image_history")) == (RunStatus.OK, [], history)
    assert judge.now() == dict.fromkeys(MANY)


def test_an_image_that_came_back_must_be_missed_three_times_again(judge: Judge) -> None:
    judge.run(MANY)
    for images in (frozenset[Row](), frozenset[Row](), MANY, frozenset[Row](), frozenset[Row]()):
        judge.run(images)
    assert (len(judge.now()), judge.kinds()) == (30, [])


def accept(judge: Judge, images: Collection[Row]) -> None:
    began_at = judge.bench.clock()
    accept_removals(judge.bench.database, [(Target(*A), Image(*image)) for image in images], now=judge.bench.clock)
    judge.bench.accept(began_at, [(A, image) for image in images])
    assert judge.bench.differences() == []


def test_a_person_accepts_what_was_shown_dated_to_the_first_miss(judge: Judge) -> None:
    judge.run(MANY)
    judge.run(frozenset())
    first_missed_at = judge.asked_at()[-1]
    accept(judge, MANY - rows("m0"))
    assert judge.now() == {row("m0"): first_missed_at}
    assert {entry["detected_at"] for entry in judge.view("image_changes")} == {first_missed_at}


def test_images_that_a_person_accepted_as_gone_are_added_when_they_return(judge: Judge) -> None:
    judge.run(MANY)
    judge.run(frozenset())
    accept(judge, MANY)
    judge.run(MANY)
    assert (judge.kinds(), judge.offered()) == (["removed"] * 30 + ["added"] * 30, MANY)


def test_whoever_reads_the_feed_by_change_id_misses_no_removal_that_was_accepted_late(judge: Judge) -> None:
    judge.run(MANY)
    judge.run(rows("x"))
    judge.run(rows("x", "y"))
    judge.run(rows("x", "y"))
    feed = sorted(judge.view("image_changes"), key=lambda entry: entry["change_id"])
    assert [entry["kind"] for entry in feed] == ["added"] * 2 + ["removed"] * 30
    assert [entry["recorded_at"] for entry in feed] == sorted(entry["recorded_at"] for entry in feed)
