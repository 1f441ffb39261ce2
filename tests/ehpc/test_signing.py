"""The signature: the official example, and the official SDK's signer on random requests."""

from datetime import UTC, datetime
from types import SimpleNamespace

from alibabacloud_tea_openapi.utils import Utils
from hypothesis import given
from hypothesis import strategies as st

from sync.ehpc.credentials import Credential
from sync.ehpc.signing import EMPTY_BODY_HASH, ApiRequest, canonical_query, signed_headers

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WORD = st.text("abcdefXYZ0123456789-._", min_size=1, max_size=30)


def test_the_official_example_has_the_printed_signature() -> None:
    query = canonical_query(
        {"RegionId": "cn-shanghai", "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"}
    )
    headers = signed_headers(
        ApiRequest("RunInstances", "ecs.cn-shanghai.aliyuncs.com", query, "POST", "2014-05-26"),
        Credential("YourAccessKeyId", "YourAccessKeySecret"),
        signed_at=datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC),
        nonce="3156853299f313e23d1673dc12e1703d",
    )
    assert headers["Authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;"
        "x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


@given(parameters=st.dictionaries(WORD, TEXT, max_size=6), secret=TEXT, token=WORD | st.just(""), nonce=WORD)
def test_every_request_is_signed_like_the_official_sdk_signs_it(
    parameters: dict[str, str], secret: str, token: str, nonce: str
) -> None:
    request = ApiRequest("ListImages", "ehpc.cn-hangzhou.aliyuncs.com", canonical_query(parameters))
    signed_at = datetime(2026, 3, 1, 12, 30, 59, tzinfo=UTC)
    headers = signed_headers(request, Credential("id", secret, token), signed_at=signed_at, nonce=nonce)
    signature = headers.pop("Authorization")
    theirs = SimpleNamespace(method="GET", pathname="/", query=parameters, headers=headers)
    assert signature == Utils.get_authorization(theirs, "ACS3-HMAC-SHA256", EMPTY_BODY_HASH, "id", secret)


def test_the_token_of_a_temporary_key_is_sent_and_signed() -> None:
    request = ApiRequest("ListImages", "localhost:8080", "RegionId=cn-hangzhou")
    headers = signed_headers(request, Credential("id", "secret", "token"), signed_at=datetime.now(UTC), nonce="n")
    assert headers["x-acs-security-token"] == "token"
    assert ";x-acs-security-token;" in headers["Authorization"]


def test_the_secrets_are_not_in_the_text_of_a_credential() -> None:
    assert repr(Credential("id", "the-secret", "the-token")) == "Credential(access_key_id='id')"
