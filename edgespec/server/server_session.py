"""A session on the server: its state in the verifying loop, and what is not pure about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.core.params import SamplingParams
from edgespec.server.server_drafter import ServerDrafter
from edgespec.server.session_memory import SessionMemory
from edgespec.server.session_statistics import SessionStatistics
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier

ServerDrafters = Callable[[Sequence[int], SamplingParams, int, int], ServerDrafter]
"""Makes a server drafter of a text, its parameters, its seed, and the number of tokens that may still come."""


@dataclass
class ServerSession:
    """state: in the verifying loop. turn: of the conversation, which hints and verdicts name. drafter: drafts for it on
    this server."""

    state: VerifyingSession
    params: SamplingParams
    seed: int
    memory: SessionMemory
    statistics: SessionStatistics
    turn: int = 0
    drafter: ServerDrafter | None = None

    @property
    def number(self) -> int:
        return self.state.number

    @property
    def verifier(self) -> Verifier:
        return self.state.verifier

    def host_draft(self, drafters: ServerDrafters | None) -> None:
        """Draft for it here from now on, or no longer, as its options say. drafters: None where no draft is hosted."""
        verifier = self.verifier
        if verifier.options.server_draft == "off":
            self.close_drafter()
        elif self.drafter is None and drafters is not None:
            self.drafter = drafters(verifier.text, self.params, self.seed, verifier.remaining)

    def close_drafter(self) -> None:
        if self.drafter is not None:
            self.drafter.close()
            self.drafter = None

    def summary(self) -> dict[str, Any]:
        """For the log, and for `edgespec top`."""
        statistics, device = self.statistics, self.state.device
        first_ms, rtt_ms = statistics.first_token_ms, statistics.rtt_ms
        return {
            "session": self.number,
            "device": device.hex() if isinstance(device, bytes) else str(device),
            "seconds": round(time.monotonic() - statistics.opened_s, 3),
            "prompt_tokens": statistics.prompt_tokens,
            "prefix_tokens": self.memory.adopted,
            "tokens": statistics.committed,
            "first_token_ms": None if first_ms is None else round(first_ms, 1),
            "forwards": self.verifier.forwards,
            "drafted": statistics.drafted,
            "accepted": statistics.accepted,
            "filled": statistics.filled,
            "hints": statistics.hints,
            "kv_bytes": self.memory.cache.bytes,
            "rtt_ms": None if rtt_ms is None else round(rtt_ms, 1),
            "state": self.verifier.finish or ("away" if self.state.away else "open"),
        }
