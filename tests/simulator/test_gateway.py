import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sync.inventory import Image
from sync.simulator.catalogue import Catalogue, OfferedType, catalogue_of, with_image_replaced
from sync.simulator.gateway import RateLimit
from sync.simulator.server import Simulator
from sync.simulator.stock import stock_images
from sync.simulator.timeline import default_timeline
from tests.simulator.client import Answer, Signer, call, send

GZIP = Signer(headers={"accept-encoding": "gzip"})
FIELDS = ("ImageId", "OsTag", "BaseOsTag", "Platform", "Version", "Architecture", "OSName", "OSNameEn")


def images_in(answer: Answer) -> frozenset[Image]:
    rows = (answer.json.get("OsTags") or {}).get("OsInfo") or []
    rows = rows if isinstance(rows, list) else [rows]
    return frozenset(Image(*(" ".join((row.get(name) or "").split()) for name in FIELDS)) for row in rows)


def types_in(answer: Answer) -> dict[str, str]:
    families = answer.json["InstanceTypeFamilies"]["InstanceTypeFamilyInfo"]
    rows = [row for family in families for row in family["Types"]["TypesInfo"]]
    return {row["InstanceTypeId"]: row["Status"] for row in rows}


def test_an_answer_has_the_images_of_the_catalogue(simulator: Simulator) -> None:
    answer = call(simulator, RegionId="cn-hangzhou", InstanceType="ecs.c7.large")
    assert images_in(answer) == simulator.catalogue.images_of("cn-hangzhou", "ecs.c7.large")
    assert answer.json["RequestId"].isupper()
    assert len(answer.json["RequestId"]) == 36


def test_every_answer_of_the_story_can_be_read_back() -> None:
    catalogue = default_timeline(types_per_region=24)[4].catalogue
    with Simulator(catalogue) as simulator:
        for region_id in catalogue.region_ids:
            for name in catalogue.instance_types_of(region_id):
                answer = call(simulator, RegionId=region_id, InstanceType=name)
                assert images_in(answer) == catalogue.images_of(region_id, name)


def test_the_odd_shapes_are_served() -> None:
    with Simulator() as simulator:
        body = call(simulator, RegionId="cn-hangzhou").body
        single = call(simulator, RegionId="cn-hangzhou", InstanceType="ecs.ebmgn7ex.32xlarge")
        missing = call(simulator, RegionId="cn-hangzhou", InstanceType="ecs.c1.large")
    versions = {type(row["Version"]) for row in json.loads(body)["OsTags"]["OsInfo"]}
    assert {str, float} <= versions
    assert b"  " in body
    assert isinstance(single.json["OsTags"]["OsInfo"], dict)
    assert (missing.status, missing.code) == (404, "ImageNotFound")


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("empty_list", {"OsTags": {"OsInfo": []}}),
        ("empty_object", {"OsTags": {}}),
        ("null", {"OsTags": None}),
        ("missing", {"Success": True}),
    ],
)
def test_no_images_is_said_in_every_way(simulator: Simulator, name: str, rest: dict[str, object]) -> None:
    answer = call(simulator, RegionId="cn-hangzhou", InstanceType=f"ecs.none.{name}")
    assert answer.status == 200
    assert {key: value for key, value in answer.json.items() if key != "RequestId"} == rest


@pytest.mark.parametrize("name", ["ecs.none.not_found", "ecs.never.heard"])
def test_no_images_can_be_an_error_too(simulator: Simulator, name: str) -> None:
    answer = call(simulator, RegionId="cn-hangzhou", InstanceType=name)
    assert (answer.status, answer.code) == (404, "ImageNotFound")


def test_fields_without_a_value_are_null_or_left_out() -> None:
    rows = [Image(f"m-{n}", "", "", "", "", "", "", "") for n in range(40)]
    with Simulator(catalogue_of({"cn-hangzhou": {"ecs.c7.large": rows}})) as simulator:
        answer = call(simulator, InstanceType="ecs.c7.large")
    served = answer.json["OsTags"]["OsInfo"]
    assert {len(row) for row in served} == {1, 8}
    assert {row["OsTag"] for row in served if "OsTag" in row} == {"", None}
    assert images_in(answer) == frozenset(rows)


def test_the_order_of_rows_differs_between_answers() -> None:
    with Simulator() as simulator:
        answers = [call(simulator, RegionId="cn-hangzhou", InstanceType="ecs.c7.large").json for _ in range(12)]
    orders = {tuple(row["ImageId"] for row in answer["OsTags"]["OsInfo"]) for answer in answers}
    assert len(orders) > 1


