"""Decides the answer to one call as Alibaba Cloud's gateway and E-HPC do: signature, permission, rate, action."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sync.errors import ConfigError
from sync.inventory import ALL_TYPES, Clock
from sync.simulator.answers import (
    MIN_GZIP_BYTES,
    AnswerBook,
    Payload,
    body_of,
    error_answer,
    gzip_body_of,
    new_request_id,
    payload_of_regions,
    payload_of_types,
    xml_error_answer,
)
from sync.simulator.calls import Call, CallLog
from sync.simulator.catalogue import Catalogue, Region
from sync.simulator.faults import Fault, FaultKind, FaultPlan, code_of, spoilt_answer
from sync.simulator.refusals import RefusalError
from sync.simulator.signatures import Account, NonceMemory, verify_signature
from sync.simulator.wire import HttpAnswer, HttpRequest

API_VERSION = "2018-04-12"
HOST_PATTERN = re.compile(r"ehpc(?:-vpc)?\.([a-z0-9-]+)\.", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send for one call, and how: ``faults`` are those that act on the connection (delay, reset, drip...)."""

    answer: HttpAnswer
    now: datetime
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What a call asks, read without judging it; missing values are empty."""

    action: str
    version: str
    region_id: str
    instance_type: str
    base_os_tag: str
    shows_sold_out: str
    method: str
    path: str
    accepts_gzip: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call was judged: ``code`` is empty for a regular answer, ``fault`` is the one that spoilt it."""

    request_id: str
    signature_version: str
    answer: HttpAnswer
    code: str = ""
    fault: Fault | None = None


class RateLimit:
    """Counts the calls of each region within the last second; thread-safe."""

    def __init__(self, calls_per_second: float) -> None:
        if calls_per_second <= 0:
            raise ConfigError(f"A rate limit must be above 0 calls per second, not {calls_per_second}.")
        # Below one call a second the window grows, so that 0.5 means one call in two seconds.
        self._limit = max(1, int(calls_per_second))
        self._window_s = self._limit / calls_per_second
        self._lock = threading.Lock()
        self._admitted: dict[str, deque[float]] = {}

    def wait_of(self, region_id: str, now_s: float) -> float:
        """Return 0.0 and count the call, or the seconds until the next call would be admitted."""
        with self._lock:
            times = self._admitted.setdefault(region_id, deque())
            while times and times[0] <= now_s - self._window_s:
                times.popleft()
            if len(times) >= self._limit:
                return times[0] + self._window_s - now_s
            times.append(now_s)
            return 0.0


class Gateway:
    """Answers calls from a catalogue; all its attributes may be exchanged at any time.

    Each call works with the catalogue, account and faults that stood when it arrived.
    """

    def __init__(self, catalogue: Catalogue, account: Account, clock: Clock, log: CallLog) -> None:
        self.account = account
        self.faults = FaultPlan(())
        self.rate_limit: RateLimit | None = None
        self.log = log
        self._book = AnswerBook(catalogue)
        self._clock = clock
        self._nonces = NonceMemory()

    @property
    def catalogue(self) -> Catalogue:
        """Return what is served now."""
        return self._book.catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self._book = AnswerBook(catalogue)

    def reply_to(self, request: HttpRequest) -> Reply:
        """Return the answer to one call and log it; faults count every call, signed well or not."""
        arrived_at, arrived_s = self._clock(), time.monotonic()
        book = self._book
        question = _question_of(request, book.catalogue)
        faults = self.faults.fired_for(question.action, question.region_id, question.instance_type)
        now = arrived_at + sum((fault.clock_offset for fault in faults), timedelta())
        outcome = self._outcome_of(request, book, question, now)
        spoiling = next((fault for fault in faults if fault.kind.is_spoiling), None)
        if spoiling and outcome.signature_version:
            outcome = _spoilt(outcome, spoiling, question)
        self.log.add(_call_of(question, outcome, arrived_at, arrived_s))
        acting = tuple(f for f in faults if f.kind is FaultKind.DELAY or f is outcome.fault)
        return Reply(outcome.answer, now, acting)

    def _outcome_of(self, request: HttpRequest, book: AnswerBook, question: Question, now: datetime) -> Outcome:
        request_id, version = new_request_id(), ""
        try:
            version = verify_signature(request, self.account, self._nonces, now)
            return Outcome(request_id, version, self._answer_to(book, question, request_id))
        except RefusalError as error:
            return Outcome(request_id, version, _error_answer_of(error, request, request_id), error.code)

    def _answer_to(self, book: AnswerBook, question: Question, request_id: str) -> HttpAnswer:
        if self.account.denies(question.action):
            raise _denial_of(self.account, question.action)
        if self.rate_limit:
            wait_s = self.rate_limit.wait_of(question.region_id, time.monotonic())
            if wait_s > 0:
                raise RefusalError("Throttling.User", retry_after_ms=max(1, round(wait_s * 1_000)))
        return _success_of(_payload_of(book, question), request_id, accepts_gzip=question.accepts_gzip)


