"""What an edge asks of the server for one session. OPEN and TUNE carry it: a policy chooses anew at any time.

A new flag is a field here, a bit in `_FLAGS`, a line in docs/wire-format.md, and whatever acts on it. The native layer
carries the flags without knowing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgespec import _native

ServerDraft = Literal["off", "lent", "required"]

_FLAGS = {"fill": 1, "prompt_lookup": 4, "low_priority": 8}
_HINTS = 2
_SERVER_DRAFT: dict[ServerDraft, int] = {"off": 0, "lent": 16, "required": 32}

LARGEST_MAX_WAIT_MS = 1000.0
"""A server holds a forward for no longer than this."""


@dataclass(frozen=True)
class ServerOptions:
    """What the server does for a session.

    fill: the target goes on decoding while no drafts are at hand. prompt_lookup: while it fills, it also verifies
    continuations that it finds in the text itself. hint_threshold: the least confidence (0 to 1) of a hint worth
    sending; None: no hints. server_draft: "lent": the server's own draft works for this session while the server has
    time for it, and a server without one ignores it; "required": it works for every forward, and a server without one
    refuses the session. max_wait_ms: how long a forward that would fill may wait for drafts that are on their way.
    low_priority: the session runs in the room that others leave, which costs the server less.
    """

    fill: bool = False
    prompt_lookup: bool = False
    hint_threshold: float | None = None
    server_draft: ServerDraft = "off"
    max_wait_ms: float = 0.0
    low_priority: bool = False

    def to_wire(self) -> _native.ServerOptions:
        flags = sum(bit for name, bit in _FLAGS.items() if getattr(self, name))
        flags |= _SERVER_DRAFT[self.server_draft] | (0 if self.hint_threshold is None else _HINTS)
        return _native.ServerOptions(
            flags=flags, hint_threshold=self.hint_threshold or 0.0, max_wait_us=round(self.max_wait_ms * 1e3)
        )

    @classmethod
    def from_wire(cls, options: _native.ServerOptions) -> ServerOptions:
        """Bits that are not known are ignored, `max_wait_ms` is held to LARGEST_MAX_WAIT_MS, and `hint_threshold` to
        what a confidence may be."""
        flags = options.flags
        required, lent = flags & _SERVER_DRAFT["required"], flags & _SERVER_DRAFT["lent"]
        return cls(
            **{name: bool(flags & bit) for name, bit in _FLAGS.items()},
            hint_threshold=min(max(options.hint_threshold, 0.0), 1.0) if flags & _HINTS else None,
            server_draft="required" if required else "lent" if lent else "off",
            max_wait_ms=min(options.max_wait_us / 1e3, LARGEST_MAX_WAIT_MS),
        )
