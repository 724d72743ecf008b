"""A refusal: the ERROR that a peer is answered with."""

from __future__ import annotations

from edgespec import _native

MOST_CHARACTERS = 500
"""Of a message: a peer may have chosen what stands in it, and it goes into the log too."""


class Refused(Exception):
    """A request is answered with an ERROR, and its session or connection ends. retry_after_ms: when the edge may ask
    again; None: it need not try."""

    def __init__(self, code: _native.ErrorCode, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message if len(message) <= MOST_CHARACTERS else f"{message[:MOST_CHARACTERS]} ...")
        self.code = code
        self.retry_after_ms = retry_after_ms

    @classmethod
    def internal(cls, what: str, error: Exception) -> Refused:
        """Something failed here: the edge may open the session again, here or elsewhere."""
        return cls(_native.ErrorCode.INTERNAL, f"the {what} failed: {error}", retry_after_ms=0)

    def frame(self, channel: int = 0) -> bytes:
        retry_ms = self.retry_after_ms
        return _native.encode_error(channel, self.code, retry_ms is not None, retry_ms or 0, str(self))
