"""What a run and the daemon need, tried one by one, each with its remedy: nothing is recorded, nothing is pinged."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sync.check.api import check_api
from sync.check.database import History, check_database
from sync.check.outlets import check_channels, check_listen, check_ping
from sync.check.result import CheckResult, failed, ok
from sync.config import ALL_REGIONS, CONFIG_VARIABLE, DEFAULT_FILE, ENVIRONMENT_PREFIX, Settings, next_ticks
from sync.ehpc.endpoint import Endpoint
from sync.errors import ConfigError
from sync.inventory import Clock, utc_now
from sync.logs import redact
from sync.moments import format_moment
from sync.plan import Restriction, check_restriction
from sync.render import counted, named
from sync.run import check_regions
from sync.ticks import format_span


def examine(
    settings: Settings,
    *,
    path: str | None = None,
    region_ids: Sequence[str] = (),
    sends_test: bool = False,
    now: Clock = utc_now,
) -> Iterator[CheckResult]:
    """Yield the result of each check as it comes.

    Args:
        settings: what is examined.
        path: the configuration file that was named, for the result to say where the settings come from.
        region_ids: ask the API of these regions only; empty means all of the configuration.
        sends_test: send a test message to each notification channel.
        now: this machine's clock.

    Raises:
        ConfigError: ``region_ids`` names a region that is not planned.
    """
    restriction = Restriction(tuple(region_ids))
    if settings.regions and settings.regions != (ALL_REGIONS,):
        check_restriction(restriction, sorted(settings.regions))
    for result in _results(settings, path, restriction, now, sends_test=sends_test):
        yield replace(result, detail=redact(result.detail), remedy=redact(result.remedy))


def _results(
    settings: Settings, path: str | None, restriction: Restriction, now: Clock, *, sends_test: bool
) -> Iterator[CheckResult]:
    yield _configuration(settings, path)
    yield _schedule(settings, now())
    history = History()
    yield from check_database(settings, history)
    yield from check_api(settings, restriction, history, now)
    yield from check_channels(settings, sends_test=sends_test)
    yield check_ping(settings)
    yield check_listen(settings)


def _configuration(settings: Settings, path: str | None) -> CheckResult:
    try:
        check_regions(settings)
        Endpoint.of(settings.endpoint)
    except ConfigError as error:
        return failed("configuration", error, "correct the key")
    regions = "all regions" if settings.regions == (ALL_REGIONS,) else named(settings.regions, "region")
    return ok("configuration", f"{_source(path, os.environ)}; asks {regions}")


def _source(path: str | None, environment: Mapping[str, str]) -> str:
    default = DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None
    file = path or environment.get(CONFIG_VARIABLE) or default
    count = sum(name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE for name in environment)
    return f"{file or f'no file {DEFAULT_FILE}'}, {counted(count, 'key')} of the environment"


def _schedule(settings: Settings, now: datetime) -> CheckResult:
    shown = [format_moment(tick, settings.zone).split() for tick in next_ticks(settings.due, now)]
    days = [None, *(day for day, _ in shown)]
    ticks = ", ".join(
        time if day == before else f"{day} {time}" for (day, time), before in zip(shown, days, strict=False)
    )
    stale = format_span(settings.stale_span(now))
    return ok("schedule", f"{settings.schedule} ({settings.timezone}), next {ticks}; stale after {stale}")
