"""The text form of faults, as the command line and the control address take it, and back."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from sync.errors import ConfigError
from sync.simulator.faults import Fault, FaultKind

FAULT_HELP = """\
A fault is a kind, whom it strikes, and its details, separated by spaces; several faults by semicolons or lines.
Without selection it strikes every call.

\b
Kinds
  error        an error answer: status=503 code=ServiceUnavailable (status=503 alone will do)
  throttle     400 Throttling.User; with retry_after=2s or code=Throttling.Api
  xml          an error answer as XML: status= code=
  html         a proxy's page: status=200 or 502 (default)
  empty        no body
  garbage      JSON that breaks off, with a correct length
  shape        the wrong shape: shape=5 puts 5 where the list belongs (default "x")
  huge         a body of huge=40MB
  reset        the connection is reset before the answer
  cut          the connection is reset inside the body
  truncate     the connection is closed inside the body, Content-Length promised more
  drip         a byte every drip=50ms
  delay        answers late: delay=2s
  skew         the server's clock is off: skew=20m or skew=-20m

\b
Whom
  action= region= type=   globs: action=ListImages region=cn-* type=ecs.g*
  rate=0.2                a fifth of the calls, always the same ones
  every=3                 every third call
  first=3                 the first three calls
  per-target              counts each region and instance type on its own: "first=1 per-target"

\b
Examples
  throttle region=cn-shanghai rate=0.2 retry_after=500ms
  status=503 code=ServiceUnavailable type=ecs.g*
  delay=2s action=ListImages first=3; reset first=1 per-target
"""

PER_TARGET = "per-target"
DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h)?", re.ASCII)
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
SIZE = re.compile(r"(\d+)(KB|MB)?", re.ASCII)
UNITS_BYTES = {"KB": 1_024, "MB": 1_048_576}
MAX_DURATION_S = 864_000  # ten days: more is a slip of the pen
MAX_SIZE_BYTES = 1_073_741_824  # one gibibyte is made in memory
DEFAULTS: dict[FaultKind, dict[str, Any]] = {
    FaultKind.DELAY: {"duration_s": 1.0},
    FaultKind.DRIP: {"duration_s": 0.05},
    FaultKind.SKEW: {"duration_s": 1_200.0},
    FaultKind.HUGE: {"size_bytes": 40 * 1_048_576},
}


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Return the faults of a text, one a line or separated by semicolons; an empty text means no faults.

    Raises:
        ConfigError: what cannot be read, and the nearest name that could.
    """
    return tuple(parse_fault(part) for part in re.split(r"[;\n]", text) if part.strip())


def parse_fault(text: str) -> Fault:
    """Return the fault that a text like ``throttle region=cn-shanghai rate=0.2`` describes; see ``FAULT_HELP``.

    Raises:
        ConfigError: what cannot be read, and the nearest name that could.
    """
    kinds: list[FaultKind] = []
    values: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name in set(FaultKind):
            kinds.append(FaultKind(name))
        if equals or name == PER_TARGET:
            field_name, read = _setting_of(name, text)
            values[field_name] = read(value, text)
        elif name not in set(FaultKind):
            raise ConfigError(_unknown(name, text))
    kind = _kind_of(kinds, values, text)
    return Fault(kind, **{**DEFAULTS.get(kind, {}), **values})


def text_of(fault: Fault) -> str:
    """Return the text form of a fault; ``parse_fault`` reads it back as the same fault."""
    defaults = {field.name: field.default for field in fields(Fault)} | DEFAULTS.get(fault.kind, {})
    words = {fault.kind.value: fault.kind.value}
    for key, (name, _) in SETTINGS.items():
        value = getattr(fault, name)
        if value != defaults[name] and _names_detail(key, fault.kind):
            words[key] = PER_TARGET if key == PER_TARGET else f"{key}={_shown(name, value)}"
    return " ".join(words.values())


def _setting_of(name: str, text: str) -> tuple[str, Callable[[str, str], Any]]:
    if name in set(FaultKind) - set(SETTINGS):
        raise ConfigError(f"{name} in the fault {text!r} takes no value.")
    if name not in SETTINGS:
        raise ConfigError(_unknown(name, text))
    return SETTINGS[name]


