"""The error answers of the gateway: their codes with HTTP status and text, as Alibaba Cloud documents them."""

from sync.errors import SyncError

STATUS_BY_CODE = {
    "DbError": 406,
    "EcsError": 406,
    "Forbidden.RAM": 403,
    "ImageNotFound": 404,
    "IncompleteSignature": 400,
    "InternalError": 500,
    "InvalidAccessKeyId.NotFound": 404,
    "InvalidApi.NotFound": 404,
    "InvalidParameter": 400,
    "InvalidSecurityToken.Expired": 400,
    "InvalidSecurityToken.MismatchWithAccessKey": 400,
    "InvalidSignatureMethod": 400,
    "InvalidTimeStamp.Expired": 400,
    "InvalidTimeStamp.Format": 400,
    "InvalidVersion": 400,
    "MissingSecurityToken": 400,
    "NotAuthorized": 407,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 400,
    "SignatureNonceUsed": 400,
    "Throttling": 400,
    "Throttling.Api": 400,
    "Throttling.User": 400,
    "UnknownError": 500,
    "UnsupportedHTTPMethod": 400,
}

MESSAGE_BY_CODE = {
    "DbError": "The database of the service failed.",
    "EcsError": "ECS failed to answer.",
    "Forbidden.RAM": "User not authorized to operate on the specified resource, or this API doesn't support RAM.",
    "ImageNotFound": "The specified image does not exist.",
    "InternalError": "The request processing has failed due to some unknown error.",
    "InvalidAccessKeyId.NotFound": "Specified access key is not found.",
    "InvalidSecurityToken.Expired": "Specified SecurityToken is expired.",
    "InvalidSecurityToken.MismatchWithAccessKey": "Specified SecurityToken does not match the AccessKeyId.",
    "InvalidTimeStamp.Expired": "Specified time stamp or date value is expired.",
    "InvalidTimeStamp.Format": "Specified time stamp or date value is not well formatted.",
    "InvalidVersion": "Specified parameter Version is not valid.",
    "MissingSecurityToken": "SecurityToken is mandatory for this action.",
    "NotAuthorized": "You are not authorized to perform this operation.",
    "ServiceUnavailable": "The request has failed due to a temporary failure of the server.",
    "SignatureNonceUsed": "Specified signature nonce was used already.",
    "Throttling": "Request was denied due to request throttling.",
    "Throttling.Api": "Request was denied due to api flow control.",
    "Throttling.User": "Request was denied due to user flow control.",
    "UnknownError": "An unknown error occurred.",
}


class RefusalError(SyncError):
    """The simulator refuses a request; becomes an error answer with Code, Message and HTTP status.

    Attributes:
        code: Alibaba Cloud's error code.
        message: the text of the answer.
        status: the HTTP status.
        retry_after_ms: what the header ``x-acs-retry-after`` says; 0 for no such header.
    """

    def __init__(self, code: str, message: str = "", *, status: int = 0, retry_after_ms: int = 0) -> None:
        self.retry_after_ms = retry_after_ms
        self.code = code
        self.message = message or MESSAGE_BY_CODE.get(code, "The request was refused.")
        self.status = status or STATUS_BY_CODE.get(code, 400)
        super().__init__(f"{code}: {self.message}")