@pytest.mark.parametrize("action", ["ListImages", "ListAvailableEcsTypes"])
def test_gzip_is_for_clients_that_accept_it(action: str) -> None:
    with Simulator() as simulator:
        packed = call(simulator, action, GZIP, RegionId="cn-hangzhou")
        plain = call(simulator, action, RegionId="cn-hangzhou")
    unpacked = json.loads(gzip.decompress(packed.body))
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert unpacked.keys() == plain.json.keys()


def test_a_base_os_tag_selects_rows(simulator: Simulator) -> None:
    answer = call(simulator, RegionId="cn-hangzhou", InstanceType="ecs.c7.large", BaseOsTag="Rocky_9.3_64")
    assert {image.image_id for image in images_in(answer)} == {"m-2"}


def test_without_an_instance_type_the_region_answers_for_all(simulator: Simulator) -> None:
    assert images_in(call(simulator, RegionId="cn-hangzhou")) == simulator.catalogue.images_of("cn-hangzhou", "*")


def test_sold_out_types_are_listed_on_demand(simulator: Simulator) -> None:
    shown = types_in(call(simulator, "ListAvailableEcsTypes", RegionId="cn-hangzhou", ShowSoldOut="true"))
    hidden = types_in(call(simulator, "ListAvailableEcsTypes", RegionId="cn-hangzhou"))
    assert shown["ecs.g8y.large"] == "SoldOut"
    assert set(shown) - set(hidden) == {"ecs.g8y.large"}


def test_memory_can_be_fractional(simulator: Simulator) -> None:
    body = call(simulator, "ListAvailableEcsTypes", RegionId="cn-hangzhou", ShowSoldOut="True").body
    assert b'"MemorySize":15.5' in body
    assert b'"MemorySize":4,' in body


@pytest.mark.parametrize(
    ("host", "region_id"),
    [
        ("", "cn-shanghai"),
        ("ehpc.cn-shanghai.aliyuncs.com", ""),
        ("ehpc-vpc.cn-shanghai.aliyuncs.com", ""),
        ("ehpc.cn-hangzhou.aliyuncs.com", "cn-shanghai"),
    ],
)
def test_the_region_comes_from_the_query_or_the_host(simulator: Simulator, host: str, region_id: str) -> None:
    assert {image.image_id for image in images_in(call(simulator, host=host, RegionId=region_id))} == {"m-4"}


def test_without_any_region_the_first_one_answers(simulator: Simulator) -> None:
    call(simulator)
    assert simulator.calls()[-1].region_id == "cn-hangzhou"


def test_list_regions_answers_wherever_it_is_asked(simulator: Simulator) -> None:
    answer = call(simulator, "ListRegions", RegionId="eu-central-1")
    assert [row["RegionId"] for row in answer.json["Regions"]["RegionInfo"]] == ["cn-hangzhou", "cn-shanghai"]


@pytest.mark.parametrize(
    ("signer", "status", "code"),
    [
        (Signer(access_key_id="wrong"), 404, "InvalidAccessKeyId.NotFound"),
        (Signer(secret="wrong"), 400, "SignatureDoesNotMatch"),
        (Signer(skew=timedelta(minutes=-20)), 400, "InvalidTimeStamp.Expired"),
        (Signer(token="unknown"), 400, "InvalidSecurityToken.MismatchWithAccessKey"),
        (Signer(version="2024-07-30"), 400, "InvalidVersion"),
    ],
)
def test_a_call_that_is_not_right_is_refused(simulator: Simulator, signer: Signer, status: int, code: str) -> None:
    answer = call(simulator, signer=signer, RegionId="cn-hangzhou")
    assert (answer.status, answer.code) == (status, code)
    assert set(answer.json) == {"RequestId", "HostId", "Code", "Message", "Recommend"}


@pytest.mark.parametrize(
    ("action", "name", "value", "code"),
    [
        ("DeleteCluster", "RegionId", "cn-hangzhou", "InvalidApi.NotFound"),
        ("ListImages", "RegionId", "mars-1", "InvalidParameter"),
        ("ListAvailableEcsTypes", "RegionId", "mars-1", "InvalidParameter"),
        ("ListAvailableEcsTypes", "ShowSoldOut", "perhaps", "InvalidParameter"),
    ],
)
def test_what_does_not_exist_is_refused(simulator: Simulator, action: str, name: str, value: str, code: str) -> None:
    answer = call(simulator, action, None, host="", **{name: value})
    assert answer.code == code


