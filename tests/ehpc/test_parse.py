"""Reading answers: what is accepted, and that everything else is an error that says where."""

import json
from contextlib import suppress
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sync.ehpc.parse import parse_images, parse_instance_types, parse_regions, read_error, read_images
from sync.errors import CallError
from tests.ehpc.server import images_body, row


def body(**content: Any) -> bytes:
    return json.dumps({"RequestId": "R-1"} | content).encode()


def message_of(answer: bytes) -> str:
    with pytest.raises(CallError) as caught:
        parse_images(answer)
    assert caught.value.code == "answer.unreadable"
    return caught.value.message


def test_an_image_has_the_eight_fields_with_collapsed_white_space() -> None:
    (image,) = parse_images(images_body(row(ImageId=" m-1\t", OSName="CentOS  \n 7.2")))
    fields = ("m-1", "CentOS_7.2_64", "CentOS_7.2_64", "CentOS", "7.2", "x86_64", "CentOS 7.2", "CentOS 7.2")
    assert astuple(image)[:8] == fields


@pytest.mark.parametrize("number", ["7.10", "7", "-0", "1e3", "9" * 900])
def test_a_number_is_read_as_its_text(number: str) -> None:
    (image,) = parse_images(images_body(row(Version="?")).replace(b'"?"', number.encode()))
    assert image.version == number


@pytest.mark.parametrize(
    "os_tags", [{"OsInfo": [row()]}, [row()], {"OsInfo": row()}, row()], ids=["list", "bare", "one", "bare-one"]
)
def test_every_documented_shape_of_a_list_is_read(os_tags: object) -> None:
    assert {image.image_id for image in parse_images(body(OsTags=os_tags))} == {"m-1"}


@pytest.mark.parametrize("content", [{}, {"OsTags": None}, {"OsTags": {}}, {"OsTags": []}, {"OsTags": {"OsInfo": []}}])
def test_an_empty_list_in_any_documented_shape_is_no_images(content: dict[str, Any]) -> None:
    assert parse_images(body(**content)) == frozenset()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"OsTags": "none"}, "OsTags: is text or a number, not a list or an object"),
        ({"OsTags": False}, "OsTags: is true or false, not a list or an object"),
        ({"OsTags": {"OsInfo": None}}, "OsTags.OsInfo: is null, not a list or an object"),
        ({"OsTags": {"OsInfo": 0}}, "OsTags.OsInfo: is text or a number, not a list or an object"),
        ({"OsTags": {"Items": [row()]}}, "OsTags: has neither ImageId nor OsTag"),
        ({"OsTags": [[]]}, "OsTags[0]: is a list, not an object"),
        ({"OsTags": [row(), None]}, "OsTags[1]: is null, not an object"),
        ({"OsTags": {"OsInfo": [row(), row(Version=[7])]}}, "OsTags.OsInfo[1].Version: is a list, not text or number"),
        ({"OsTags": [row(Platform={})]}, "OsTags[0].Platform: is an object, not text or number"),
        ({"OsTags": [row(Version=True)]}, "OsTags[0].Version: is true or false, not text or number"),
        ({"OsTags": [row(OSName="x" * 1025)]}, "OsTags[0].OSName: has 1025 characters, more than 1024"),
        ({"OsTags": [row(OsTag="a\0b")]}, "OsTags[0].OsTag: holds a NUL character"),
        ({"OsTags": [row(OsTag="\ud800")]}, "OsTags[0].OsTag: holds half of a surrogate pair"),
        ({"OsTags": [row(ImageId=" ", OsTag=None)]}, "OsTags[0]: has neither ImageId nor OsTag"),
        ({"osTags": [row()]}, "osTags: the name should be OsTags"),
        ({"RequestId": ""}, "RequestId: is missing or empty"),
    ],
)
def test_an_unknown_shape_is_unreadable_and_says_where(content: dict[str, Any], message: str) -> None:
    assert message_of(body(**content)) == message


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"null", b"[]", b'"text"', b"{}", images_body()[:-1], images_body() + b"x", b"\xff\xfe\x00"],
)
def test_what_is_no_whole_answer_is_unreadable(answer: bytes) -> None:
    message_of(answer)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_unreadable(value: str) -> None:
    assert value in message_of(images_body(row(Version="?")).replace(b'"?"', value.encode()))


def test_deep_nesting_is_unreadable() -> None:
    message_of(b'{"RequestId":"R","OsTags":' + b"[" * 200_000)


def test_a_byte_order_mark_and_utf_16_are_read() -> None:
    text = images_body().decode()
    assert parse_images(text.encode("utf-8-sig")) == parse_images(text.encode("utf-16")) == parse_images(text.encode())


def test_equal_rows_count_once_and_rows_that_differ_in_any_field_are_two() -> None:
    rows = (row(), row(OSName="CentOS 7.2"), row(Platform="centos"))
    assert sorted(image.platform for image in parse_images(images_body(*rows))) == ["CentOS", "centos"]