def _spoilt(outcome: Outcome, fault: Fault, question: Question) -> Outcome:
    answer = spoilt_answer(fault, outcome.answer, question.action, outcome.request_id)
    return replace(outcome, answer=answer, code=code_of(fault), fault=fault)


def _call_of(question: Question, outcome: Outcome, arrived_at: datetime, arrived_s: float) -> Call:
    return Call(
        arrived_at=arrived_at,
        arrived_s=arrived_s,
        action=question.action,
        region_id=question.region_id,
        instance_type=question.instance_type,
        base_os_tag=question.base_os_tag,
        status=outcome.answer.status,
        code=outcome.code,
        request_id=outcome.request_id,
        signature_version=outcome.signature_version,
        fault=outcome.fault.kind if outcome.fault else "",
    )


def _question_of(request: HttpRequest, catalogue: Catalogue) -> Question:
    given = request.parameters
    headers = request.headers
    named = given.get("RegionId") or _region_of_host(headers.get("host", ""))
    return Question(
        action=headers.get("x-acs-action") or given.get("Action", ""),
        version=headers.get("x-acs-version") or given.get("Version", ""),
        region_id=named or next(iter(catalogue.regions), ""),
        instance_type=given.get("InstanceType") or ALL_TYPES,
        base_os_tag=given.get("BaseOsTag", ""),
        shows_sold_out=given.get("ShowSoldOut", ""),
        method=request.method,
        path=request.path,
        accepts_gzip="gzip" in headers.get("accept-encoding", ""),
    )


def _region_of_host(host: str) -> str:
    match = HOST_PATTERN.match(host)
    return match[1] if match else ""


def _payload_of(book: AnswerBook, question: Question) -> Payload:
    if question.method not in {"GET", "POST"}:
        raise RefusalError("UnsupportedHTTPMethod", f"This HTTP method is not supported: {question.method}.")
    encode = ACTIONS.get(question.action)
    if encode is None or question.path != "/":
        raise RefusalError("InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
    if question.version != API_VERSION:
        raise RefusalError("InvalidVersion")
    return encode(book, question)


def _payload_of_images(book: AnswerBook, question: Question) -> Payload:
    return book.payload_of_images(_region_of(book, question), question.instance_type, question.base_os_tag)


def _payload_of_types(book: AnswerBook, question: Question) -> Payload:
    given = question.shows_sold_out.lower()
    if given not in {"", "true", "false"}:
        raise RefusalError("InvalidParameter", f'The specified parameter "ShowSoldOut" is not valid: {given[:40]}')
    return payload_of_types(_region_of(book, question), shows_sold_out=given == "true")


def _payload_of_regions(book: AnswerBook, _: Question) -> Payload:
    return payload_of_regions(book.catalogue)


ACTIONS: dict[str, Callable[[AnswerBook, Question], Payload]] = {
    "ListImages": _payload_of_images,
    "ListAvailableEcsTypes": _payload_of_types,
    "ListRegions": _payload_of_regions,
}


def _region_of(book: AnswerBook, question: Question) -> Region:
    region = book.catalogue.regions.get(question.region_id)
    if region is None:
        raise RefusalError(
            "InvalidParameter", f'The specified parameter "RegionId" is not valid: {question.region_id[:40]}'
        )
    return region


def _denial_of(account: Account, action: str) -> RefusalError:
    text = f"You are not authorized to perform this operation. Action: ehpc:{action}, Resource: *"
    return RefusalError(account.denial_code, text)


def _success_of(payload: Payload, request_id: str, *, accepts_gzip: bool) -> HttpAnswer:
    if accepts_gzip and len(payload.plain) >= MIN_GZIP_BYTES:
        return HttpAnswer(200, gzip_body_of(payload, request_id), is_gzip=True)
    return HttpAnswer(200, body_of(payload, request_id))


def _error_answer_of(error: RefusalError, request: HttpRequest, request_id: str) -> HttpAnswer:
    host_id = request.headers.get("host", "")
    if request.parameters.get("Format", "JSON").upper() == "XML":
        return xml_error_answer(error, request_id, host_id)
    return error_answer(error, request_id, host_id)
