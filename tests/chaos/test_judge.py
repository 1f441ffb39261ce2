"""The judges notice what they are there for: each test breaks one thing of evidence in which all is well."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.evidence import Disturbance, Evidence, Offered
from tests.chaos.judge import FIELDS, judged_history
from tests.chaos.judge_alerts import judged_alerts
from tests.chaos.judge_runs import judged_runs
from tests.chaos.offers import Key, Row, image_of, row_of
from tests.chaos.receiver import Delivery
from tests.chaos.watcher import Sighting

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
KEPT, GONE, NEW = (row_of(image_of(name)) for name in ("kept", "gone", "new"))
PLACE: Key = ("r", "t.1")
OTHER: Key = ("r", "t.2")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_run(number: int, status: str = "ok") -> Sighting:
    """The run of second ``number``, which takes half of it."""
    begun, ended = at(number + 0.1), at(number + 0.5)
    return Sighting(
        number,
        "daemon",
        status,
        begun,
        ended,
        at(number),
        None,
        unseen_until=at(number + 0.09),
        seen_from=at(number + 0.12),
        unfinished_until=at(number + 0.48),
        finished_by=at(number + 0.52),
    )


def a_row(key: Key, row: Row | None, **values: object) -> dict[str, Any]:
    fields: Mapping[str, str | None] = dict(zip(FIELDS, row or (None,) * len(FIELDS), strict=True))
    return {"region_id": key[0], "instance_type": key[1], **fields, **values}


def a_change(number: int, kind: str, key: Key, row: Row | None, detected_at: datetime) -> dict[str, Any]:
    seen = None if kind == "added" else at(1.1)
    moments = {"detected_at": detected_at, "last_seen_at": seen, "recorded_at": at(9)}
    return a_row(key, row, change_id=number, run_id=2, kind=kind, **moments)


def told(text: str, seconds: float = 3, *, is_refused: bool = False) -> Delivery:
    return Delivery(at(seconds), "ehpc-image-sync: news", text, "info", is_refused)


NEWS = "Changed in run 2:\n- gone 1 removed from 2 instance types in r\n- new 1 added to t.1 in r\n"


@pytest.fixture
def good() -> Evidence:
    """A baseline at noon; between runs 1 and 2 one image goes from both types and another comes on one of them."""
    before = {PLACE: frozenset({KEPT, GONE}), OTHER: frozenset({KEPT, GONE})}
    after = {PLACE: frozenset({KEPT, NEW}), OTHER: frozenset({KEPT})}
    since: dict[str, Any] = {"valid_from": at(0.3), "valid_to": None, "from_baseline": True}
    until = since | {"valid_to": at(2.3)}
    fresh = {"valid_from": at(2.3), "valid_to": None, "from_baseline": False}
    history = [
        *(a_row(key, KEPT, **since) for key in (PLACE, OTHER)),
        *(a_row(key, GONE, **until) for key in (PLACE, OTHER)),
        a_row(PLACE, NEW, **fresh),
    ]
    return Evidence(
        interval=timedelta(seconds=1),
        lease_s=3,
        offered=[Offered("baseline", before, at(-1), at(-1)), Offered("news", after, at(1.7), at(1.8))],
        sightings=[a_run(number) for number in range(6)],
        disturbances=[],
        deliveries=[told(NEWS)],
        image_history=history,
        available_images=[row | {"missing_since": None} for row in history if row["valid_to"] is None],
        image_changes=[
            a_change(1, "removed", PLACE, GONE, at(2.3)),
            a_change(2, "removed", OTHER, GONE, at(2.3)),
            a_change(3, "added", PLACE, NEW, at(2.3)),
        ],
        watched_from=at(0),
        watched_until=at(6),
        leases=[{"name": "run", "owner": None}],
    )


def only(problems: Sequence[str], *words: str) -> None:
    """Check that there are problems and that each says one of the words."""
    assert problems
    assert [text for text in problems if not any(word in text for word in words)] == []


def without(rows: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    return [row for index, row in enumerate(rows) if index != number]


def changed(rows: Sequence[Mapping[str, Any]], number: int, **values: object) -> list[Mapping[str, Any]]:
    return [{**row, **values} if index == number else row for index, row in enumerate(rows)]


def test_good_evidence_is_good(good: Evidence) -> None:
    assert [*judged_history(good), *judged_runs(good), *judged_alerts(good)] == []


# --- history


@pytest.mark.parametrize("number", range(5))
def test_a_lost_span_is_noticed(good: Evidence, number: int) -> None:
    only(judged_history(replace(good, image_history=without(good.image_history, number))), "0 spans instead of 1")


def test_a_span_too_many_is_noticed(good: Evidence) -> None:
    flicker = {**good.image_history[0], "valid_from": at(2.3), "valid_to": at(3.3)}
    only(judged_history(replace(good, image_history=[*good.image_history, flicker])), "2 spans instead of 1")


def test_an_image_of_which_one_field_is_wrong_is_noticed(good: Evidence) -> None:
    wrong = changed(good.image_history, 4, os_name="newer")
    only(judged_history(replace(good, image_history=wrong)), "0 spans instead of 1", "1 spans instead of 0")


@pytest.mark.parametrize("moment", [at(1.4), at(3.4)])
def test_a_date_outside_of_its_runs_is_noticed(good: Evidence, moment: datetime) -> None:
    wrong = changed(good.image_history, 4, valid_from=moment)
    only(judged_history(replace(good, image_history=wrong)), "but run 1 still saw", "but run 2 must have seen")


def test_a_removal_that_did_not_happen_is_noticed(good: Evidence) -> None:
    wrong = changed(good.image_history, 0, valid_to=at(3.3))
    only(judged_history(replace(good, image_history=wrong)), "is still offered")


def test_a_removal_that_is_missing_is_noticed(good: Evidence) -> None:
    wrong = changed(good.image_history, 2, valid_to=None)
    only(judged_history(replace(good, image_history=wrong)), "has no date")


def test_a_wrong_from_baseline_is_noticed(good: Evidence) -> None:
    only(judged_history(replace(good, image_history=changed(good.image_history, 0, from_baseline=False))), "from_base")


def test_an_image_missing_from_the_available_ones_is_noticed(good: Evidence) -> None:
    only(judged_history(replace(good, available_images=without(good.available_images, 0))), "is missing")


def test_an_image_that_is_still_held_is_noticed(good: Evidence) -> None:
    wrong = changed(good.available_images, 0, missing_since=at(3))
    only(judged_history(replace(good, available_images=wrong)), "still held")


@pytest.mark.parametrize("number", range(3))
def test_a_lost_change_is_noticed(good: Evidence, number: int) -> None:
    only(judged_history(replace(good, image_changes=without(good.image_changes, number))), "0 times instead of 1")


def test_a_change_that_is_recorded_twice_is_noticed(good: Evidence) -> None:
    only(judged_history(replace(good, image_changes=[*good.image_changes, good.image_changes[0]])), "2 times instead")


def test_a_last_observation_that_is_too_early_or_too_late_is_noticed(good: Evidence) -> None:
    for moment in (at(0.1), at(2.2)):
        wrong = changed(good.image_changes, 0, last_seen_at=moment)
        only(judged_history(replace(good, image_changes=wrong)), "saw it later", "cannot have seen it", "happened at")


def test_changes_that_are_not_recorded_in_their_order_are_noticed(good: Evidence) -> None:
    only(judged_history(replace(good, image_changes=changed(good.image_changes, 2, recorded_at=at(8)))), "recorded_at")


def test_images_of_a_type_that_is_retired_in_the_middle_of_a_run_may_be_removed_first(good: Evidence) -> None:
    offers = [good.offered[0], replace(good.offered[1], begun_at=at(2.2), done_at=at(2.2))]
    offers[1] = replace(offers[1], offer={PLACE: offers[1].offer[PLACE]})
    changes = [*good.image_changes, a_change(4, "removed", OTHER, KEPT, at(2.3))]
    changes.append(a_change(5, "type_retired", OTHER, None, at(3.3)) | {"run_id": 3, "last_seen_at": at(2.1)})
    torn = replace(good, offered=offers, image_changes=changes)
    assert [text for text in judged_history(torn) if text.startswith("changes: removed")] == []
    before = replace(torn, offered=[offers[0], replace(offers[1], begun_at=at(1.7), done_at=at(1.8))])
    assert [text for text in judged_history(before) if text.startswith("changes: removed")]


# --- runs


def test_a_tick_without_a_run_is_noticed(good: Evidence) -> None:
    only(judged_runs(replace(good, sightings=without_runs(good, 3))), "1 have no run", "12:00:03")


def test_several_ticks_in_a_row_without_a_run_are_noticed(good: Evidence) -> None:
    many = replace(good, sightings=[a_run(number) for number in range(60) if number not in {7, 8, 9}])
    only(judged_runs(replace(many, watched_until=at(60))), "12:00:07 has no run, nor have the next ones")


def test_a_busy_machine_may_lose_a_tick_to_the_next_one(good: Evidence) -> None:
    many = replace(good, sightings=[a_run(number) for number in range(60) if number not in {7, 30}])
    assert judged_runs(replace(many, watched_until=at(60))) == []


def without_runs(good: Evidence, *numbers: int) -> list[Sighting]:
    return [run for run in good.sightings if run.run_id not in numbers]


def test_a_tick_without_a_run_is_excused_while_the_database_is_away(good: Evidence) -> None:
    away = Disturbance("database", at(2.6), at(3.4))
    assert judged_runs(replace(good, sightings=without_runs(good, 3), disturbances=[away])) == []


def test_a_tick_with_two_runs_is_noticed(good: Evidence) -> None:
    second = replace(a_run(4), scheduled_at=at(3))
    only(
        judged_runs(replace(good, sightings=[*good.sightings[:4], second, good.sightings[5]])), "2 runs", "have no run"
    )


def test_a_failed_run_may_be_made_again(good: Evidence) -> None:
    failed = replace(a_run(2), run_id=2, status="failed", finished_at=at(2.2), started_at=at(2.1))
    again = replace(a_run(2), started_at=at(2.3), seen_from=at(2.32), unseen_until=at(2.29))
    failed = replace(failed, unfinished_until=at(2.19), finished_by=at(2.21))
    assert judged_runs(replace(good, sightings=[*good.sightings[:2], failed, again, *good.sightings[3:]])) == []


def test_two_runs_at_once_are_noticed(good: Evidence) -> None:
    other = replace(a_run(3), run_id=9, scheduled_at=at(7), started_at=at(3.2), seen_from=at(3.2), finished_at=at(3.6))
    only(judged_runs(replace(good, sightings=[*good.sightings, other])), "under way together", "began at")


def test_a_lease_that_is_left_is_noticed(good: Evidence) -> None:
    only(judged_runs(replace(good, leases=[{"name": "run", "owner": "host process 7 (x)"}])), "still held by host")


def test_a_late_takeover_is_noticed(good: Evidence) -> None:
    killed = Disturbance("kill", at(-7), at(-7), was_holder=True)
    only(judged_runs(replace(good, disturbances=[killed])), "7.1 s after the kill")


# --- alerts


def test_a_swallowed_message_is_noticed(good: Evidence) -> None:
    only(judged_alerts(replace(good, deliveries=[])), "of 0 instance types instead of")


def test_a_refused_message_was_not_told(good: Evidence) -> None:
    assert judged_alerts(replace(good, deliveries=[told(NEWS, 2, is_refused=True), told(NEWS)])) == []
    only(judged_alerts(replace(good, deliveries=[told(NEWS, is_refused=True)])), "of 0 instance types instead of")


def test_a_message_that_comes_again_is_noticed_unless_somebody_was_killed(good: Evidence) -> None:
    twice = replace(good, deliveries=[told(NEWS), told(NEWS, 5)])
    only(judged_alerts(twice), "told again without cause")
    assert judged_alerts(replace(twice, disturbances=[Disturbance("kill", at(3.1), at(3.1))])) == []


def test_the_same_change_in_another_message_is_noticed(good: Evidence) -> None:
    other = told("Changed in run 3:\n- new 1 added to t.1 in r\n", 4)
    only(judged_alerts(replace(good, deliveries=[told(NEWS), other])), "of 2 instance types instead of 1")


def test_a_change_that_two_runs_found_in_parts_is_told_in_parts(good: Evidence) -> None:
    first = told("Changed in run 2:\n- gone 1 removed from t.1 in r\n")
    second = told("Changed in run 3:\n- gone 1 removed from t.2 in r\n- new 1 added to t.1 in r\n", 4)
    assert judged_alerts(replace(good, deliveries=[first, second])) == []


TROUBLE = "Needs a look: 2 instance types of r not observed since noon: x\n- t.1, t.2: why\n"
END = "Resolved: 2 instance types of r not observed since noon: x\n"
FAULTS = Disturbance("network", at(0), at(3))


def test_a_trouble_and_its_end_are_told_once_each(good: Evidence) -> None:
    both = replace(good, deliveries=[told(NEWS), told(TROUBLE, 3), told(END, 4)], disturbances=[FAULTS])
    assert judged_alerts(both) == []
    only(judged_alerts(replace(both, deliveries=[*both.deliveries, told(TROUBLE, 5)])), "the end was never told")
    only(judged_alerts(replace(both, deliveries=[*both.deliveries, told(END, 5)])), "told again without cause")
    only(judged_alerts(replace(both, disturbances=[])), "nothing was wrong")


def test_a_mass_removal_is_told_once_with_its_command(good: Evidence) -> None:
    held = replace(good, offered=[good.offered[0], replace(good.offered[1], is_held=True)])
    text = "Needs a look: 2 removals held in r: not believed yet, the images stay available\n"
    command = "- If they are real, accept them: ehpc-image-sync accept-removals --region r\n"
    end = told(text.replace("Needs a look", "Resolved"), 5)
    assert judged_alerts(replace(held, deliveries=[told(text + command), end, told(NEWS, 5)])) == []
    for wrong in ([told(NEWS)], [told(text), end, told(NEWS, 5)]):
        only(judged_alerts(replace(held, deliveries=wrong)), "was told 0 times", "0 times with its command")


def test_an_outage_and_its_end_are_told_once(good: Evidence) -> None:
    out = replace(good, disturbances=[Disturbance("outage", at(0), at(3)), FAULTS])
    subject = "the last 3 runs observed nothing: http.502"
    begun, ended = told(f"Needs a look: {subject}\n", 2), told(f"Resolved: {subject}\n", 4)
    assert judged_alerts(replace(out, deliveries=[told(NEWS), begun, ended])) == []
    only(judged_alerts(out), "the outage was told 0 times")