def test_a_missing_field_is_empty_text() -> None:
    (image,) = parse_images(body(OsTags=[{"OsTag": "Rocky_9", "Version": None}]))
    assert (image.image_id, image.version) == ("", "")


def test_a_success_with_a_code_is_the_error_it_names() -> None:
    with pytest.raises(CallError, match="DbError") as caught:
        parse_images(body(Code="DbError", Message="later", OsTags=[row()]))
    assert caught.value.request_id == "R-1"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["OsInfo", "ImageId", "OsTag", "Version", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(os_tags=JSON_VALUES)
def test_any_other_json_is_unreadable_or_has_images(os_tags: Any) -> None:
    assume(os_tags not in (None, {}, []) and not (isinstance(os_tags, dict) and os_tags.get("OsInfo") == []))
    with suppress(CallError):
        assert parse_images(body(OsTags=os_tags))


@given(ids=st.lists(st.sampled_from(["R-1", "R-2", ""]), min_size=2, max_size=4), os_tags=JSON_VALUES)
def test_an_answer_that_was_read_before_is_read_as_if_it_were_the_first(ids: list[str], os_tags: Any) -> None:
    for request_id in ids:
        answer = body(OsTags=os_tags, RequestId=request_id)
        assert outcome_of(answer) == outcome_of(answer.replace(b'"RequestId"', b'"Request\\u0049d"'))


def outcome_of(answer: bytes) -> object:
    try:
        return read_images(answer)
    except CallError as error:
        return error.code, error.message, error.request_id


def test_a_second_request_id_is_not_mistaken_for_the_first() -> None:
    rows = json.dumps([row()])
    answers = [f'{{"OsTags":{rows},"RequestId":"A-{n}","Request\\u0049d":"B"}}'.encode() for n in (1, 2)]
    assert [getattr(read_images(answer), "request_id", "") for answer in answers] == ["B", "B"]


def types_body(*rows: object) -> bytes:
    family = {"InstanceTypeFamilyId": "ecs.n4", "Types": {"TypesInfo": list(rows)}}
    return body(InstanceTypeFamilies={"InstanceTypeFamilyInfo": [family]})


def test_instance_types_are_sorted_and_distinct_over_all_families() -> None:
    families = [
        {"Types": {"TypesInfo": [{"InstanceTypeId": "ecs.b"}, {"InstanceTypeId": "ecs.a"}]}},
        {"Types": [{"InstanceTypeId": "ecs.b", "MemorySize": 0.5, "Status": "SoldOut"}]},
        {"InstanceTypeFamilyId": "ecs.empty"},
    ]
    assert parse_instance_types(body(InstanceTypeFamilies=families)) == ("ecs.a", "ecs.b")


def test_an_empty_discovery_is_an_answer_with_no_types() -> None:
    assert parse_instance_types(body(InstanceTypeFamilies={"InstanceTypeFamilyInfo": []})) == ()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (types_body({"Status": "Available"}), "Types.TypesInfo[0].InstanceTypeId: is missing or empty"),
        (types_body({"InstanceTypeId": "x" * 101}), "InstanceTypeId: has 101 characters, more than 100"),
        (types_body({"InstanceTypeId": ["ecs"]}), "InstanceTypeId: is a list, not text or number"),
        (body(InstanceTypeFamilies={"Items": []}), "has neither Types nor InstanceTypeFamilyId"),
        (body(instanceTypeFamilies=[]), "the name should be InstanceTypeFamilies"),
        (body(InstanceTypeFamilies=""), "InstanceTypeFamilies: is text or a number"),
    ],
)
def test_an_unknown_shape_is_never_no_types(answer: bytes, message: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_instance_types(answer)
    assert caught.value.code == "answer.unreadable"
    assert message in caught.value.message


def test_regions_are_sorted_and_their_display_names_ignored() -> None:
    rows = [{"RegionId": "cn-shanghai", "LocalName": 1}, {"RegionId": "cn-beijing"}, {"RegionId": "cn-beijing"}]
    assert parse_regions(body(Regions={"RegionInfo": rows})) == ("cn-beijing", "cn-shanghai")


@pytest.mark.parametrize(
    "answer",
    [
        b'{"RequestId":"R","Code":"DbError","Message":"a  b"}',
        b'{"requestid":"R","code":"DbError","message":"a b"}',
        b'<?xml version="1.0"?><Error><RequestId>R</RequestId><Code>DbError</Code><Message>a\nb</Message></Error>',
        b"<Error><code>DbError</code><message>a b</message><requestId>R</requestId></Error>",
    ],
)
def test_an_error_is_read_from_json_and_xml_in_any_letter_case(answer: bytes) -> None:
    error = read_error(answer)
    assert error is not None
    assert (error.request_id, error.code, error.message) == ("R", "DbError", "a b")


@pytest.mark.parametrize(
    "answer", [b"<html><code>500</code></html>", b"", b"{}", b'{"Code":[1]}', b"<Error/>", b"\xff"]
)
def test_a_page_without_a_code_is_no_error_of_the_api(answer: bytes) -> None:
    assert read_error(answer) is None
