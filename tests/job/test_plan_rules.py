"""Each promise of DESIGN section 4 about configuration, discovery and runs that ask less, in a test of its own."""

import pytest

from sync.config import Settings
from sync.errors import ExitCode
from sync.inventory import RunStatus
from sync.plan import Restriction
from tests.job.fake import Fault, Rows, Script, row, rows
from tests.job.judge import FAULT, MANY, A, B, Judge

# --- what is not planned


def test_narrowing_the_configuration_removes_nothing(judge: Judge) -> None:
    judge.run(rows("a"))
    seen_at = judge.asked_at()[-1]
    judge.values["instance_types"] = ("t.2",)
    judge.run(rows("a"))
    (gap,) = judge.view("observation_gaps")
    assert (judge.now(), judge.kinds()) == ({row("a"): None}, [])
    assert (gap["error_code"], gap["gap_to"]) == ("plan.not_planned", None)
    assert gap["gap_from"] <= seen_at


def test_a_region_that_is_no_longer_configured_becomes_unknown(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.bench.run(Settings(regions=("s",)), Script(listings={"s": [frozenset({"t.1"})]}))
    assert judge.bench.differences() == []
    assert [gap["error_code"] for gap in judge.view("observation_gaps")] == ["plan.not_planned"]


def test_a_region_stays_as_it_is_when_the_list_of_regions_fails(judge: Judge) -> None:
    judge.run(rows("a"))
    script = Script({A: [rows("a")], B: [rows("other")]}, {"r": judge.listings}, FAULT)
    result = judge.bench.run(Settings(regions=("all",)), script)
    assert judge.bench.differences() == []
    assert result is not None
    assert (result.status, judge.view("observation_gaps")) == (RunStatus.PARTIAL, [])


def test_an_exact_name_is_asked_although_no_region_lists_it(judge: Judge) -> None:
    judge.values["instance_types"] = ("t.1",)
    judge.announce("")
    judge.run(rows("a"))
    judge.run(rows("a"))
    assert judge.now() == {row("a"): None}


# --- types that come and go


def test_a_type_that_two_listings_miss_is_retired_without_removed_rows(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    judge.announce("t.2")
    judge.run(FAULT)
    (status,) = judge.view("target_status")
    assert (judge.kinds(), judge.now()) == (["type_retired"], {})
    assert {entry["valid_to"] for entry in judge.view("image_history")} == {status["retired_at"]}


def test_a_type_that_the_second_listing_shows_is_not_retired(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce("t.2", "t.1 t.2")
    judge.run(rows("a"))
    assert (judge.kinds(), judge.now()) == ([], {row("a"): None})


def test_a_failing_second_listing_retires_nothing(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce("t.2", FAULT)
    result = judge.run(rows("a"))
    assert (result.status, judge.kinds(), list(judge.now())) == (RunStatus.HELD, [], [row("a")])


def test_failing_discovery_asks_the_known_types_and_retires_none(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce(FAULT)
    for _ in range(4):
        result = judge.run(rows("a"))
        assert (result.status, [entry.instance_type for entry in result.failures]) == (RunStatus.PARTIAL, [""])
    assert (judge.kinds(), judge.view("observation_gaps"), judge.now()) == ([], [], {row("a"): None})


def test_discovery_that_shrinks_beyond_the_limit_retires_nothing_at_once(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 0}
    judge.run(rows("a"))
    judge.announce("")
    result = judge.run(rows("a"))
    assert (result.status, result.counts.removals_held, judge.kinds()) == (RunStatus.HELD, 2, [])
    assert None not in judge.now().values()


def test_a_type_whose_retirement_is_held_is_retired_by_the_third_run_dated_to_the_first(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 0}
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(rows("a"))
    missing_since = judge.now()[row("a")]
    judge.run(rows("a"))
    judge.run(rows("a"))
    (change,) = judge.view("image_changes")
    assert (change["kind"], change["detected_at"]) == ("type_retired", missing_since)


def test_a_type_first_listed_later_is_type_added_without_added_rows(judge: Judge) -> None:
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(rows("a", "b"))
    assert judge.kinds() == ["type_added"]
    assert {entry["from_baseline"] for entry in judge.view("available_images")} == {True}


def test_a_type_is_added_in_a_region_that_listed_none_before(judge: Judge) -> None:
    judge.announce("")
    judge.values["all_types_target"] = True
    judge.run(FAULT)
    judge.announce("t.1")
    judge.run(rows("a"))
    assert judge.kinds() == ["type_added"]


def test_a_type_that_returns_is_type_added_and_opens_new_intervals(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(rows("a", "b"))
    assert judge.kinds() == ["type_retired", "type_added"]
    assert [entry["valid_to"] is None for entry in judge.view("image_history")].count(True) == 2


def test_the_only_type_of_a_region_that_returns_is_type_added(judge: Judge) -> None:
    judge.announce("t.1")
    judge.values["all_types_target"] = True
    judge.run(rows("a"))
    judge.announce("")
    judge.run(FAULT)
    judge.announce("t.1")
    judge.run(rows("a"))
    assert judge.kinds() == ["type_retired", "type_added"]


def test_a_type_that_returns_but_cannot_be_observed_is_unknown_and_not_retired(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(FAULT)
    (status,) = judge.view("target_status")
    assert (status["retired_at"], status["error_code"]) == (None, "ServiceUnavailable")


def test_a_type_that_answered_with_a_base_os_tag_before_it_was_listed_is_not_added(judge: Judge) -> None:
    judge.values["base_os_tags"] = ("tag",)
    judge.tag_answers = [rows("a")]
    judge.run(FAULT, only=Restriction((), ("t.1",)))
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(rows("a"))
    assert judge.kinds() == []
    assert [entry["valid_to"] for entry in judge.view("image_history", ("r", "t.1", "tag"))] == [None]


@pytest.mark.parametrize("answer", [rows("a"), FAULT], ids=["observed", "never observed"])
def test_the_gap_of_a_type_that_returns_and_fails_begins_with_its_listing(judge: Judge, answer: Rows | Fault) -> None:
    judge.run(answer)
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(FAULT)
    gap = max(judge.view("observation_gaps"), key=lambda entry: entry["gap_from"])
    (added,) = [entry for entry in judge.view("image_changes") if entry["kind"] == "type_added"]
    assert (gap["gap_to"], gap["gap_from"]) == (None, added["detected_at"])


def test_the_gap_of_a_type_that_is_asked_by_its_name_again_begins_with_the_first_attempt(judge: Judge) -> None:
    judge.run(FAULT)
    judge.announce("t.2")
    judge.run(FAULT)
    judge.values["instance_types"] = ("t.1", "t.2")
    judge.run(FAULT)
    assert judge.bench.client is not None
    (reply,) = judge.bench.client.images[A]
    gap = max(judge.view("observation_gaps"), key=lambda entry: entry["gap_from"])
    assert (gap["gap_to"], gap["gap_from"] >= reply.asked_at) == (None, True)


# --- runs that ask less


def test_a_restricted_run_opens_no_gap_and_retires_nothing(judge: Judge) -> None:
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(FAULT, only=Restriction((), ("t.2",)))
    assert (judge.view("observation_gaps"), judge.kinds(), judge.now()) == ([], [], {row("a"): None})


def test_a_run_of_one_region_touches_no_other(judge: Judge) -> None:
    judge.values["regions"] = ("r", "s")
    judge.run(rows("a"))
    judge.run(FAULT, only=Restriction(("s",)))
    assert (judge.view("observation_gaps"), judge.now()) == ([], {row("a"): None})


def test_a_dry_run_counts_and_writes_nothing(judge: Judge) -> None:
    judge.run(rows("a", "b"))
    result = judge.run(rows("b", "c"), is_dry=True)
    assert (result.run_id, result.counts.images_added, result.counts.images_removed) == (None, 1, 1)


def test_a_dry_run_exits_as_the_run_would(judge: Judge) -> None:
    judge.run(MANY)
    assert judge.run(frozenset(), is_dry=True).exit_code is ExitCode.PARTIAL
    assert judge.run(FAULT, is_dry=True).status is RunStatus.PARTIAL


# --- found by the random histories


def test_types_known_from_exact_names_are_asked_when_the_first_discovery_fails(judge: Judge) -> None:
    judge.values["instance_types"] = ("t.1", "t.2")
    judge.run(rows("a"))
    judge.values["instance_types"] = ("discover",)
    judge.announce(FAULT)
    judge.run(rows("a"))
    assert judge.view("observation_gaps") == []


def test_a_run_whose_pattern_matches_nothing_writes_nothing_but_its_row(judge: Judge) -> None:
    judge.run(rows("a"))
    settings = Settings(regions=("s",), instance_types=("none.*",))
    assert judge.bench.run(settings, Script(listings={"s": [frozenset({"t.1"})]})) is None
    assert judge.bench.differences() == []


def test_a_held_type_holds_the_run_also_when_discovery_fails(judge: Judge) -> None:
    judge.values["removal_limit_count"] = 0
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(rows("a"))
    judge.announce(FAULT)
    result = judge.run(rows("a"))
    assert (result.status, result.counts.removals_held) == (RunStatus.HELD, 1)


def test_the_images_of_a_held_type_are_shown_as_missing_for_every_base_os_tag(judge: Judge) -> None:
    judge.values |= {"removal_limit_count": 0, "base_os_tags": ("tag",)}
    judge.tag_answers = [rows("a")]
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.run(rows("a"))
    assert judge.now(("r", "t.1", "tag")) == judge.now(A)


def test_a_restricted_run_neither_holds_nor_retires_the_type_that_it_asks(judge: Judge) -> None:
    judge.values["removal_limit_count"] = 0
    judge.run(rows("a"))
    judge.announce("t.2")
    result = judge.run(rows("a"), only=Restriction((), ("t.1",)))
    assert (result.status, result.counts.removals_held) == (RunStatus.OK, 0)


def test_an_image_that_only_the_first_of_two_answers_had_was_last_seen_at_the_first(judge: Judge) -> None:
    judge.run(rows("a", "b", "c"))
    judge.run(rows("b", "c"), rows("c"))
    first_answer_at = judge.asked_at()[0]
    judge.run(rows("c"))
    (change,) = [entry for entry in judge.view("image_changes") if entry["os_name"] == "b"]
    assert change["last_seen_at"] <= first_answer_at


def test_a_type_that_is_asked_by_its_exact_name_no_longer_waits_for_discovery(judge: Judge) -> None:
    judge.values["removal_limit_count"] = 0
    judge.run(rows("a", "b"))
    judge.announce("t.2")
    judge.run(rows("a", "b"))
    judge.values |= {"instance_types": ("t.1",), "removal_limit_count": 20}
    judge.run(rows("a"))
    assert (judge.kinds(), judge.offered()) == (["removed"], rows("a"))


def test_a_type_was_last_seen_by_the_last_listing_that_had_it_also_while_it_was_asked_by_name(judge: Judge) -> None:
    judge.run(rows("a"))
    assert judge.bench.client is not None
    listed_at = judge.bench.client.listings["r"][-1].true_until
    judge.announce("t.2", FAULT)
    judge.values["instance_types"] = ("t.1", "t.2*")
    judge.run(rows("a"))
    judge.announce("t.2")
    judge.values["instance_types"] = ("discover",)
    judge.run(FAULT)
    (change,) = judge.view("image_changes")
    assert (change["kind"], change["last_seen_at"] <= listed_at) == ("type_retired", True)


def test_a_type_that_a_restricted_run_added_was_not_last_seen_before_it_was_added(judge: Judge) -> None:
    judge.announce("t.2")
    judge.run(FAULT)
    judge.announce("t.1 t.2")
    judge.run(rows("a"), only=Restriction((), ("t.1",)))
    judge.announce("t.2")
    judge.run(FAULT)
    added, retired = sorted(judge.view("image_changes"), key=lambda change: change["change_id"])
    assert retired["last_seen_at"] >= added["detected_at"]
