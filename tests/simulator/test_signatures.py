from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from alibabacloud_tea_openapi.utils import Utils as OfficialSigner
from hypothesis import given
from hypothesis import strategies as st

from sync.simulator.refusals import RefusalError
from sync.simulator.signatures import Account, NonceMemory, verify_signature
from sync.simulator.wire import HttpRequest, MalformedRequestError
from tests.simulator.client import NO_BODY, query_of

V3_NOW = datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC)
V3_ACCOUNT = Account("YourAccessKeyId", "YourAccessKeySecret")
V3_SIGNATURE = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
V3_SIGNED = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
V3_REQUEST = HttpRequest(
    "POST",
    "/",
    "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
    {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-version": "2014-05-26",
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-content-sha256": NO_BODY,
        "authorization": "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,"
        f"SignedHeaders={V3_SIGNED},Signature={V3_SIGNATURE}",
    },
)
V1_NOW = datetime(2016, 2, 23, 12, 46, 24, tzinfo=UTC)
V1_ACCOUNT = Account("testid", "testsecret")
V1_PARAMETERS = {
    "AccessKeyId": "testid",
    "Action": "DescribeRegions",
    "Format": "XML",
    "Signature": "OLeaidS1JvxuMvnyHOwuJ+uX5qY=",
    "SignatureMethod": "HMAC-SHA1",
    "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
    "SignatureVersion": "1.0",
    "Timestamp": "2016-02-23T12:46:24Z",
    "Version": "2014-05-26",
}


def with_header(name: str, value: str) -> HttpRequest:
    return replace(V3_REQUEST, headers={**V3_REQUEST.headers, name: value})


def v1_request(**changes: str) -> HttpRequest:
    return HttpRequest("GET", "/", query_of({**V1_PARAMETERS, **changes}), {"host": "ecs.aliyuncs.com"})


def refusal_of(request: HttpRequest, account: Account, now: datetime) -> str:
    with pytest.raises(RefusalError) as refused:
        verify_signature(request, account, NonceMemory(), now)
    return refused.value.code


def test_the_official_vector_of_version_3_is_accepted() -> None:
    assert verify_signature(V3_REQUEST, V3_ACCOUNT, NonceMemory(), V3_NOW) == "v3"


def test_the_official_vector_of_version_1_is_accepted() -> None:
    assert verify_signature(v1_request(), V1_ACCOUNT, NonceMemory(), V1_NOW) == "v1"


def test_version_1_reads_its_parameters_from_a_form_too() -> None:
    headers = {"host": "ecs.aliyuncs.com", "content-type": "application/x-www-form-urlencoded"}
    request = HttpRequest("GET", "/", "", headers, query_of(V1_PARAMETERS).encode())
    assert verify_signature(request, V1_ACCOUNT, NonceMemory(), V1_NOW) == "v1"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (with_header("x-acs-version", "2014-05-27"), "SignatureDoesNotMatch"),
        (replace(V3_REQUEST, query="RegionId=cn-hangzhou"), "SignatureDoesNotMatch"),
        (replace(V3_REQUEST, method="GET"), "SignatureDoesNotMatch"),
        (replace(V3_REQUEST, body=b"x"), "SignatureDoesNotMatch"),
        (with_header("x-acs-security-token", "t"), "IncompleteSignature"),
        (with_header("x-acs-date", "26.10.2023"), "InvalidTimeStamp.Format"),
        (with_header("x-acs-date", "2023-99-26T10:22:32Z"), "InvalidTimeStamp.Format"),
        (with_header("authorization", "ACS3-HMAC-SHA256 Credential=x"), "IncompleteSignature"),
        (with_header("authorization", "Bearer x"), "IncompleteSignature"),
    ],
)
def test_version_3_refuses_what_was_not_signed(request_: HttpRequest, code: str) -> None:
    assert refusal_of(request_, V3_ACCOUNT, V3_NOW) == code


TEXT = st.text(st.characters(codec="latin-1"), max_size=60)
ODD_HEADERS = st.dictionaries(
    st.sampled_from([*V3_REQUEST.headers, "content-type", "x-acs-security-token"]),
    st.one_of(TEXT, st.just("ACS3-HMAC-SHA256 Credential=simulator-id,SignedHeaders=host,Signature=ö")),
)


