import json
from collections.abc import Iterator
from typing import Any

import pytest
from alibabacloud_ehpc20180412 import models
from alibabacloud_ehpc20180412.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from alibabacloud_tea_util.models import RuntimeOptions
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import RpcRequest

from sync.simulator.server import Simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def new_client(simulator: Simulator, **changes: str) -> Client:
    values = {
        "access_key_id": simulator.access_key_id,
        "access_key_secret": simulator.access_key_secret,
        "region_id": "cn-hangzhou",
        "endpoint": simulator.host_and_port,
        "protocol": "http",
    }
    return Client(Config(**{**values, **changes}))


def ask_old(simulator: Simulator, action: str, *, region_id: str = "cn-shanghai", **parameters: str) -> dict[str, Any]:
    request = RpcRequest("EHPC", "2018-04-12", action)
    request.set_endpoint("127.0.0.1")
    request.set_protocol_type("http")
    for name, value in parameters.items():
        request.add_query_param(name, value)
    client = AcsClient(simulator.access_key_id, simulator.access_key_secret, region_id, port=simulator.port)
    return dict(json.loads(client.do_action_with_exception(request)))


def test_the_new_sdk_lists_images(simulator: Simulator) -> None:
    answer = new_client(simulator).list_images(models.ListImagesRequest(instance_type="ecs.c7.large"))
    expected = simulator.catalogue.images_of("cn-hangzhou", "ecs.c7.large")
    assert {row.image_id for row in answer.body.os_tags.os_info} == {image.image_id for image in expected}
    assert simulator.calls()[-1].signature_version == "v3"


def test_the_new_sdk_lists_regions(simulator: Simulator) -> None:
    rows = new_client(simulator).list_regions().body.to_map()["Regions"]["RegionInfo"]
    assert [row["RegionId"] for row in rows] == list(simulator.catalogue.region_ids)


def test_the_new_sdk_lists_instance_types(simulator: Simulator) -> None:
    answer = new_client(simulator).list_available_ecs_types(models.ListAvailableEcsTypesRequest(show_sold_out=True))
    families = answer.body.instance_type_families.instance_type_family_info
    names = [info.instance_type_id for family in families for info in family.types.types_info]
    assert tuple(sorted(names)) == simulator.catalogue.instance_types_of("cn-hangzhou")


def test_the_new_sdk_reads_the_error_of_a_wrong_secret(simulator: Simulator) -> None:
    with pytest.raises(AlibabaCloudException) as refused:
        new_client(simulator, access_key_secret="wrong").list_regions()
    assert refused.value.code == "SignatureDoesNotMatch"


def test_the_new_sdk_can_post_a_form(simulator: Simulator) -> None:
    how = Params(
        action="ListImages",
        version="2018-04-12",
        protocol="HTTP",
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
    what = OpenApiRequest(body={"InstanceType": "ecs.hpc7ip.32xlarge", "RegionId": "cn-shanghai"})
    answer = new_client(simulator).call_api(how, what, RuntimeOptions())
    expected = simulator.catalogue.images_of("cn-shanghai", "ecs.hpc7ip.32xlarge")
    assert len(answer["body"]["OsTags"]["OsInfo"]) == len(expected)


def test_the_old_sdk_can_post_a_form(simulator: Simulator) -> None:
    request = RpcRequest("EHPC", "2018-04-12", "ListImages")
    request.set_endpoint("127.0.0.1")
    request.set_protocol_type("http")
    request.set_method("POST")
    request.add_body_params("InstanceType", "ecs.hpc7ip.32xlarge")
    client = AcsClient(simulator.access_key_id, simulator.access_key_secret, "cn-shanghai", port=simulator.port)
    client.do_action_with_exception(request)
    call = simulator.calls()[-1]
    assert (call.instance_type, call.code, call.signature_version) == ("ecs.hpc7ip.32xlarge", "", "v1")


def test_the_old_sdk_lists_images(simulator: Simulator) -> None:
    rows = ask_old(simulator, "ListImages", InstanceType="ecs.c7.large")["OsTags"]["OsInfo"]
    expected = simulator.catalogue.images_of("cn-shanghai", "ecs.c7.large")
    assert {row["ImageId"] for row in rows} == {image.image_id for image in expected}
    assert simulator.calls()[-1].signature_version == "v1"


def test_the_old_sdk_lists_regions(simulator: Simulator) -> None:
    rows = ask_old(simulator, "ListRegions")["Regions"]["RegionInfo"]
    assert [row["RegionId"] for row in rows] == list(simulator.catalogue.region_ids)


def test_the_old_sdk_lists_instance_types(simulator: Simulator) -> None:
    families = ask_old(simulator, "ListAvailableEcsTypes", ShowSoldOut="true")["InstanceTypeFamilies"]
    rows = [row for family in families["InstanceTypeFamilyInfo"] for row in family["Types"]["TypesInfo"]]
    names = sorted(row["InstanceTypeId"] for row in rows)
    assert tuple(names) == simulator.catalogue.instance_types_of("cn-shanghai")


def test_the_old_sdk_reads_the_error_of_an_unknown_region(simulator: Simulator) -> None:
    with pytest.raises(ServerException) as refused:
        ask_old(simulator, "ListImages", region_id="mars-1")
    assert refused.value.get_error_code() == "InvalidParameter"
