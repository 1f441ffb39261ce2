"""The bodies of the answers, dressed as the live service dresses them, odd shapes included.

On purpose, in places: versions as JSON numbers, missing fields, double spaces, one object instead of a list of one,
every way to say "no images", another order of the rows in each answer, gzip for clients that accept it.
"""

import json
import random
import uuid
import zlib
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

from sync.inventory import ALL_TYPES, Image, digest_of
from sync.simulator.catalogue import Catalogue, EmptyAnswer, OfferedType, Region
from sync.simulator.refusals import RefusalError
from sync.simulator.wire import HttpAnswer

VARIANT_COUNT = 8  # orders prepared per set of images; one shuffle per call would cost as much as verifying it
MAX_IMAGE_SETS = 256  # sets of images kept encoded: 256 x 8 orders x about 12 KB = 25 MB
MIN_GZIP_BYTES = 1_024  # below, the compressed answer is hardly smaller
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

FIELD_NAMES = ("ImageId", "OsTag", "BaseOsTag", "Platform", "Version", "Architecture", "OSName", "OSNameEn")

EMPTY_PAYLOADS = {
    EmptyAnswer.EMPTY_LIST: b'"OsTags":{"OsInfo":[]}}',
    EmptyAnswer.EMPTY_OBJECT: b'"OsTags":{}}',
    EmptyAnswer.NULL: b'"OsTags":null}',
    EmptyAnswer.MISSING: b'"Success":true}',
}

LIST_KEYS = {"ListImages": "OsTags", "ListAvailableEcsTypes": "InstanceTypeFamilies", "ListRegions": "Regions"}
"""The member of each answer that holds what was asked for."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The end of an answer, after its RequestId: plain, and as a raw deflate stream."""

    plain: bytes
    deflated: bytes


class AnswerBook:
    """Encodes answers of one catalogue and keeps what is asked often; make a new one for a new catalogue.

    Thread-safe without a lock: two threads may encode the same answer, and the same bytes win.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._variants: dict[tuple[str, str, str], tuple[Payload, ...]] = {}

    def payload_of_images(self, region: Region, instance_type: str, base_os_tag: str) -> Payload:
        """Return a ListImages answer in one of its orders.

        Raises:
            RefusalError: ImageNotFound, for unknown types and for those that answer so.
        """
        key = (region.region_id, instance_type, base_os_tag)
        variants = self._variants.get(key)
        if variants is None:
            variants = self._variants[key] = self._encode(region, instance_type, base_os_tag)
        return random.choice(variants)  # noqa: S311  order only

    def _encode(self, region: Region, instance_type: str, base_os_tag: str) -> tuple[Payload, ...]:
        offered = region.types.get(instance_type)
        if offered is None and instance_type != ALL_TYPES:
            raise RefusalError("ImageNotFound")
        images = self.catalogue.images_of(region.region_id, instance_type)
        if base_os_tag:
            images = frozenset(image for image in images if image.base_os_tag == base_os_tag)
        if images:
            return _shuffled_payloads(_ImageSet(images, digest_of(images)))
        empty_answer = offered.empty_answer if offered else EmptyAnswer.EMPTY_LIST
        if empty_answer is EmptyAnswer.NOT_FOUND:
            raise RefusalError("ImageNotFound")
        return (_payload_of(EMPTY_PAYLOADS[empty_answer]),)


@dataclass(frozen=True, slots=True, eq=False)
class _ImageSet:
    """A set of images that is compared by its digest, so that equal sets of many types are encoded once."""

    images: frozenset[Image]
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ImageSet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@lru_cache(maxsize=MAX_IMAGE_SETS)
def _shuffled_payloads(image_set: _ImageSet) -> tuple[Payload, ...]:
    rows = [_encoded_row(image) for image in image_set.images]
    if len(rows) == 1:
        return (_payload_of(b'"OsTags":{"OsInfo":' + rows[0] + b"}}"),)
    payloads = []
    for _ in range(min(VARIANT_COUNT, 2 * len(rows))):
        random.shuffle(rows)
        payloads.append(_payload_of(b'"OsTags":{"OsInfo":[' + b",".join(rows) + b"]}}"))
    return tuple(payloads)


@lru_cache(maxsize=4_096)
def _encoded_row(image: Image) -> bytes:
    """Return the row as JSON; which oddities it gets depends on its fingerprint alone, so they stay the same."""
    oddity = image.fingerprint[0]
    values = (
        image.image_id,
        image.os_tag,
        image.base_os_tag,
        image.platform,
        image.version,
        image.architecture,
        _with_double_space(image.os_name) if oddity % 2 else image.os_name,
        _with_double_space(image.os_name_en) if oddity % 3 else image.os_name_en,
    )
    members = []
    for name, value in zip(FIELD_NAMES, values, strict=True):
        if value or oddity % 4 == 0:
            is_number = name == "Version" and oddity % 3 == 0 and _is_number(value)
            members.append(f'"{name}":{value if is_number else json.dumps(value, ensure_ascii=False)}')
        elif oddity % 4 == 1:
            members.append(f'"{name}":null')
    return ("{" + ",".join(members) + "}").encode()


def _is_number(text: str) -> bool:
    """Return whether the text can stand in JSON as a number token and be read back as the same text."""
    whole, dot, part = text.partition(".")
    is_whole = whole.isascii() and whole.isdecimal() and (whole == "0" or whole[0] != "0")
    return is_whole and (not dot or (part.isascii() and part.isdecimal()))


def _with_double_space(name: str) -> str:
    """Return the display text with two spaces before its first number, as ECS really writes some names."""
    words = name.split(" ")
    for index, word in enumerate(words[1:], start=1):
        if word[:1].isdigit():
            words[index] = " " + word
            break
    return " ".join(words)


def payload_of_types(region: Region, *, shows_sold_out: bool) -> Payload:
    """Return a ListAvailableEcsTypes answer, families and types in the catalogue's order."""
    families: dict[str, list[dict[str, Any]]] = {}
    for offered in region.types.values():
        if shows_sold_out or not offered.is_sold_out:
            families.setdefault(offered.family_id, []).append(_type_info_of(offered, region.region_id))
    infos = [
        {"Generation": "ecs-6", "InstanceTypeFamilyId": family, "Types": {"TypesInfo": types}}
        for family, types in families.items()
    ]
    body = {"SupportSpotInstance": True, "InstanceTypeFamilies": {"InstanceTypeFamilyInfo": infos}}
    return _payload_of(_end_of(body))


