"""The API: credentials, this machine's clock, and each RAM permission in each region that the configuration needs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial

from sync.check.database import History
from sync.check.result import IMAGES_CHECK, CheckResult, State, failed, ok, skipped
from sync.config import ALL_REGIONS, Settings
from sync.ehpc.codes import advice_on
from sync.ehpc.credentials import Credential, official_chain
from sync.ehpc.fetch import LIST_IMAGES, REGION_OF_REGIONS, Client, ClientSettings
from sync.errors import CallError, ConfigError, ExitCode
from sync.inventory import ALL_TYPES, Clock, Target
from sync.logs import hide
from sync.plan import Restriction, check_patterns, check_restriction, needs_discovery, planned_types, targets_of
from sync.render import counted
from sync.run import check_regions
from sync.ticks import format_span

LIST_TYPES = "ListAvailableEcsTypes"
LIST_REGIONS = "ListRegions"

ATTEMPTS = 3  # a person waits for the answer; what a run would still ride out is told as what it is

CLOCK_WARNING = timedelta(seconds=60)  # more than a network and a lazy NTP client explain
CLOCK_LIMIT = timedelta(minutes=15)  # beyond it Alibaba Cloud refuses signatures

TRY_AGAIN = (
    "try again; if it stays, check `regions` and `endpoint`, and ask Alibaba Cloud's support with the request id"
)
NOT_REACHED = "try again; if it stays, check `regions` and `endpoint`, the firewall and the proxy"


@dataclass(frozen=True, slots=True)
class _RegionAnswer:
    """What one region answered; ``listed`` is None where its instance types could not be had."""

    region_id: str
    results: tuple[CheckResult, ...]
    listed: Sequence[str] | None


@dataclass(slots=True)
class _Asked:
    """The regions that were asked so far, and whether they are all there are."""

    answers: list[_RegionAnswer] = field(default_factory=list)
    is_sure: bool = True


def check_api(settings: Settings, restriction: Restriction, history: History, now: Clock) -> Iterator[CheckResult]:
    """Look for credentials, and ask each region once for all that a run needs of it."""
    chain = official_chain()
    try:
        credential = chain()
    except ConfigError as error:
        detail, _, remedy = str(error).partition(": ")
        yield CheckResult("credentials", State.FAILED, detail, remedy, error.exit_code)
        yield from _unasked(settings, "there are no credentials")
        return
    hide(credential.access_key_secret, credential.security_token)
    token = ", with a temporary token" if credential.security_token else ""
    found = f"access key {_shortened(credential.access_key_id)} of {chain.provider_name or 'the official chain'}"
    yield ok("credentials", f"{found}{token}; whether it is good the API says")
    try:
        check_regions(settings)
        client = _client_of(settings, credential, now)
    except ConfigError:
        yield from _unasked(settings, "the configuration cannot be used")
        return
    with client:
        yield from _answers(settings, restriction, history, client)


def _unasked(settings: Settings, reason: str) -> Iterator[CheckResult]:
    actions = [(LIST_REGIONS, settings.regions == (ALL_REGIONS,)), (LIST_TYPES, needs_discovery(settings))]
    yield skipped("clock", reason)
    for action in (*(name for name, is_needed in actions if is_needed), LIST_IMAGES):
        yield skipped(f"ehpc:{action}", reason)
    yield skipped("plan", reason)


def _shortened(key_id: str) -> str:
    return f"{key_id[:4]}…{key_id[-4:]}" if len(key_id) > 12 else f"{key_id[:4]}…"


def _client_of(settings: Settings, credential: Credential, now: Clock) -> Client:
    limits = ClientSettings(**{entry.name: getattr(settings, entry.name) for entry in fields(ClientSettings)})
    limits = replace(limits, max_attempts=min(ATTEMPTS, limits.max_attempts))
    return Client(limits, lambda: credential, now=now)


def _answers(settings: Settings, restriction: Restriction, history: History, client: Client) -> Iterator[CheckResult]:
    asked = _Asked()
    with ThreadPoolExecutor(settings.workers, thread_name_prefix="check") as threads:
        try:
            results = _asked_results(settings, restriction, history, client, asked, threads)
            yield from _after_clock(client, results)
        except BaseException:
            client.stop()  # or the pool would wait for calls that nobody wants any more
            raise
    yield _plan(settings, history, asked)


def _after_clock(client: Client, results: Iterator[CheckResult]) -> Iterator[CheckResult]:
    """Yield the clock's result before the others, as soon as one of them has brought the API's time."""
    waiting = []
    for result in results:
        waiting.append(result)
        if client.clock_error is not None:
            break
    yield _clock(client.clock_error)
    yield from waiting
    yield from results


def _asked_results(
    settings: Settings,
    restriction: Restriction,
    history: History,
    client: Client,
    asked: _Asked,
    threads: ThreadPoolExecutor,
) -> Iterator[CheckResult]:
    region_ids: Sequence[str] = sorted(settings.regions)
    if settings.regions == (ALL_REGIONS,):
        try:
            region_ids = client.fetch_regions().value
            check_restriction(restriction, region_ids)
            yield ok(f"ehpc:{LIST_REGIONS}", counted(len(region_ids), "region"))
        except CallError as error:
            asked.is_sure = False
            region_ids = history.region_ids
            yield _refused(LIST_REGIONS, REGION_OF_REGIONS, error, name=f"ehpc:{LIST_REGIONS}")
            if not region_ids:
                yield skipped(IMAGES_CHECK, "no region is known")
    chosen = [name for name in region_ids if name in (restriction.region_ids or region_ids)]
    for answer in threads.map(partial(_ask_region, settings, client), chosen):
        asked.answers.append(answer)
        yield from answer.results


def _ask_region(settings: Settings, client: Client, region_id: str) -> _RegionAnswer:
    """Ask one region for what a run would ask it, once each."""
    images = f"{IMAGES_CHECK} {region_id}"
    results: list[CheckResult] = []
    listed: Sequence[str] | None = ()
    if needs_discovery(settings):
        try:
            listed = client.fetch_instance_types(region_id).value
            results.append(ok(f"ehpc:{LIST_TYPES} {region_id}", counted(len(listed), "instance type")))
        except CallError as error:
            listed = None
            results.append(_refused(LIST_TYPES, region_id, error))
            if error.stops_region or error.code.startswith("network."):
                results.append(skipped(images, f"it would meet the same failure: {error.code}"))
                return _RegionAnswer(region_id, tuple(results), listed)
    instance_type = _sample_type(settings, listed or ())
    try:
        count = len(client.fetch_images(Target(region_id, instance_type)).value)
    except CallError as error:
        results.append(_refused(LIST_IMAGES, region_id, error))
    else:
        subject = "all types together" if instance_type == ALL_TYPES else instance_type
        results.append(ok(images, f"{counted(count, 'image')} of {subject}"))
    return _RegionAnswer(region_id, tuple(results), listed)


def _sample_type(settings: Settings, listed: Sequence[str]) -> str:
    """Return the instance type to ask for: one that surely exists before one that may be misspelt, any before none."""
    planned = planned_types(listed, settings)
    known = [name for name in planned if name in set(listed)]
    return (known or planned or [ALL_TYPES])[0]


def _refused(action: str, region_id: str, error: CallError, *, name: str = "") -> CheckResult:
    advice = advice_on(error.code, action)
    message = error.message.removeprefix(f"{action} in {region_id}: ").removesuffix(f"; {advice}")
    request = f" (request {error.request_id})" if error.request_id else ""
    detail = f"{error.code}: {message}{request}"
    remedy = advice or (TRY_AGAIN if error.request_id else NOT_REACHED)
    return CheckResult(name or f"ehpc:{action} {region_id}", State.FAILED, detail, remedy)


def _clock(clock_error: timedelta | None) -> CheckResult:
    if clock_error is None:
        return skipped("clock", "no answer of the API to compare it with")
    size = abs(clock_error)
    if size <= CLOCK_WARNING:
        return ok("clock", f"within {max(1, round(size.total_seconds()))} s of the API's")
    detail = f"{format_span(size)} {'behind' if clock_error < timedelta(0) else 'ahead of'} the API's"
    remedy = "set this machine's clock by NTP, for example with chrony or systemd-timesyncd"
    if size <= CLOCK_LIMIT:
        limit = format_span(CLOCK_LIMIT)
        return CheckResult(
            "clock", State.WARNING, f"{detail}; it dates the history, and signatures bear only {limit}", remedy
        )
    detail += "; requests are signed with the API's time instead, but this clock dates the history"
    return CheckResult("clock", State.FAILED, detail, remedy)


def _plan(settings: Settings, history: History, asked: _Asked) -> CheckResult:
    listed_of = {answer.region_id: answer.listed for answer in asked.answers}
    if not asked.is_sure or None in listed_of.values():
        return skipped("plan", "not all lists of regions and instance types could be had")
    planned = {name: planned_types(listed or (), settings) for name, listed in listed_of.items()}
    seen = {*history.types, *(name for listed in listed_of.values() for name in listed or ())}
    try:
        check_patterns(settings, seen)
    except ConfigError as error:
        return failed("plan", error, "correct instance_types")
    count = sum(len(targets_of(region_id, types, settings)) for region_id, types in planned.items())
    if count:
        return ok("plan", f"{counted(count, 'target')} in {counted(len(planned), 'region')}")
    remedy = "correct instance_types and exclude_instance_types; see: ehpc-image-sync plan"
    return CheckResult("plan", State.FAILED, "nothing is left to ask", remedy, ExitCode.FAILED)
