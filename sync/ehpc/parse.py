"""Bodies of answers to values: strict, because what is misread as "no images" would become removals.

Numbers are kept as their text, or 7.10 would become 7.1. Everything that cannot be read for certain raises
CallError ``answer.unreadable`` whose message says where in the document. The shapes that are accepted are
written in the project's notes on the API: a list may come bare, in its wrapper, or as one object without a
list, and an empty one as null, as {} or not at all.
"""

import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, NoReturn, TypeVar

from sync.errors import CallError
from sync.inventory import Image

R = TypeVar("R")

MAX_FIELD_CHARACTERS = 1024
MAX_NAME_CHARACTERS = 100
API_FIELDS = ("ImageId", "OsTag", "BaseOsTag", "Platform", "Version", "Architecture", "OSName", "OSNameEn")
"""The names of an image's fields in the API, in the order of ``inventory.IMAGE_FIELDS``."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[R]):
    """What a success says."""

    request_id: str
    value: R


@dataclass(frozen=True, slots=True)
class ApiError:
    """What an error of the API says; request id and message may be empty."""

    request_id: str
    code: str
    message: str


class _UnreadableError(ValueError):
    """The text is the place in the document and what is wrong with it."""


def parse_images(body: bytes) -> frozenset[Image]:
    """Return the distinct images of a ListImages answer; an error in it is raised as CallError."""
    return _value_of(read_images(body))


def parse_instance_types(body: bytes) -> tuple[str, ...]:
    """Return the names in a ListAvailableEcsTypes answer, sorted and distinct."""
    return _value_of(read_instance_types(body))


def parse_regions(body: bytes) -> tuple[str, ...]:
    """Return the region ids in a ListRegions answer, sorted and distinct."""
    return _value_of(read_regions(body))


def read_images(body: bytes) -> Reading[frozenset[Image]] | ApiError:
    """Return the distinct images of a ListImages answer, or the error that it is.

    Most answers of a run differ from an earlier one in nothing but the request id: those are not read again.
    """
    match = _REQUEST_ID.search(body)
    is_memorable = match and len(body) <= _MAX_KNOWN_BYTES and body.count(b'"RequestId"') == 1
    if not match or not is_memorable:
        return _read(body, _images)
    request_id, rest = match[1].decode(), body[: match.start(1)] + body[match.end(1) :]
    images = _KNOWN.get(rest)
    if images is not None:
        return Reading(request_id, images)
    reading = _read(body, _images)
    if isinstance(reading, Reading) and reading.request_id == request_id:
        if len(_KNOWN) >= _MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[rest] = reading.value
    return reading


def read_instance_types(body: bytes) -> Reading[tuple[str, ...]] | ApiError:
    """Return the instance types of a ListAvailableEcsTypes answer, or the error that it is."""
    return _read(body, _instance_types)


def read_regions(body: bytes) -> Reading[tuple[str, ...]] | ApiError:
    """Return the region ids of a ListRegions answer, or the error that it is."""
    return _read(body, _regions)


def read_error(body: bytes) -> ApiError | None:
    """Return the error of an answer that is no success, from JSON or XML; None where there is none to be read."""
    if _XML_START.match(body):
        return _xml_error(body.decode("utf-8", "replace"))
    try:
        return _error_in(_json_object(body))
    except _UnreadableError:
        return None


# --- the document

_REQUEST_ID = re.compile(rb'"RequestId"\s*:\s*"([A-Za-z0-9-]{1,100})"')
_MAX_KNOWN = 200  # distinct lists of images; real regions have some tens of them
_MAX_KNOWN_BYTES = 64 * 1024  # 200 bodies then take 13 MB at most; 80 rows are 20 kB
_KNOWN: dict[bytes, frozenset[Image]] = {}
"""A memo of a pure function, by the body without its request id: a fifth of the CPU of reading it again."""


def _value_of(reading: Reading[R] | ApiError) -> R:
    if isinstance(reading, ApiError):
        raise CallError(reading.code, reading.message, request_id=reading.request_id)
    return reading.value


def _read(body: bytes, reader: Callable[[Mapping[str, Any]], R]) -> Reading[R] | ApiError:
    request_id = ""
    try:
        content = _json_object(body)
        found = _error_in(content)
        if found is not None:
            return found
        request_id = _name(content.get("RequestId"), "RequestId")
        return Reading(request_id, reader(content))
    except _UnreadableError as error:
        raise CallError("answer.unreadable", str(error), request_id=request_id) from error


def _refuse_constant(name: str) -> NoReturn:
    raise _UnreadableError(f"the body holds {name}, which is no JSON number")


_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse_constant)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = _DECODER.decode(body.decode(json.detect_encoding(body)))
    except _UnreadableError:
        raise
    except RecursionError as error:
        raise _UnreadableError("the body is nested too deeply") from error
    except ValueError as error:  # its text would quote the body
        raise _UnreadableError(f"the body is no JSON ({len(body)} bytes)") from error
    if not isinstance(content, dict):
        raise _UnreadableError(f"the body is {_kind(content)}, not an object")
    return content


def _error_in(content: Mapping[str, Any]) -> ApiError | None:
    """Return the error when the object has a Code; some gateways write the keys in lower case."""
    lower = {key.lower(): value for key, value in content.items() if key.lower() in _ERROR_KEYS}
    code = lower.get("code")
    if code is None:
        return None
    return ApiError(_plain(lower.get("requestid")), _name(code, "Code"), _plain(lower.get("message")))


_ERROR_KEYS = frozenset({"code", "message", "requestid"})
_XML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|Error\b)", re.IGNORECASE)


def _xml_error(text: str) -> ApiError | None:
    """A pattern and not an XML parser: three flat fields are all, and no entity can be made to expand."""
    found = {
        name: html.unescape(match[1])
        for name in _ERROR_KEYS
        if (match := re.search(f"<{name}>([^<]*)</{name}>", text, re.IGNORECASE))
    }
    try:
        code = _name(found.get("code"), "Code")
    except _UnreadableError:
        return None
    return ApiError(_plain(found.get("requestid")), code, _plain(found.get("message")))


# --- lists


def _rows(parent: Mapping[str, Any], at: str, wrapper: str, name: str) -> tuple[list[Any], Callable[[int], str]]:
    """Return the rows of ``parent[wrapper][name]`` in any accepted shape, and what gives the path of each."""
    outer = f"{at}{wrapper}"
    value = parent.get(wrapper)
    if value is None:
        _check_no_lookalike(parent, at, wrapper)
        return [], outer.format
    if isinstance(value, dict):
        if not value:
            return [], outer.format
        if name not in value:
            _check_no_lookalike(value, f"{outer}.", name)
            return [value], lambda _: outer
        outer, value = f"{outer}.{name}", value[name]
    if isinstance(value, dict):
        return [value], lambda _: outer
    if not isinstance(value, list):
        raise _UnreadableError(f"{outer}: is {_kind(value)}, not a list or an object")
    return value, lambda index: f"{outer}[{index}]"


def _check_no_lookalike(parent: Mapping[str, Any], at: str, name: str) -> None:
    """A list under ``osTags`` is no answer without OsTags: it must not be read as "no images"."""
    for key in parent:
        if key != name and key.lower() == name.lower():
            raise _UnreadableError(f"{at}{key}: the name should be {name}")


def _images(content: Mapping[str, Any]) -> frozenset[Image]:
    rows, path = _rows(content, "", "OsTags", "OsInfo")
    try:
        # The way of nearly every answer, without a line of Python per row: all rows have been seen before.
        return frozenset(map(_SEEN.__getitem__, map(_RAW_ROW, rows)))
    except (KeyError, TypeError):
        return frozenset(_image(row, path(index)) for index, row in enumerate(rows))


def _instance_types(content: Mapping[str, Any]) -> tuple[str, ...]:
    families, family_path = _rows(content, "", "InstanceTypeFamilies", "InstanceTypeFamilyInfo")
    names: set[str] = set()
    for number, family in enumerate(families):
        at = family_path(number)
        _check_object(family, at)
        if "Types" not in family and "InstanceTypeFamilyId" not in family:
            raise _UnreadableError(f"{at}: has neither Types nor InstanceTypeFamilyId")
        rows, path = _rows(family, f"{at}.", "Types", "TypesInfo")
        names.update(_named(row, "InstanceTypeId", path(index)) for index, row in enumerate(rows))
    return tuple(sorted(names))


def _regions(content: Mapping[str, Any]) -> tuple[str, ...]:
    rows, path = _rows(content, "", "Regions", "RegionInfo")
    return tuple(sorted({_named(row, "RegionId", path(index)) for index, row in enumerate(rows)}))


def _named(row: Any, key: str, at: str) -> str:
    _check_object(row, at)
    return _name(row.get(key), f"{at}.{key}")


# --- rows and fields

_MAX_SEEN = 20_000  # rows of about 1 KiB: 20 MiB at most; real inventories have a few thousand distinct rows
_RAW_ROW = itemgetter(*API_FIELDS)
_SEEN: dict[tuple[str | None, ...], Image] = {}
"""A memo of a pure function: the same row stands in the answers of hundreds of types and is read once."""


def _image(row: Any, at: str) -> Image:
    _check_object(row, at)
    raw = tuple(row.get(name) for name in API_FIELDS)
    try:
        seen = _SEEN.get(raw)
    except TypeError:  # a field is a list or an object; reading it will say which
        seen = None
    return seen if seen is not None else _new_image(raw, at)


def _new_image(raw: tuple[Any, ...], at: str) -> Image:
    values = [_text(value, f"{at}.{name}") for name, value in zip(API_FIELDS, raw, strict=True)]
    image = Image(*values)
    if not image.image_id and not image.os_tag:
        raise _UnreadableError(f"{at}: has neither ImageId nor OsTag")
    if len(_SEEN) >= _MAX_SEEN:
        _SEEN.clear()
    _SEEN[raw] = image
    return image


def _check_object(row: Any, at: str) -> None:
    if not isinstance(row, dict):
        raise _UnreadableError(f"{at}: is {_kind(row)}, not an object")


def _name(value: Any, at: str) -> str:
    name = _text(value, at)
    if not name:
        raise _UnreadableError(f"{at}: is missing or empty")
    if len(name) > MAX_NAME_CHARACTERS:
        raise _UnreadableError(f"{at}: has {len(name)} characters, more than {MAX_NAME_CHARACTERS}")
    return name


def _text(value: Any, at: str) -> str:
    """Return the field's text with white space collapsed; numbers are text already."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _UnreadableError(f"{at}: is {_kind(value)}, not text or number")
    text = " ".join(value.split())
    if len(text) > MAX_FIELD_CHARACTERS:
        raise _UnreadableError(f"{at}: has {len(text)} characters, more than {MAX_FIELD_CHARACTERS}")
    if "\0" in text:
        raise _UnreadableError(f"{at}: holds a NUL character")
    if _LONE_SURROGATE.search(text):
        raise _UnreadableError(f"{at}: holds half of a surrogate pair")
    return text


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _plain(value: Any) -> str:
    """Return text for people from a field of an error, which must not fail over its form."""
    if not isinstance(value, str):
        return ""
    text = " ".join(value.split()).replace("\0", "")
    return text.encode("utf-8", "replace").decode()


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}
    return names.get(type(value), "text or a number")
