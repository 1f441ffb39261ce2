"""What a failure means: the classes of the codes."""

import pytest

from sync.ehpc.codes import Remedy, advice_on, remedy_of


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        ("Throttling", 400, Remedy.SLOW_DOWN),
        ("Throttling.User", 400, Remedy.SLOW_DOWN),
        ("SomethingNew", 429, Remedy.SLOW_DOWN),
        ("EcsError", 406, Remedy.RETRY),
        ("AckError", 406, Remedy.RETRY),
        ("ServiceUnavailable", 503, Remedy.RETRY),
        ("SomethingNew", 500, Remedy.RETRY),
        ("SomethingNew", 406, Remedy.RETRY),
        ("SomethingNew", 200, Remedy.RETRY),
        ("InvalidTimeStamp.Expired", 400, Remedy.SET_CLOCK),
        ("IllegalTimestamp", 400, Remedy.SET_CLOCK),
        ("SignatureNonceUsed", 400, Remedy.SIGN_AGAIN),
        ("InvalidSecurityToken.Expired", 403, Remedy.REFRESH_TOKEN),
        ("InvalidSecurityToken.Malformed", 400, Remedy.STOP_REGION),
        ("InvalidAccessKeyId.NotFound", 404, Remedy.STOP_REGION),
        ("SignatureDoesNotMatch", 400, Remedy.STOP_REGION),
        ("NotAuthorized", 407, Remedy.STOP_ACTION),
        ("Forbidden.RAM", 403, Remedy.STOP_ACTION),
        ("MissingParameter", 400, Remedy.STOP_ACTION),
        ("InvalidParameter", 400, Remedy.STOP_ACTION),
        ("InvalidApi.NotFound", 404, Remedy.STOP_ACTION),
        ("SomethingNew", 403, Remedy.STOP_ACTION),
        ("SomethingNew", 404, Remedy.GIVE_UP),
    ],
)
def test_a_code_has_the_remedy_of_its_class(code: str, status: int, remedy: Remedy) -> None:
    assert remedy_of(code, status) is remedy


@pytest.mark.parametrize("code", ["InvalidInstanceType.NotFound", "InvalidBaseOsTag"])
def test_a_code_that_blames_what_a_target_asks_for_does_not_stop_its_region(code: str) -> None:
    assert remedy_of(code, 400) is Remedy.GIVE_UP


def test_the_advice_on_a_denial_names_the_ram_action() -> None:
    assert "ehpc:ListImages" in advice_on("NotAuthorized", "ListImages")
