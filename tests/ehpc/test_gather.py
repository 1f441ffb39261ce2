"""Many calls at once: order, urgency, and that nothing is lost or swallowed."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from sync.ehpc.fetch import Answer
from sync.ehpc.gather import Gatherer, Outcome
from sync.errors import CallError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def gatherer() -> Iterator[Gatherer[str]]:
    with Gatherer[str](1) as one:
        yield one


def answering(value: str) -> Callable[[], Answer[str]]:
    return lambda: Answer(value, "R", NOW)


def waiting_for(event: threading.Event, value: str = "late") -> Callable[[], Answer[str]]:
    def call() -> Answer[str]:
        assert event.wait(10)
        return Answer(value, "R", NOW)

    return call


def failing(error: Exception) -> Callable[[], Answer[str]]:
    def call() -> Answer[str]:
        raise error

    return call


def all_of(gatherer: Gatherer[str]) -> list[tuple[str, Outcome]]:
    outcomes = []
    while gatherer.pending_count:
        outcomes += gatherer.collect(10)
    return outcomes


def test_every_call_is_collected_once_under_its_key(gatherer: Gatherer[str]) -> None:
    for number in range(50):
        gatherer.submit(f"region-{number % 3}", str(number), answering(str(number)))
    outcomes = all_of(gatherer)
    assert sorted(int(key) for key, _ in outcomes) == list(range(50))
    assert all(isinstance(outcome, Answer) and outcome.value == key for key, outcome in outcomes)


def test_a_failed_call_is_collected_as_its_error(gatherer: Gatherer[str]) -> None:
    error = CallError("DbError", "later")
    gatherer.submit("r", "key", failing(error))
    assert all_of(gatherer) == [("key", error)]


def test_urgent_calls_come_before_everything_that_waits_in_their_region(gatherer: Gatherer[str]) -> None:
    gate = threading.Event()
    gatherer.submit("r", "running", waiting_for(gate))
    for key in ("first", "second"):
        gatherer.submit("r", key, answering(key))
    for key in ("urgent", "urgent too"):
        gatherer.submit("r", key, answering(key), urgent=True)
    gate.set()
    assert [key for key, _ in all_of(gatherer)][1:] == ["urgent", "urgent too", "first", "second"]


def test_a_region_whose_threads_are_busy_keeps_no_other_waiting(gatherer: Gatherer[str]) -> None:
    gate = threading.Event()
    gatherer.submit("slow", "slow", waiting_for(gate))
    gatherer.submit("slow", "behind it", answering(""))
    gatherer.submit("fast", "fast", answering(""))
    assert [key for key, _ in gatherer.collect(10)] == ["fast"]
    gate.set()
    assert [key for key, _ in all_of(gatherer)] == ["slow", "behind it"]


def test_collect_gives_up_after_its_time(gatherer: Gatherer[str]) -> None:
    gate = threading.Event()
    gatherer.submit("r", "late", waiting_for(gate))
    assert gatherer.collect(0.01) == []
    assert gatherer.pending_count == 1
    gate.set()


def test_collect_does_not_wait_for_nothing(gatherer: Gatherer[str]) -> None:
    assert gatherer.collect(3600) == []


def test_a_bug_in_a_call_is_raised_after_what_ended_before_it(gatherer: Gatherer[str]) -> None:
    gate = threading.Event()
    gatherer.submit("r", "running", waiting_for(gate))
    gatherer.submit("r", "bug", failing(ZeroDivisionError("a bug")))
    gatherer.submit("r", "after", answering(""))
    gate.set()
    assert [key for key, _ in gatherer.collect(10)] == ["running"]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        gatherer.collect(10)
    assert [key for key, _ in all_of(gatherer)] == ["after"]


def test_close_abandons_what_waits_and_joins_the_threads() -> None:
    gate = threading.Event()
    gatherer = Gatherer[str](1)
    gatherer.submit("r", "running", waiting_for(gate))
    gatherer.submit("r", "waiting", failing(AssertionError("must not run")))
    gate.set()
    before = threading.active_count()
    gatherer.close()
    assert threading.active_count() < before
    assert gatherer.pending_count == 0
