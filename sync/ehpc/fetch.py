"""The three actions: each call ends with one complete, readable answer or with one CallError."""

import logging
import random
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Self, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from sync.ehpc.codes import RETRIED, AttemptError, Remedy, advice_on, remedy_of
from sync.ehpc.credentials import Credential, CredentialSource
from sync.ehpc.endpoint import Endpoint
from sync.ehpc.parse import ApiError, Reading, read_error, read_images, read_instance_types, read_regions
from sync.ehpc.rate import Gate
from sync.ehpc.region import Region, RegionStatistics
from sync.ehpc.signing import ApiRequest, canonical_query, signed_headers
from sync.ehpc.transport import Reply, Transport
from sync.errors import CallError
from sync.inventory import ALL_TYPES, Clock, Image, Target

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIST_IMAGES = "ListImages"

REGION_OF_REGIONS = "cn-hangzhou"
"""Where ListRegions is asked: the region that every account has."""

MAX_MESSAGE_CHARACTERS = 400  # SignatureDoesNotMatch quotes the whole request


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach the API; ``calls_per_second`` is per region, ``workers`` the requests in flight over all."""

    endpoint: str = "https://ehpc.{region}.aliyuncs.com"
    workers: int = 16
    calls_per_second: float = 10
    connect_timeout_s: float = 5
    read_timeout_s: float = 30
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How long to wait between attempts: exponential with full jitter, unless the server says how long."""

    first_s: float = 0.5
    longest_s: float = 20  # five attempts then end within the minute that most outages of a gateway last
    longest_retry_after_s: float = 60  # a mistaken header must not put a run to sleep

    def delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Return the wait after the given attempt, counted from 1."""
        if retry_after_s is not None:
            return min(retry_after_s, self.longest_retry_after_s)
        return random.uniform(0, min(self.longest_s, self.first_s * 2 ** (attempt - 1)))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the API answered, the id of the request, and when the answer had come."""

    value: T
    request_id: str
    received_at: datetime


