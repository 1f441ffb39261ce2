"""Times as people type and read them."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.errors import ConfigError
from sync.inventory import to_milliseconds
from sync.moments import format_moment, offsets_between, parse_moment

NOW = datetime(2026, 11, 23, 12, 30, 15, 123_000, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")

MOMENTS = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001  the zone is given beside it
    max_value=datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        (" NOW ", NOW),
        ("yesterday", NOW - timedelta(days=1)),
        ("-90s", NOW - timedelta(seconds=90)),
        ("-5m", NOW - timedelta(minutes=5)),
        ("-2h", NOW - timedelta(hours=2)),
        ("- 3 D", NOW - timedelta(days=3)),
        ("-1w", NOW - timedelta(weeks=1)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22 14:30", datetime(2026, 11, 22, 14, 30, tzinfo=UTC)),
        ("2026-11-22T14:30:00+08:00", datetime(2026, 11, 22, 6, 30, tzinfo=UTC)),
        ("2026-11-22T14:30:00.1239Z", datetime(2026, 11, 22, 14, 30, 0, 123_000, tzinfo=UTC)),
    ],
)
def test_a_time_can_be_typed_as(text: str, expected: datetime) -> None:
    assert parse_moment(text, NOW, UTC_ZONE) == expected


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2h", "-2y", "-h", "25:00", "2026-11-22T14:30+99:00"])
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time; write ISO 8601"):
        parse_moment(text, NOW, UTC_ZONE)


@pytest.mark.parametrize("text", ["-999999999w", "-99999999d", "0001-01-01T00:00+08:00"])
def test_a_time_beyond_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        parse_moment(text, NOW, UTC_ZONE)


def test_a_time_without_offset_is_in_the_configured_zone() -> None:
    assert parse_moment("2026-11-22", NOW, SHANGHAI) == datetime(2026, 11, 21, 16, tzinfo=UTC)


def test_a_time_that_the_clock_skips_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not exist in Europe/Berlin"):
        parse_moment("2026-03-29 02:30", NOW, BERLIN)


def test_a_time_that_exists_twice_needs_an_offset() -> None:
    with pytest.raises(ConfigError, match="exists twice in Europe/Berlin; add an offset"):
        parse_moment("2026-10-25 02:30", NOW, BERLIN)
    assert parse_moment("2026-10-25 02:30+01:00", NOW, BERLIN) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@settings(deadline=None)  # a busy machine is no failure
@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_every_iso_time_is_read_back_to_the_millisecond(moment: datetime, offset_minutes: int) -> None:
    local = moment.astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert parse_moment(local.isoformat(), NOW, SHANGHAI) == to_milliseconds(moment)


@settings(deadline=None)  # a busy machine is no failure
@given(MOMENTS)
def test_what_is_shown_can_be_typed_again(moment: datetime) -> None:
    shown = format_moment(moment, SHANGHAI, with_seconds=True)
    try:
        parsed = parse_moment(shown, NOW, SHANGHAI)
    except ConfigError as error:  # Shanghai put its clocks back on six days of the past
        assert "exists twice" in str(error)  # noqa: PT017
    else:
        assert parsed == moment.replace(microsecond=0)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_sentence(text: str) -> None:
    try:
        assert parse_moment(text, NOW, BERLIN).tzinfo is not None
    except ConfigError as error:
        assert "write" in str(error) or "offset" in str(error)  # noqa: PT017


def test_no_time_is_shown_as_nothing() -> None:
    assert format_moment(None, UTC_ZONE) == ""
    assert format_moment(NOW, SHANGHAI) == "2026-11-23 20:30"
    assert format_moment(NOW, UTC_ZONE, with_seconds=True) == "2026-11-23 12:30:15"


def test_the_offsets_of_a_period_give_every_local_time_a_meaning() -> None:
    zone = ZoneInfo("Europe/Berlin")
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    offsets = offsets_between(begin, end, zone)
    assert offsets == [("", "+01:00"), ("2026-03-29 03:00:00", "+02:00"), ("2026-10-25 02:00:00", "+01:00")]
    for hour in range(365 * 24):
        moment = begin + timedelta(hours=hour, minutes=30)
        local = format_moment(moment, zone, with_seconds=True)
        offset = [offset for since, offset in offsets if since <= local][-1]
        meant = parse_moment(f"{local.replace(' ', 'T')}{offset}", end, zone)
        assert meant in {moment, moment + timedelta(hours=1)}
        assert meant == moment or local.startswith("2026-10-25 02:30")


def test_a_zone_without_summer_time_has_one_offset_however_long_the_period() -> None:
    ever = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    assert offsets_between(*ever, ZoneInfo("UTC")) == [("", "+00:00")]
    assert offsets_between(*ever, ZoneInfo("Asia/Shanghai")) == [("", "+08:00")]
    first_days = datetime(1, 1, 2, tzinfo=UTC), datetime(1, 1, 5, tzinfo=UTC)
    assert offsets_between(*first_days, ZoneInfo("UTC")) == [("", "+00:00")]


def test_times_at_the_ends_of_the_calendar_are_shown() -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
    assert format_moment(first, ZoneInfo("America/New_York")).endswith("01-01 00:00")
    assert format_moment(last, SHANGHAI) == "9999-12-31 23:00"
