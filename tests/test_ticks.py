"""Schedules: the same ticks for everybody, whenever they ask."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ticks import format_span, parse_schedule, parse_span

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, 14, 10, tzinfo=UTC)

SCHEDULES = (
    "*/30 * * * *",
    "13,43 * * * *",
    "0 3 * * *",
    "30 2 * * 0",
    "0 9-17 * * 1-5",
    "every 7m",
    "every 90s",
    "@daily",
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(
    st.sampled_from(SCHEDULES),
    st.sampled_from([UTC_ZONE, BERLIN, ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")]),
    st.integers(0, 2 * 365 * 86_400_000),
)
def test_every_tick_is_the_last_one_until_the_next(text: str, zone: ZoneInfo, milliseconds: int) -> None:
    moment = utc("2026-01-01") + timedelta(milliseconds=milliseconds)
    schedule = parse_schedule(text, zone)
    tick = schedule.next_after(moment)
    assert schedule.last_until(moment) <= moment < tick
    assert schedule.last_until(tick) == tick
    assert schedule.last_until(tick - timedelta(milliseconds=1)) == schedule.last_until(moment)


def test_a_crontab_counts_sunday_as_cron_does() -> None:
    assert parse_schedule("0 0 * * 0", UTC_ZONE).next_after(MONDAY) == utc("2026-11-29")
    assert parse_schedule("0 0 * * 7", UTC_ZONE).next_after(MONDAY) == utc("2026-11-29")


def test_a_day_of_month_or_a_day_of_week_is_enough_as_in_cron() -> None:
    schedule = parse_schedule("0 0 1 * 3", UTC_ZONE)
    assert schedule.next_after(MONDAY) == utc("2026-11-25")
    assert schedule.next_after(utc("2026-11-26")) == utc("2026-12-01")


def test_a_schedule_keeps_its_local_time_when_the_clocks_change() -> None:
    schedule = parse_schedule("0 3 * * *", BERLIN)
    assert schedule.next_after(utc("2026-10-24T12:00")) == utc("2026-10-25T02:00")
    assert schedule.next_after(utc("2026-10-23T12:00")) == utc("2026-10-24T01:00")


def test_a_rhythm_does_not_depend_on_when_one_asks_first() -> None:
    schedule = parse_schedule("every 15m", UTC_ZONE)
    assert schedule.last_until(utc("2026-11-23T14:14:59.999")) == utc("2026-11-23T14:00")
    assert schedule.next_after(utc("2026-11-23T14:00")) == utc("2026-11-23T14:15")


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("*/30 * * * *", timedelta(minutes=30)),
        ("every 2h", timedelta(hours=2)),
        ("0 9-17 * * 1-5", timedelta(hours=64)),
        ("* 9-17 * * 1-5", timedelta(hours=63, minutes=1)),
        ("0 0 1 * *", timedelta(days=31)),
    ],
)
def test_the_longest_interval_spans_nights_and_weekends(text: str, longest: timedelta) -> None:
    assert parse_schedule(text, UTC_ZONE).longest_interval(MONDAY) == longest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*/30 * * *",
        "* * * * * *",
        "61 * * * *",
        "0 0 31 2 *",
        "every",
        "every 0m",
        "every 15",
        "hourly",
        "* * * * MO-",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_schedule(text, UTC_ZONE)


@pytest.mark.parametrize("text", ["", "15", "m", "-3h", "1.5h", "15 parsecs"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a span of time"):
        parse_span(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=40), "40 s"),
        (timedelta(minutes=90), "1 h 30 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(days=3, minutes=5), "3 d"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(span: timedelta, text: str) -> None:
    assert format_span(span) == text