def _kind_of(kinds: list[FaultKind], values: dict[str, Any], text: str) -> FaultKind:
    if len(set(kinds)) > 1:
        raise ConfigError(f"The fault {text!r} has two kinds, {kinds[0]} and {kinds[1]}; write two faults.")
    if kinds:
        return kinds[0]
    if "status" in values or "code" in values:
        return FaultKind.ERROR
    raise ConfigError(f"The fault {text!r} does not say what happens; begin with one of {_names(FaultKind)}.")


def _unknown(name: str, text: str) -> str:
    known = sorted({*FaultKind, *SETTINGS})
    near = get_close_matches(name, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known are {_names(known)}."
    return f"The fault {text.strip()!r} has an unknown word {name!r}; {advice}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(str(name) for name in names)


def _read_glob(value: str, text: str) -> str:
    if not value:
        raise ConfigError(f"A selection in the fault {text!r} is empty; leave it out to strike all.")
    return value


def _read_rate(value: str, text: str) -> float:
    try:
        rate = float(value)
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 1:
        raise ConfigError(f"rate={value} in the fault {text!r} is no share above 0 and up to 1, such as rate=0.2.")
    return rate


def _read_count(value: str, text: str) -> int:
    if not (value.isascii() and value.isdecimal() and int(value[:9]) > 0):
        raise ConfigError(f"{value!r} in the fault {text!r} is no whole number from 1, such as first=3.")
    return int(value[:9])


def _read_status(value: str, text: str) -> int:
    if not re.fullmatch(r"[2-5]\d\d", value, re.ASCII):
        raise ConfigError(f"status={value} in the fault {text!r} is no HTTP status from 200 to 599.")
    return int(value)


def _read_code(value: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w.-]*", value, re.ASCII):
        raise ConfigError(f"code={value} in the fault {text!r} is no error code, such as code=ServiceUnavailable.")
    return value


def _read_duration(value: str, text: str) -> float:
    match = DURATION.fullmatch(value)
    seconds = float(match[1]) * UNITS_S[match[2] or "s"] if match else MAX_DURATION_S + 1
    if abs(seconds) > MAX_DURATION_S:
        raise ConfigError(f"{value!r} in the fault {text!r} is no duration, such as 500ms, 2s or 20m.")
    return seconds


def _read_pause(value: str, text: str) -> float:
    seconds = _read_duration(value, text)
    if seconds < 0:
        raise ConfigError(f"{value!r} in the fault {text!r} is a wait below zero; only skew can be negative.")
    return seconds


def _read_milliseconds(value: str, text: str) -> int:
    return round(_read_pause(value, text) * 1_000)


def _read_size(value: str, text: str) -> int:
    match = SIZE.fullmatch(value)
    size = int(match[1][:12]) * UNITS_BYTES.get(match[2] or "", 1) if match else MAX_SIZE_BYTES + 1
    if size > MAX_SIZE_BYTES:
        raise ConfigError(f"{value!r} in the fault {text!r} is no size up to 1024MB, such as 40MB.")
    return size


def _read_json(value: str, text: str) -> str:
    try:
        json.loads(value)
    except ValueError as error:
        raise ConfigError(f"shape={value} in the fault {text!r} is no JSON without spaces: {error}.") from error
    return value


def _read_flag(value: str, text: str) -> bool:
    if value:
        raise ConfigError(f"{PER_TARGET} in the fault {text!r} takes no value.")
    return True


SETTINGS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "action": ("action", _read_glob),
    "region": ("region_id", _read_glob),
    "type": ("instance_type", _read_glob),
    "rate": ("rate", _read_rate),
    "every": ("every", _read_count),
    "first": ("first", _read_count),
    PER_TARGET: ("is_per_target", _read_flag),
    "status": ("status", _read_status),
    "code": ("code", _read_code),
    "retry_after": ("retry_after_ms", _read_milliseconds),
    "shape": ("shape", _read_json),
    "delay": ("duration_s", _read_pause),
    "drip": ("duration_s", _read_pause),
    "skew": ("duration_s", _read_duration),
    "huge": ("size_bytes", _read_size),
}
"""Each word before an equals sign: the field of the fault and the function that reads the value."""


def _names_detail(key: str, kind: FaultKind) -> bool:
    """Return whether a word may stand beside a kind: ``drip=`` and ``skew=`` share a field but name their own kind."""
    return key not in set(FaultKind) or key == kind


def _shown(name: str, value: object) -> str:
    if name == "duration_s":
        return f"{value:g}s"
    return f"{value}ms" if name == "retry_after_ms" else str(value)
