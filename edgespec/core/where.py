"""`POST /where`: a device asks at one name where its session may run; a server answers with its own address.

So any HTTP router can spread sessions over servers: it routes the question, and the session itself goes straight to the
server that answered. Pure: the bodies, read and written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from edgespec.core.address import Address, parse_address
from edgespec.core.errors import EdgespecError

MOST_BYTES = 4096
"""Of a question or an answer."""

TOO_LONG = "the question is too long, or does not say how long it is"

LONGEST_NAME = 512


def may_be_read(content_length: str | None) -> bool:
    """Whether a question with this HTTP header is short enough; else it is refused as `TOO_LONG`."""
    return content_length is not None and content_length.isdecimal() and int(content_length) <= MOST_BYTES


@dataclass(frozen=True)
class Question:
    """session: the name by which a router may send a session's questions to one server. model: the target's id that its
    text began with; None: any."""

    session: str
    model: str | None = None

    def to_json(self) -> bytes:
        return json.dumps({"session": self.session, "model": self.model}).encode()

    def elsewhere(self) -> Question:
        """Under another name: the server that the router chose by this one does not do."""
        name, _, number = self.session.partition(".")
        return replace(self, session=f"{name}.{int(number or 0) + 1}")

    @classmethod
    def from_json(cls, body: bytes) -> Question:
        """Raises EdgespecError."""
        fields = _object(body)
        model = fields.get("model")
        return cls(_name(fields, "session"), None if model is None else _name(fields, "model"))


@dataclass(frozen=True)
class Place:
    """Where a session may run. tls_name: the name in the certificate there; None: the address's host. load: of the
    server, 0 to 1."""

    address: Address
    target_id: str
    load: float = 0.0
    tls_name: str | None = None

    def to_json(self) -> bytes:
        fields = {"address": str(self.address), "tls_name": self.tls_name}
        return json.dumps({**fields, "target_id": self.target_id, "load": round(self.load, 4)}).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Place:
        """Raises EdgespecError."""
        fields = _object(body)
        load, tls_name = fields.get("load", 0.0), fields.get("tls_name")
        if isinstance(load, bool) or not isinstance(load, (int, float)):
            raise EdgespecError("`load` is no number")
        return cls(
            parse_address(_name(fields, "address")),
            _name(fields, "target_id"),
            float(load),
            None if tls_name is None else _name(fields, "tls_name"),
        )


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MOST_BYTES:
        raise EdgespecError(f"the body is longer than {MOST_BYTES} bytes")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise EdgespecError("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise EdgespecError("the body is no JSON object")
    return fields


def _name(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise EdgespecError(f"`{key}` must be a string of 1 to {LONGEST_NAME} characters")
    return value
