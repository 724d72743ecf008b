"""What a server does not do for a peer: the ERROR that says so."""

from __future__ import annotations

from edgespec import _native


class Refused(Exception):
    """What a peer asked for is answered with an ERROR; the session or the connection that asked ends."""

    def __init__(
        self,
        code: _native.ErrorCode,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms

    def frame(self, channel: int) -> bytes:
        return _native.encode_error(
            channel, self.code, self.retryable, self.message, retry_after_ms=self.retry_after_ms
        )