@given(
    query=st.one_of(TEXT, st.just(query_of(V1_PARAMETERS)), TEXT.map(lambda t: f"Signature={t}")), headers=ODD_HEADERS
)
def test_whatever_comes_unsigned_is_refused_and_never_a_crash(query: str, headers: dict[str, str]) -> None:
    request = HttpRequest("POST", "/", query, headers, b"a=%ff&b")
    with pytest.raises((RefusalError, MalformedRequestError)):
        verify_signature(request, Account(), NonceMemory(), V3_NOW)


def test_a_missing_header_is_named() -> None:
    headers = {name: value for name, value in V3_REQUEST.headers.items() if name != "x-acs-date"}
    assert refusal_of(replace(V3_REQUEST, headers=headers), V3_ACCOUNT, V3_NOW) == "Missingx-acs-date"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Action": "DeleteInstance"}, "SignatureDoesNotMatch"),
        ({"Signature": "öäü"}, "SignatureDoesNotMatch"),
        ({"SignatureMethod": "HMAC-SHA256"}, "InvalidSignatureMethod"),
        ({"AccessKeyId": "other"}, "InvalidAccessKeyId.NotFound"),
        ({"Timestamp": "2016-02-23T13:46:24Z"}, "InvalidTimeStamp.Expired"),
    ],
)
def test_version_1_refuses_what_was_not_signed(changes: dict[str, str], code: str) -> None:
    assert refusal_of(v1_request(**changes), V1_ACCOUNT, V1_NOW) == code


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_date_beyond_fifteen_minutes_is_expired(minutes: int) -> None:
    now = V3_NOW + timedelta(minutes=minutes)
    assert refusal_of(V3_REQUEST, V3_ACCOUNT, now) == "InvalidTimeStamp.Expired"


@pytest.mark.parametrize("minutes", [-14, 14])
def test_a_date_within_fifteen_minutes_is_accepted(minutes: int) -> None:
    now = V3_NOW + timedelta(minutes=minutes)
    assert verify_signature(V3_REQUEST, V3_ACCOUNT, NonceMemory(), now) == "v3"


def test_a_nonce_is_accepted_once() -> None:
    nonces = NonceMemory()
    verify_signature(V3_REQUEST, V3_ACCOUNT, nonces, V3_NOW)
    with pytest.raises(RefusalError, match="SignatureNonceUsed"):
        verify_signature(V3_REQUEST, V3_ACCOUNT, nonces, V3_NOW)


def test_a_refused_request_does_not_use_up_its_nonce() -> None:
    nonces = NonceMemory()
    with pytest.raises(RefusalError):
        verify_signature(V3_REQUEST, replace(V3_ACCOUNT, access_key_secret="wrong"), nonces, V3_NOW)
    assert verify_signature(V3_REQUEST, V3_ACCOUNT, nonces, V3_NOW) == "v3"


def test_a_wrong_key_is_not_found() -> None:
    assert refusal_of(V3_REQUEST, Account(), V3_NOW) == "InvalidAccessKeyId.NotFound"


def test_a_mismatch_tells_what_the_server_signed() -> None:
    with pytest.raises(RefusalError, match=r"cn-shanghai[\s\S]*RunInstances") as refused:
        verify_signature(V3_REQUEST, replace(V3_ACCOUNT, access_key_secret="wrong"), NonceMemory(), V3_NOW)
    assert "wrong" not in refused.value.message


def test_a_missing_token_is_demanded() -> None:
    account = replace(V3_ACCOUNT, security_token="token")
    assert refusal_of(V3_REQUEST, account, V3_NOW) == "MissingSecurityToken"


def test_secrets_do_not_show_in_the_account() -> None:
    assert "canary" not in repr(Account("id", "canary-1", "canary-2", "canary-3"))


NAMES = st.text(st.sampled_from("ABCXYZabcxyz0189._-"), min_size=1, max_size=12)  # the signer encodes values only
VALUES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(parameters=st.dictionaries(NAMES, VALUES, max_size=6), token=st.sampled_from(["", "a-token"]))
def test_what_the_official_signer_signs_is_accepted(parameters: dict[str, str], token: str) -> None:
    headers = {**V3_REQUEST.headers, **({"x-acs-security-token": token} if token else {})}
    del headers["authorization"]
    official = SimpleNamespace(method="GET", pathname="/", query=parameters, headers=headers)
    signed = OfficialSigner.get_authorization(official, "ACS3-HMAC-SHA256", NO_BODY, "id", "secret")
    request = HttpRequest("GET", "/", query_of(parameters), {**headers, "authorization": signed})
    assert verify_signature(request, Account("id", "secret", token), NonceMemory(), V3_NOW) == "v3"
