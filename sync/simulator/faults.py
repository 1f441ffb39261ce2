"""What can go wrong between a client and E-HPC, on demand: which calls are struck, and how; deterministic by a seed."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from sync.simulator.answers import LIST_KEYS, error_answer, xml_error_answer
from sync.simulator.refusals import RefusalError
from sync.simulator.wire import HttpAnswer

DEFAULT_CODES = {500: "InternalError", 503: "ServiceUnavailable", 406: "EcsError", 407: "NotAuthorized"}
HTML = b"<html><head><title>%d</title></head><body><h1>The proxy says no</h1></body></html>\n"


class FaultKind(StrEnum):
    """What happens to a call that a fault strikes."""

    ERROR = "error"
    THROTTLE = "throttle"
    XML = "xml"
    HTML = "html"
    EMPTY = "empty"
    GARBAGE = "garbage"
    SHAPE = "shape"
    HUGE = "huge"
    RESET = "reset"
    CUT = "cut"
    TRUNCATE = "truncate"
    DRIP = "drip"
    DELAY = "delay"
    SKEW = "skew"

    @property
    def is_spoiling(self) -> bool:
        """Return whether the client gets no good answer; at most one such fault strikes a call."""
        return self not in {FaultKind.DELAY, FaultKind.SKEW}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: whom it strikes (all calls, without selection) and what it does.

    ``every``, ``first`` and ``rate`` count the calls that the globs select; several of them must all agree.
    """

    kind: FaultKind
    action: str = "*"
    region_id: str = "*"
    instance_type: str = "*"
    rate: float = 1.0
    """The share of calls that is struck; which ones follows from the seed and the call, not from thread timing."""
    every: int = 1
    """Strikes the n-th, 2n-th... call."""
    first: int = 0
    """Strikes only the first n calls; 0 for no such limit."""
    is_per_target: bool = False
    """Count the calls of each action, region and instance type on their own: "the first call of each fails"."""
    status: int = 0
    """The HTTP status of ``error``, ``throttle``, ``xml`` and ``html``; 0 for the usual one."""
    code: str = ""
    """The error code of ``error``, ``throttle`` and ``xml``; empty for the usual one."""
    duration_s: float = 0.0
    """How long ``delay`` waits; how far ``skew`` sets the clock off; the pause between two bytes of ``drip``."""
    retry_after_ms: int = 0
    """The header x-acs-retry-after of ``throttle``; 0 for none."""
    size_bytes: int = 0
    """The size of a ``huge`` body."""
    shape: str = '"x"'
    """JSON that ``shape`` puts where the list should be."""

    @property
    def clock_offset(self) -> timedelta:
        """Return how far the fault sets the simulator's clock off."""
        return timedelta(seconds=self.duration_s if self.kind is FaultKind.SKEW else 0)

    def selects(self, action: str, region_id: str, instance_type: str) -> bool:
        """Return whether the globs match a call; the all-types call has the instance type ``*``."""
        return (
            fnmatchcase(action, self.action)
            and fnmatchcase(region_id, self.region_id)
            and fnmatchcase(instance_type, self.instance_type)
        )

    def strikes(self, number: int, draw: float) -> bool:
        """Return whether the ``number``-th selected call (from 1) is struck; ``draw`` is in [0, 1)."""
        return number % self.every == 0 and not 0 < self.first < number and draw < self.rate


class FaultPlan:
    """The faults in force and their counters; thread-safe."""

    def __init__(self, faults: Iterable[Fault], seed: int = 0) -> None:
        self.faults = tuple(faults)
        self.seed = seed
        self._lock = threading.Lock()
        self._numbers: Counter[tuple[int, str, str, str]] = Counter()

    def fired_for(self, action: str, region_id: str, instance_type: str) -> tuple[Fault, ...]:
        """Return the faults that strike this call, in their order; each call of this method counts as a call."""
        return tuple(
            fault
            for index, fault in enumerate(self.faults)
            if fault.selects(action, region_id, instance_type)
            and self._strikes(index, fault, (action, region_id, instance_type))
        )

    def _strikes(self, index: int, fault: Fault, target: tuple[str, str, str]) -> bool:
        own = (index, *target)
        shared = own if fault.is_per_target else (index, "", "", "")
        with self._lock:
            self._numbers[shared] += 1
            number = self._numbers[shared]
            if shared != own:
                self._numbers[own] += 1
            turn = self._numbers[own]
        return fault.strikes(number, _draw_of(self.seed, own, turn) if fault.rate < 1 else 0.0)


def spoilt_answer(fault: Fault, answer: HttpAnswer, action: str, request_id: str) -> HttpAnswer:
    """Return what the client gets instead of ``answer``; faults of the connection leave it as it is."""
    if fault.kind in {FaultKind.ERROR, FaultKind.THROTTLE}:
        return error_answer(_refusal_of(fault), request_id, "")
    if fault.kind is FaultKind.XML:
        return xml_error_answer(_refusal_of(fault), request_id, "")
    if fault.kind is FaultKind.HTML:
        return HttpAnswer(fault.status or 502, HTML % (fault.status or 502), "text/html")
    body = _spoilt_body(fault, action, request_id)
    return answer if body is None else HttpAnswer(fault.status or 200, body)


def code_of(fault: Fault) -> str:
    """Return the error code that the client reads in the spoilt answer; empty where it reads none."""
    has_code = fault.kind in {FaultKind.ERROR, FaultKind.THROTTLE, FaultKind.XML}
    return _refusal_of(fault).code if has_code else ""


def _refusal_of(fault: Fault) -> RefusalError:
    if fault.kind is FaultKind.THROTTLE:
        code = fault.code or "Throttling.User"
        return RefusalError(code, status=fault.status, retry_after_ms=fault.retry_after_ms)
    status = fault.status or (0 if fault.code else 500)
    return RefusalError(fault.code or DEFAULT_CODES.get(status, "UnknownError"), status=status)


def _spoilt_body(fault: Fault, action: str, request_id: str) -> bytes | None:
    start = f'{{"RequestId":"{request_id}","{LIST_KEYS.get(action, "OsTags")}":'
    match fault.kind:
        case FaultKind.EMPTY:
            return b""
        case FaultKind.GARBAGE:
            return f'{start}{{"OsI'.encode()
        case FaultKind.SHAPE:
            return f"{start}{fault.shape}}}".encode()
        case FaultKind.HUGE:
            return f"{start}{' ' * max(0, fault.size_bytes - len(start) - 3)}{{}}}}".encode()
        case _:
            return None


def _draw_of(seed: int, target: tuple[int, str, str, str], turn: int) -> float:
    digest = hashlib.blake2b(repr((seed, target, turn)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
