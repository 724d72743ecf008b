"""Errors as OpenAI's API answers them: a status and `{"error": {message, type, param, code}}`."""

from typing import Any

from pydantic import BaseModel

from edgespec.core.errors import EdgespecError

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class ErrorContent(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every answer that is none of what was asked for, for the OpenAPI document."""

    error: ErrorContent


class ApiError(EdgespecError):
    """status: of HTTP. param: the request's parameter that is wrong. retry_after_s: when to try again."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def refused(param: str, why: str) -> ApiError:
    """Status 400 for one parameter of a request."""
    return ApiError(400, f"{param}: {why}", param=param)


def unavailable(error: EdgespecError) -> ApiError:
    """No server can be had, or it refuses."""
    return ApiError(503, str(error), code="server_unavailable", retry_after_s=1)