@dataclass(slots=True)
class _Call:
    """One call through all its attempts."""

    action: str
    region: Region
    host: str
    query: str
    read: Callable[[bytes], Reading[Any] | ApiError]
    attempts: int = 0
    tried: set[Remedy] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One signed request of a call."""

    number: int
    credential: Credential
    sent_at: float
    clock_offset: timedelta


class Client:
    """The API of all regions for one run; thread-safe, to be closed."""

    def __init__(
        self,
        settings: ClientSettings,
        credentials: CredentialSource,
        *,
        now: Clock,
        backoff: BackoffPolicy | None = None,
    ) -> None:
        """Prepare everything and connect to nothing.

        Args:
            settings: where and how fast.
            credentials: asked for every attempt; with a method ``refresh`` where a token may expire.
            now: the time that requests are signed with.
            backoff: the waits between attempts.

        Raises:
            ConfigError: the endpoint cannot be used.
        """
        self._settings = settings
        self._endpoint = Endpoint.of(settings.endpoint)
        self._credentials = credentials
        self._now = now
        self._backoff = backoff or BackoffPolicy()
        self._gate = Gate(settings.workers)
        self._transport = Transport(
            workers=settings.workers,
            connect_timeout_s=settings.connect_timeout_s,
            read_timeout_s=settings.read_timeout_s,
        )
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}
        self._clock_offset = timedelta(0)
        self._clock_error: timedelta | None = None
        self._retrying = Retrying(
            retry=retry_if_exception(_is_retried),
            stop=stop_after_attempt(settings.max_attempts),
            wait=_delay_of,
            sleep=self._gate.sleep,
            reraise=True,
        )

    def fetch_images(self, target: Target) -> Answer[frozenset[Image]]:
        """Return the distinct images of a target; an empty set is what the API said.

        Raises:
            CallError: no complete, readable answer came.
            ConfigError: there are no credentials.
            RunInterruptedError: the run was stopped.
        """
        parameters = {"InstanceType": target.instance_type, "BaseOsTag": target.base_os_tag}
        if target.instance_type == ALL_TYPES:
            del parameters["InstanceType"]
        if not target.base_os_tag:
            del parameters["BaseOsTag"]
        return self._call(LIST_IMAGES, target.region_id, parameters, read_images)

    def fetch_instance_types(self, region_id: str) -> Answer[tuple[str, ...]]:
        """Return the instance types that E-HPC knows in the region, sold out or not, sorted and distinct."""
        return self._call("ListAvailableEcsTypes", region_id, {"ShowSoldOut": "true"}, read_instance_types)

    def fetch_regions(self) -> Answer[tuple[str, ...]]:
        """Return the ids of all regions of E-HPC, sorted and distinct."""
        return self._call("ListRegions", REGION_OF_REGIONS, {}, read_regions)

    def statistics(self) -> tuple[RegionStatistics, ...]:
        """Return the counts of every region asked so far, sorted by region."""
        with self._lock:
            regions = sorted(self._regions.items())
        return tuple(region.statistics() for _, region in regions)

    @property
    def clock_error(self) -> timedelta | None:
        """Return how far this machine's clock is ahead of the API's, by the first answer with a date; None before it.

        It is exact to the second and the time that an answer takes; a clock that is behind is a negative one.
        """
        return self._clock_error

    def stop(self) -> None:
        """Wake every wait and cut every call in flight; they and all later calls raise RunInterruptedError."""
        self._gate.stop()
        self._transport.abort()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self, action: str, region_id: str, parameters: dict[str, str], read: Callable[[bytes], Reading[T] | ApiError]
    ) -> Answer[T]:
        self._gate.check()
        host = self._endpoint.host_for(region_id)
        region = self._region(region_id)
        query = canonical_query(parameters | {"RegionId": region_id})
        call = _Call(action, region, host, query, read)
        try:
            answer: Answer[T] = self._retrying(self._attempt, call)
        except AttemptError as fault:
            raise region.note_failure(fault.error) from fault.__cause__
        region.note_success()
        return answer

    def _region(self, region_id: str) -> Region:
        region = self._regions.get(region_id)
        if region is None:
            with self._lock:
                new = Region(region_id, self._gate, self._settings.calls_per_second)
                region = self._regions.setdefault(region_id, new)
        return region

    # --- one attempt

    def _attempt(self, call: _Call) -> Answer[Any]:
        call.region.check(call.action)
        call.attempts += 1
        if call.attempts > 1:
            call.region.note_retry()
        credential = self._credentials()
        sent_at = call.region.lane.enter()
        attempt = _Attempt(call.attempts, credential, sent_at, self._clock_offset)
        try:
            reply = self._sent(call, attempt)
        except CallError as error:
            self._gate.check()  # a call that was cut by stop() has not failed
            raise self._fault(call, attempt, error, Remedy.RETRY) from error
        finally:
            self._gate.leave()
        call.region.note_answer()
        self._note_clock(reply)
        return self._read(call, attempt, reply)

    def _sent(self, call: _Call, attempt: _Attempt) -> Reply:
        request = ApiRequest(call.action, call.host, call.query)
        headers = signed_headers(
            request,
            attempt.credential,
            signed_at=self._now() + attempt.clock_offset,
            nonce=secrets.token_hex(16),
        )
        headers |= {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "ehpc-image-sync"}
        return self._transport.get(self._endpoint.scheme, call.host, call.query, headers)

    def _read(self, call: _Call, attempt: _Attempt, reply: Reply) -> Answer[Any]:
        try:
            reading = call.read(reply.body) if reply.status == 200 else read_error(reply.body)
        except CallError as error:
            raise self._fault(call, attempt, error, Remedy.RETRY) from error
        if isinstance(reading, Reading):
            return Answer(reading.value, reading.request_id, self._now())
        if reading is None:
            raise self._status_fault(call, attempt, reply)
        if _is_no_images(call, reply, reading):
            return Answer(frozenset(), reading.request_id, self._now())
        raise self._api_fault(call, attempt, reply, reading)

    def _note_clock(self, reply: Reply) -> None:
        if self._clock_error is None:  # once: to read a date takes a good part of what an unchanged target costs
            server_time = _date_of(reply)
            self._clock_error = None if server_time is None else self._now() - server_time

    # --- failures

    def _fault(
        self, call: _Call, attempt: _Attempt, error: CallError, remedy: Remedy, retry_after_s: float | None = None
    ) -> AttemptError:
        """Apply the remedy that goes beyond waiting, and return what the retries decide on."""
        fault = AttemptError(self._told(call, attempt, error, remedy), remedy, retry_after_s)
        fault.delay_s = self._backoff.delay_s(attempt.number, retry_after_s)
        match remedy:
            case Remedy.SLOW_DOWN:
                self._slow_down(call.region, attempt, fault.delay_s)
                fault.delay_s = 0  # it waits with its whole region
            case Remedy.SIGN_AGAIN | Remedy.SET_CLOCK | Remedy.REFRESH_TOKEN:
                fault.delay_s = 0
            case Remedy.STOP_ACTION:
                call.region.refuse(fault.error, call.action)
            case Remedy.STOP_REGION:
                call.region.refuse(fault.error)
        logger.debug("attempt %d of %s in %s failed: %s", attempt.number, call.action, call.region.region_id, fault)
        return fault

    def _told(self, call: _Call, attempt: _Attempt, error: CallError, remedy: Remedy) -> CallError:
        """Return the error as the operator reads it: where, what, what to do; never a secret."""
        text = error.message
        for secret in (attempt.credential.access_key_secret, attempt.credential.security_token):
            if secret:  # the gateway quotes the signed headers, the token among them, when a signature is wrong
                text = text.replace(secret, "***")
        advice = advice_on(error.code, call.action)
        message = f"{call.action} in {call.region.region_id}: {text[:MAX_MESSAGE_CHARACTERS]}"
        # Without the permission to list instance types one may still list images: that stops one action only.
        stops_region = remedy is Remedy.STOP_REGION or (remedy is Remedy.STOP_ACTION and call.action == LIST_IMAGES)
        return CallError(
            error.code,
            f"{message}; {advice}" if advice else message,
            request_id=error.request_id,
            stops_region=stops_region,
        )

    def _status_fault(self, call: _Call, attempt: _Attempt, reply: Reply) -> AttemptError:
        error = CallError(f"http.{reply.status}", f"the answer has the HTTP status {reply.status} and no error code")
        remedy = Remedy.SLOW_DOWN if reply.status == 429 else Remedy.RETRY
        return self._fault(call, attempt, error, remedy, _retry_after_s(reply))

    def _api_fault(self, call: _Call, attempt: _Attempt, reply: Reply, api_error: ApiError) -> AttemptError:
        error = CallError(api_error.code, api_error.message or "no message", request_id=api_error.request_id)
        remedy = remedy_of(api_error.code, reply.status)
        if remedy is Remedy.SET_CLOCK and not self._clock_is_set(call, attempt, reply):
            remedy = Remedy.STOP_REGION
        if remedy is Remedy.REFRESH_TOKEN and not self._token_is_refreshed(call, attempt):
            remedy = Remedy.STOP_REGION
        return self._fault(call, attempt, error, remedy, _retry_after_s(reply))

    def _slow_down(self, region: Region, attempt: _Attempt, pause_s: float) -> None:
        region.lane.slow_down(pause_s, sent_at=attempt.sent_at)
        if region.report_throttling_once():
            logger.warning("%s is throttled by the API: its calls are slowed down", region.region_id)

    def _clock_is_set(self, call: _Call, attempt: _Attempt, reply: Reply) -> bool:
        """Take the offset of this machine's clock from the answer; False when that has been tried in vain."""
        if Remedy.SET_CLOCK in call.tried:
            return False
        call.tried.add(Remedy.SET_CLOCK)
        with self._lock:
            if attempt.clock_offset != self._clock_offset:
                return True  # another call has learned it since
            server_time = _date_of(reply)
            if server_time is None or self._clock_offset:
                return False
            self._clock_offset = server_time - self._now()
            word = "behind" if self._clock_offset > timedelta(0) else "ahead of"
            logger.warning(
                "this machine's clock is %.0f s %s the API's; signatures use the API's time",
                abs(self._clock_offset).total_seconds(),
                word,
            )
        return True

    def _token_is_refreshed(self, call: _Call, attempt: _Attempt) -> bool:
        """Fetch new credentials; False when that has been tried in vain or the source cannot."""
        refresh = getattr(self._credentials, "refresh", None)
        if Remedy.REFRESH_TOKEN in call.tried or refresh is None:
            return False
        call.tried.add(Remedy.REFRESH_TOKEN)
        with self._lock:
            if self._credentials() == attempt.credential:  # else another call has refreshed them since
                refresh()
        return True


def _is_no_images(call: _Call, reply: Reply, api_error: ApiError) -> bool:
    is_not_found = reply.status == 404 and api_error.code == "ImageNotFound"
    return is_not_found and call.action == LIST_IMAGES and bool(api_error.request_id)


def _is_retried(error: BaseException) -> bool:
    return isinstance(error, AttemptError) and error.remedy in RETRIED


def _delay_of(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.delay_s if isinstance(error, AttemptError) else 0


def _retry_after_s(reply: Reply) -> float | None:
    milliseconds = reply.headers.get("x-acs-retry-after", "").strip()
    return int(milliseconds) / 1000 if re.fullmatch("[0-9]{1,12}", milliseconds) else None


def _date_of(reply: Reply) -> datetime | None:
    try:
        moment = parsedate_to_datetime(reply.headers.get("date", ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