def _type_info_of(offered: OfferedType, region_id: str) -> dict[str, Any]:
    gib = offered.memory_gib
    info: dict[str, Any] = {
        "InstanceTypeId": offered.instance_type,
        "Status": "SoldOut" if offered.is_sold_out else "Available",
        "CpuCoreCount": offered.vcpu_count,
        "MemorySize": int(gib) if gib == int(gib) else gib,
        "EniQuantity": 2 + offered.vcpu_count // 8,
        "InstanceBandwidthRx": 1_024_000 * max(1, offered.vcpu_count // 2),
        "InstanceBandwidthTx": 1_024_000 * max(1, offered.vcpu_count // 2),
        "InstancePpsRx": 100_000 * offered.vcpu_count,
        "InstancePpsTx": 100_000 * offered.vcpu_count,
        "ZoneIds": {"ZoneId": [f"{region_id}-{letter}" for letter in "bgh"]},
    }
    if "gn" in offered.family_id:
        info |= {"GPUAmount": max(1, offered.vcpu_count // 16), "GPUSpec": "NVIDIA A10"}
    return info


def payload_of_regions(catalogue: Catalogue) -> Payload:
    """Return a ListRegions answer in the catalogue's order."""
    infos = [{"LocalName": region.local_name, "RegionId": name} for name, region in catalogue.regions.items()]
    return _payload_of(_end_of({"Regions": {"RegionInfo": infos}}))


def error_answer(error: RefusalError, request_id: str, host_id: str) -> HttpAnswer:
    """Return an error answer as JSON."""
    body = {
        "RequestId": request_id,
        "HostId": host_id,
        "Code": error.code,
        "Message": error.message,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={error.code}&product=EHPC&requestId={request_id}",
    }
    return HttpAnswer(error.status, json.dumps(body, ensure_ascii=False).encode(), headers=_headers_of(error))


def xml_error_answer(error: RefusalError, request_id: str, host_id: str) -> HttpAnswer:
    """Return an error answer as XML, which the gateway gives to some callers."""
    members = {"RequestId": request_id, "HostId": host_id, "Code": error.code, "Message": error.message}
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in members.items())
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>".encode()
    return HttpAnswer(error.status, body, "text/xml;charset=utf-8", headers=_headers_of(error))


def _headers_of(error: RefusalError) -> tuple[tuple[str, str], ...]:
    return (("x-acs-retry-after", str(error.retry_after_ms)),) if error.retry_after_ms else ()


def new_request_id() -> str:
    """Return a fresh request id in Alibaba Cloud's form: a UUID in upper case."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4)).upper()


def body_of(payload: Payload, request_id: str) -> bytes:
    """Return the whole plain body."""
    return _start_of(request_id) + payload.plain


def gzip_body_of(payload: Payload, request_id: str) -> bytes:
    """Return the whole body as gzip: the start in a stored block, then the stream that was compressed before."""
    start = _start_of(request_id)
    size = len(start).to_bytes(2, "little")
    stored_block = b"\x00" + size + bytes(byte ^ 0xFF for byte in size) + start
    checksum = zlib.crc32(payload.plain, zlib.crc32(start))
    length = (len(start) + len(payload.plain)) & 0xFFFFFFFF
    trailer = checksum.to_bytes(4, "little") + length.to_bytes(4, "little")
    return GZIP_HEADER + stored_block + payload.deflated + trailer


def _start_of(request_id: str) -> bytes:
    return f'{{"RequestId":"{request_id}",'.encode()


def _end_of(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()[1:]


def _payload_of(plain: bytes) -> Payload:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Payload(plain, deflater.compress(plain) + deflater.flush())
