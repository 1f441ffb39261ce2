"""What the code of a failed attempt means: which remedy it has, whom it concerns and what the operator can do.

Decided by the code and not by the HTTP status, because the API answers throttling with 400 and a missing RAM
permission with 407. The codes are those of Alibaba Cloud's documents of E-HPC and of the OpenAPI gateway.
"""

from enum import Enum, auto

from sync.errors import CallError, SyncError

NETWORK_CODES = frozenset({"network.dns", "network.connect", "network.tls"})
"""No connection came about: the sign of a wrong region id, endpoint or proxy."""


class Remedy(Enum):
    """What to do about a failed attempt."""

    RETRY = auto()
    """Back off and ask again."""
    SLOW_DOWN = auto()
    """Pause the whole region, then ask again."""
    SET_CLOCK = auto()
    """Take the time from the answer, once, and sign again."""
    SIGN_AGAIN = auto()
    """Sign again with another nonce."""
    REFRESH_TOKEN = auto()
    """Fetch new credentials, once, and sign again."""
    GIVE_UP = auto()
    """The target fails; others may well succeed."""
    STOP_ACTION = auto()
    """The same answer would come for every call of this action in the region."""
    STOP_REGION = auto()
    """The same answer would come for every call in the region."""


RETRIED = frozenset({Remedy.RETRY, Remedy.SLOW_DOWN, Remedy.SET_CLOCK, Remedy.SIGN_AGAIN, Remedy.REFRESH_TOKEN})


class AttemptError(SyncError):
    """One attempt has failed; ``error`` is what the call fails with if there is no further attempt."""

    def __init__(self, error: CallError, remedy: Remedy, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        self.delay_s = 0.0


_REMEDIES = {
    "InvalidTimeStamp.Expired": Remedy.SET_CLOCK,
    "IllegalTimestamp": Remedy.SET_CLOCK,
    "SignatureNonceUsed": Remedy.SIGN_AGAIN,
    "InvalidSecurityToken.Expired": Remedy.REFRESH_TOKEN,
}
_BACK_END = (
    "EcsError",
    "DbError",
    "AliyunError",
    "OrderError",
    "AckError",
    "UnknownError",
    "InternalError",
    "ServiceUnavailable",
)
_CREDENTIAL = (
    "InvalidAccessKeyId",
    "InvalidSecurityToken",
    "MissingSecurityToken",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "InvalidSignatureMethod",
    "InvalidTimeStamp",
)
_PERMISSION = ("NotAuthorized", "Forbidden", "NoPermission", "EntityNotExist.Role")
_CALLER = ("Missing", "Invalid", "UnsupportedHTTPMethod", "InsufficientBalance", "NotEnabled", "ConflictOpt")
_PER_TARGET = ("InstanceType", "OsTag")


def remedy_of(code: str, status: int) -> Remedy:
    """Return what to do about Alibaba Cloud's error ``code`` that came with the HTTP ``status``."""
    if code in _REMEDIES:
        return _REMEDIES[code]
    if code.startswith("Throttling") or status == 429:
        return Remedy.SLOW_DOWN
    if code.startswith(_BACK_END):
        return Remedy.RETRY
    if code.startswith(_CREDENTIAL):
        return Remedy.STOP_REGION
    return _remedy_of_denial(code, status)


def _remedy_of_denial(code: str, status: int) -> Remedy:
    if code.startswith(_CALLER) and any(word in code for word in _PER_TARGET):
        # InvalidInstanceType and its like blame what differs from target to target: one misspelt type must
        # not stop its region. What blames the rest of the request would come for every target.
        return Remedy.GIVE_UP
    # Of codes unknown to us: 401, 403 and 407 are denials at Alibaba Cloud, 406 is a fault of the back end.
    if code.startswith(_PERMISSION + _CALLER) or status in {401, 403, 407}:
        return Remedy.STOP_ACTION
    if 400 <= status < 500 and status not in {406, 408}:
        return Remedy.GIVE_UP
    return Remedy.RETRY


def advice_on(code: str, action: str) -> str:
    """Return what the operator can do about the code, as the end of a sentence; empty where nothing is known."""
    if code in {"InvalidTimeStamp.Expired", "IllegalTimestamp"}:
        return "check this machine's clock"
    if code.startswith(_CREDENTIAL):
        return "check the access key that the credential chain found, its secret and its token"
    if code.startswith(_PERMISSION):
        return f"allow the RAM user or role the action ehpc:{action} on resource *"
    return _NETWORK_ADVICE.get(code, "")


_NETWORK_ADVICE = {
    "network.dns": "check the region id and the endpoint: the host's name is not known",
    "network.connect": "check the endpoint, the proxy settings and the firewall",
    "network.tls": "check the CA bundle (REQUESTS_CA_BUNDLE) and whether a proxy intercepts TLS",
}
