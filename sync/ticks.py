"""Schedules and spans of time as people configure them: ``*/30 * * * *``, ``every 15m``, ``36h``. Pure.

A schedule's *ticks* are the moments at which a run is due. They depend on the schedule alone and not on when a process
started, so that any number of processes and machines agree on them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
_EVERY = re.compile(r"every\s+(.+)")
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

GOOD_EXPRESSION = "*/30 * * * *"
"""The expression that a sentence about a bad one shows."""

_SPAN_SEARCHED = timedelta(days=35)  # a month and more: the rhythm of nearly every schedule
_TICKS_SEARCHED = 12_000  # eight days of every minute: weekends are seen, and it takes a tenth of a second


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs are due: a crontab expression in a time zone, or every so often since 1970 in UTC."""

    text: str
    zone: ZoneInfo
    expression: str = ""
    every: timedelta = timedelta(0)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first tick after a time, in UTC."""
        return next(self.ticks_after(moment))

    def last_until(self, moment: datetime) -> datetime:
        """Return the last tick at or before a time, in UTC."""
        if self.every:
            return _EPOCH + (moment - _EPOCH) // self.every * self.every
        # The second after, because the search leaves its start out.
        start = moment.replace(microsecond=0) + timedelta(seconds=1)
        found = next(CronSim(self.expression, start.astimezone(self.zone), reverse=True))
        return found.astimezone(UTC)

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the ticks after a time in order, in UTC; a crontab expression that never matches again ends."""
        if self.every:
            tick = self.last_until(moment)
            while True:
                tick += self.every
                yield tick
        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            yield found.astimezone(UTC)

    def longest_interval(self, now: datetime) -> timedelta:
        """Return the longest time between two ticks that follow each other in the weeks after ``now``."""
        return self.every or _longest_interval(self, now.replace(hour=0, minute=0, second=0, microsecond=0))


@lru_cache(maxsize=8)
def _longest_interval(schedule: Schedule, day: datetime) -> timedelta:
    ticks = [day]
    for tick in islice(schedule.ticks_after(day), _TICKS_SEARCHED):
        ticks.append(tick)
        if tick - day > _SPAN_SEARCHED and len(ticks) > 3:
            break
    return max(later - earlier for earlier, later in pairwise(ticks[1:]))


def parse_schedule(text: str, zone: ZoneInfo) -> Schedule:
    """Return the schedule of a crontab expression (five fields, or @daily and its kin) or of ``every 15m``.

    Raises:
        ValueError: the text is no schedule; the message says why.
    """
    words = " ".join(text.split())
    if match := _EVERY.fullmatch(words.lower()):
        every = parse_span(match[1])
        if not every:
            raise ValueError(f"{text!r} has no length")
        return Schedule(text, zone, every=every)
    expression = _NICKNAMES.get(words.lower(), words)
    if len(expression.split()) != 5:
        raise ValueError(f"{text!r} is neither a crontab expression of five fields nor a rhythm such as 'every 15m'")
    try:
        next(CronSim(expression, _EPOCH))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"{text!r} is no crontab expression: {str(error) or 'it never matches'}") from None
    return Schedule(text, zone, expression=expression)


def parse_span(text: str) -> timedelta:
    """Return the length of a span such as ``90s``, ``15m``, ``36h``, ``3d`` or ``1w``.

    Raises:
        ValueError: the text is no span.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a span of time; write for example 90s, 15m, 36h or 3d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def format_span(span: timedelta) -> str:
    """Return a span as people say it, in its two largest units: ``2 h 5 min``, ``3 d``, ``40 s``."""
    seconds = max(0, int(span.total_seconds()))
    parts = [
        (seconds // 86_400, "d"),
        (seconds % 86_400 // 3600, "h"),
        (seconds % 3600 // 60, "min"),
        (seconds % 60, "s"),
    ]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
