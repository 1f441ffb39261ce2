"""Times as people type and read them. Pure."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sync.errors import ConfigError
from sync.inventory import to_milliseconds

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_RELATIVE = re.compile(r"-\s*(\d{1,9})\s*([smhdw])")

FORMS = "ISO 8601 (2026-11-22T14:30:00+08:00), a date (2026-11-22), now, yesterday, or -2h (s, m, h, d, w)"


def parse_moment(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the UTC time that ``text`` means; times without a zone are in ``zone``.

    ``yesterday`` is 24 hours ago, as in GNU date; a date alone is its first moment.

    Raises:
        ConfigError: the text is no time, or it names a local time that exists twice or never.
    """
    words = text.strip().lower()
    if words == "now":
        return now
    if words == "yesterday":
        return now - timedelta(days=1)
    if match := _RELATIVE.fullmatch(words):
        return _before(now, text, **{_UNITS[match[2]]: int(match[1])})
    try:
        moment = _parse_iso(text.strip())
    except ValueError:
        raise ConfigError(f"{text!r} is not a time; write {FORMS}") from None
    if moment.tzinfo is None:
        moment = _in_zone(moment, text, zone)
    try:
        return to_milliseconds(moment)
    except OverflowError:
        raise ConfigError(f"{text!r} is out of range; write a time between the years 1 and 9999") from None


def format_moment(moment: datetime | None, zone: ZoneInfo, *, with_seconds: bool = False) -> str:
    """Return a time as tables show it, in ``zone``, to the minute or the second; empty for None.

    Within hours of the calendar's ends the zone may be beyond them; there the time is shown as it is.
    """
    if moment is None:
        return ""
    with suppress(OverflowError):
        moment = moment.astimezone(zone)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if with_seconds else "%Y-%m-%d %H:%M")


def _before(now: datetime, text: str, **span: int) -> datetime:
    try:
        return now - timedelta(**span)
    except OverflowError:
        raise ConfigError(f"{text!r} is out of range; write a shorter span") from None


def _parse_iso(text: str) -> datetime:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return datetime.combine(date.fromisoformat(text), time())
    return datetime.fromisoformat(text)


def _in_zone(moment: datetime, text: str, zone: ZoneInfo) -> datetime:
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
        raise ConfigError(f"{text!r} does not exist in {zone.key}, where the clock skips it; add an offset")
    raise ConfigError(f"{text!r} exists twice in {zone.key}; add an offset, for example +01:00")


LONGEST_LOOK = timedelta(days=3660)  # ten years have twenty changes of the clock, which takes some milliseconds


def offsets_between(begin: datetime, end: datetime, zone: ZoneInfo) -> list[tuple[str, str]]:
    """Return from which local time on clocks have which offset from UTC, in the order of time; at first since ever.

    Of local times that exist twice the later one is meant. Only the last ten years are looked at.
    """
    moment = begin if end - begin < LONGEST_LOOK else end - LONGEST_LOOK
    found = [("", _offset_of(moment, zone))]
    while moment < end:
        later = min(moment + timedelta(days=1), end)
        if _offset_of(later, zone) != found[-1][1]:
            change = _change_between(moment, later, zone)
            found.append((format_moment(change, zone, with_seconds=True), _offset_of(change, zone)))
        moment = later
    return found


def _offset_of(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")[19:]


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the second at which clocks are put forward or back."""
    before, after = before.replace(microsecond=0), after.replace(microsecond=0)
    offset = _offset_of(before, zone)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset_of(middle, zone) == offset else (before, middle)
    return after