def test_a_replayed_call_is_refused(simulator: Simulator) -> None:
    codes = [call(simulator, signer=Signer(nonce="once")).code for _ in range(2)]
    assert codes == ["", "SignatureNonceUsed"]


def test_an_unsigned_call_is_refused(simulator: Simulator) -> None:
    assert send(simulator, "GET", "/?Action=ListRegions", {}).code == "IncompleteSignature"


def test_an_unsigned_call_that_wants_xml_gets_xml(simulator: Simulator) -> None:
    answer = send(simulator, "GET", "/?Action=ListRegions&Format=XML", {})
    assert b"<Code>IncompleteSignature</Code>" in answer.body


def test_a_token_is_demanded_checked_and_can_expire(simulator: Simulator) -> None:
    simulator.account = replace(simulator.account, security_token="new", expired_token="old")
    codes = [call(simulator, signer=Signer(token=token)).code for token in ("", "old", "new", "other")]
    assert codes == [
        "MissingSecurityToken",
        "InvalidSecurityToken.Expired",
        "",
        "InvalidSecurityToken.MismatchWithAccessKey",
    ]


@pytest.mark.parametrize(("code", "status"), [("NotAuthorized", 407), ("Forbidden.RAM", 403)])
def test_a_denied_action_names_itself(simulator: Simulator, code: str, status: int) -> None:
    simulator.deny("ehpc:ListImages", code=code)
    denied = call(simulator)
    assert (denied.status, denied.code) == (status, code)
    assert "ehpc:ListImages" in denied.json["Message"]
    assert call(simulator, "ListRegions").status == 200


def test_calls_beyond_the_rate_limit_are_throttled_per_region(simulator: Simulator) -> None:
    simulator.calls_per_second = 2
    codes = [call(simulator, RegionId="cn-hangzhou").code for _ in range(3)]
    elsewhere = call(simulator, RegionId="cn-shanghai")
    assert codes == ["", "", "Throttling.User"]
    assert elsewhere.code == ""


def test_the_rate_limit_says_when_to_come_back() -> None:
    limit = RateLimit(2)
    waits = [limit.wait_of("cn-hangzhou", now_s) for now_s in (10.0, 10.5, 10.75, 11.0)]
    assert waits == [0.0, 0.0, 0.25, 0.0]


def test_a_rate_limit_can_be_below_one_call_a_second() -> None:
    limit = RateLimit(0.5)
    assert [limit.wait_of("cn-hangzhou", now_s) for now_s in (10.0, 11.0, 12.0)] == [0.0, 1.0, 0.0]


def test_another_catalogue_is_served_from_the_next_call_on(simulator: Simulator, catalogue: Catalogue) -> None:
    call(simulator, RegionId="cn-shanghai", InstanceType="ecs.c7.large")
    simulator.catalogue = catalogue_of({"cn-shanghai": [OfferedType("ecs.c7.large")]})
    assert images_in(call(simulator, RegionId="cn-shanghai", InstanceType="ecs.c7.large")) == frozenset()
    assert call(simulator, RegionId="cn-hangzhou").code == "InvalidParameter"


def test_every_answer_comes_whole_from_one_catalogue(simulator: Simulator, catalogue: Catalogue) -> None:
    other = with_image_replaced(catalogue, "m-1", replace(stock_images()[0].image, image_id="m-7"))
    wholes = {c.images_of("cn-hangzhou", "*") for c in (catalogue, other)}
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(call, simulator, RegionId="cn-hangzhou") for _ in range(60)]
        for turn in range(30):
            simulator.catalogue = (other, catalogue)[turn % 2]
        seen = {images_in(answer.result()) for answer in answers}
    assert seen <= wholes


def test_calls_are_logged_and_counted(simulator: Simulator) -> None:
    call(simulator, RegionId="cn-shanghai", InstanceType="ecs.c7.large", BaseOsTag="x")
    call(simulator, "ListRegions", signer=Signer(secret="wrong"))
    first, second = simulator.calls()
    assert (first.action, first.region_id, first.instance_type) == ("ListImages", "cn-shanghai", "ecs.c7.large")
    assert (first.base_os_tag, first.status, first.code, first.signature_version) == ("x", 200, "", "v3")
    assert (second.code, second.signature_version) == ("SignatureDoesNotMatch", "")
    assert simulator.call_count() == 2
    assert simulator.call_count(action="ListImages", region_id="cn-shanghai", code="") == 1
    assert simulator.calls(action="ListRegions") == (second,)
