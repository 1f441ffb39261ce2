"""Permits, on a clock that only moves when somebody waits."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ehpc.rate import BURST_S, Gate, Lane
from sync.errors import RunInterruptedError


class Hands:
    """A clock whose waits are over at once, late by as much as the test says."""

    def __init__(self, *lateness_s: float) -> None:
        self.time = 100.0
        self._lateness_s = list(lateness_s)

    def __call__(self) -> float:
        return self.time

    def wait(self, delay_s: float) -> bool:
        self.time += delay_s + (self._lateness_s.pop(0) if self._lateness_s else 0)
        return False


def lane_at(hands: Hands, rate: float, workers: int = 1) -> tuple[Gate, Lane]:
    gate = Gate(workers, clock=hands, wait=hands.wait)
    return gate, Lane(gate, rate)


def sent_times(hands: Hands, gate: Gate, lane: Lane, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        lane.enter()
        times.append(hands.time)
        gate.leave()
    return times


@pytest.mark.parametrize("rate", [0.5, 3, 10, 1000])
def test_calls_are_spaced_evenly(rate: float) -> None:
    hands = Hands()
    times = sent_times(hands, *lane_at(hands, rate), 20)
    assert [later - sooner for sooner, later in pairwise(times)] == pytest.approx([1 / rate] * 19)


@given(st.lists(st.floats(0, 0.4), max_size=60), st.sampled_from([0.5, 7.0, 10.0, 200.0]))
def test_no_second_has_more_calls_than_the_rate_and_its_burst(lateness_s: list[float], rate: float) -> None:
    hands = Hands(*lateness_s)
    times = sent_times(hands, *lane_at(hands, rate), 80)
    for start in times:
        assert sum(start <= moment < start + 1 for moment in times) <= rate + rate * BURST_S + 1 + 1e-6


@given(st.lists(st.floats(0, BURST_S), min_size=50, max_size=50))
def test_late_wake_ups_within_the_burst_cost_no_throughput(lateness_s: list[float]) -> None:
    hands = Hands(*lateness_s)
    times = sent_times(hands, *lane_at(hands, 10), 50)
    assert times[-1] - times[0] <= 49 / 10 + BURST_S + 1e-6


def test_time_that_passed_unused_is_not_made_up_for_in_a_burst() -> None:
    hands = Hands()
    gate, lane = lane_at(hands, 10)
    hands.time += 3600
    times = sent_times(hands, gate, lane, 12)
    assert times[11] - times[0] > 1


def test_throttling_pauses_the_region_and_halves_its_rate_until_it_recovers() -> None:
    hands = Hands()
    gate, lane = lane_at(hands, 10)
    lane.slow_down(5, sent_at=lane.enter())
    gate.leave()
    times = sent_times(hands, gate, lane, 3)
    assert times[0] == pytest.approx(105)
    assert times[2] - times[1] == pytest.approx(0.2)
    for _ in range(50):
        lane.recover()
    times = sent_times(hands, gate, lane, 3)
    assert times[2] - times[1] == pytest.approx(0.1)


def test_the_answers_to_what_was_in_flight_together_slow_down_only_once() -> None:
    hands = Hands()
    _, lane = lane_at(hands, 10)
    assert [lane.slow_down(1, sent_at=99.9) for _ in range(8)] == [True] + [False] * 7
    assert lane.throttled_s == pytest.approx(1)


def test_a_region_that_waits_for_its_permit_leaves_the_only_place_to_others() -> None:
    gate = Gate(1)
    slow, fast = Lane(gate, 0.001), Lane(gate, 1000)
    slow.enter()
    gate.leave()
    waiter = threading.Thread(target=pytest.raises, args=(RunInterruptedError, slow.enter))
    waiter.start()
    for _ in range(5):
        fast.enter()
        gate.leave()
    gate.stop()
    waiter.join()


def test_stop_wakes_everyone_who_waits_for_a_place() -> None:
    gate = Gate(1)
    lanes = [Lane(gate, 1000) for _ in range(4)]
    gate.enter()
    waiters = [threading.Thread(target=pytest.raises, args=(RunInterruptedError, lane.enter)) for lane in lanes]
    for waiter in waiters:
        waiter.start()
    gate.stop()
    for waiter in waiters:
        waiter.join()
