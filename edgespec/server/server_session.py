"""A session on the server: its state in the verifying loop, its memory, its draft if hosted here, and what it has done.

Key-value memory is taken for all that the session's text may become, and given back while it is idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.core.pictures import PictureSpan
from edgespec.core.remembered_texts import remembered_part
from edgespec.core.shares import holder_of
from edgespec.model.target_engine import KvFull, PlacedPicture, SessionCache
from edgespec.server.guide_time import GuideTime
from edgespec.server.refusal import Refused
from edgespec.server.server_drafter import ServerDrafter
from edgespec.server.shared_memory import add_text
from edgespec.verifying.constraints import Constraints
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Conclusion, Verifier

ServerDrafters = Callable[[Sequence[int], SamplingParams, int, int, str], ServerDrafter | None]
"""Makes a server drafter of a text, its parameters, its seed, and the number of tokens that may still come, for whom;
None: all are in use."""

DRAFT_RETRY_MS = 2000


@dataclass
class SessionStatistics:
    """Tokens, unless the name says otherwise. prefix_tokens: of prompts, which other sessions had computed; tokens:
    committed; filled: of them, without a draft; rtt_ms: at the last verdict; opened_s: of the server's clock."""

    opened_s: float
    prompt_tokens: int
    prefix_tokens: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    filled: int = 0
    hints: int = 0
    first_token_ms: float | None = None
    rtt_ms: float | None = None

    def record(self, conclusion: Conclusion, drafted: int, now_s: float) -> None:
        """A verdict leaves; its forward verified `drafted` drafted nodes."""
        committed = len(conclusion.verdict.tokens)
        self.tokens += committed
        self.drafted += drafted
        self.accepted += conclusion.accepted
        self.filled += 0 if drafted else committed
        if self.first_token_ms is None:
            self.first_token_ms = (now_s - self.opened_s) * 1e3


@dataclass
class ServerSession:
    """state: in the verifying loop. identity: of its edge, at the gate. holders: in whose shares it counts, see
    `admission.Asker`. granted: its token grants its latency target. prefix_salt: whose prefixes it may read. shared:
    texts that it adds its own to; None: it does not. guide_time: of its device. turn: of the conversation, which hints
    and verdicts name. reserved: it has its memory. drafter: drafts for it on this server. pictures: in its text, in
    order."""

    state: VerifyingSession
    identity: bytes
    params: SamplingParams
    seed: int
    constraints: Constraints
    cache: SessionCache
    statistics: SessionStatistics
    holders: frozenset[str] = frozenset()
    granted: bool = False
    prefix_salt: bytes = b""
    shared: _native.TextIndex | None = None
    guide_time: GuideTime = field(default_factory=GuideTime)
    turn: int = 0
    reserved: bool = False
    drafter: ServerDrafter | None = None
    pictures: list[PlacedPicture] = field(default_factory=list)
    _published: bool = False

    @property
    def number(self) -> int:
        return self.state.number

    @property
    def verifier(self) -> Verifier:
        return self.state.verifier

    @property
    def spans(self) -> list[PictureSpan]:
        return [picture.span for picture in self.pictures]

    @property
    def slots_needed(self) -> int:
        """Memory, in slots, for what its text may become."""
        return self.verifier.limits.slots(len(self.verifier.text) + self.verifier.remaining)

    @property
    def holder(self) -> str:
        """In whose name it holds things; where nobody knows who it is, in a name of its own."""
        return holder_of(self.holders) or str(self.number)

    def reserve(self, slots: int | None = None) -> None:
        """Take memory for this many slots (None: for what the text may become), and adopt what other sessions computed
        of the text. Raises KvFull, with no more taken."""
        verifier = self.verifier
        slots = slots or self.slots_needed
        try:
            if not self.reserved and (
                length := self.cache.adopt(verifier.text, self.spans, self.prefix_salt)
            ):
                verifier.slots.adopt(length)
                self.statistics.prefix_tokens += length
            self.cache.reserve(slots)
        except KvFull:
            if not self.reserved:
                self.release()
            raise
        self.reserved = True

    def release(self) -> None:
        """Give the memory back. The tokens stay: their keys and values are computed again when they are needed."""
        self.verifier.slots.truncate(0)
        self.cache.release()
        self.reserved = self._published = False

    def publish(self) -> None:
        """The prompt is computed: sessions whose text begins alike may adopt it."""
        if not self._published:
            self._published = True
            self.cache.publish(
                self.verifier.text[: self.verifier.slots.in_order + 1], self.spans, self.prefix_salt
            )

    def turn_ends(self, length: int | None = None) -> None:
        """The turn's text is remembered where it is shared: its first `length` tokens, or all."""
        if self.shared is not None:
            verifier = self.verifier
            add_text(self.shared, remembered_part(verifier.text, verifier.turn_start, length))

    def host_draft(self, drafters: ServerDrafters | None) -> None:
        """Draft for it here from now on, or no longer, as its options say. drafters: None where no draft is hosted.
        Raises Refused where the session cannot do without, and has none."""
        verifier = self.verifier
        if verifier.options.server_draft == "off":
            self.close_drafter()
        elif self.drafter is None and drafters is not None:
            self.drafter = drafters(verifier.text, self.params, self.seed, verifier.remaining, self.holder)
            if self.drafter is None and verifier.options.server_draft == "required":
                raise Refused(
                    _native.ErrorCode.OVERLOADED,
                    "all the drafts that this server hosts are in use; try again later",
                    DRAFT_RETRY_MS,
                )
            if self.drafter is not None:
                self.drafter.leave_out(self.spans)

    def draft_here(self) -> bool:
        """Have the draft that is hosted here bring the next chain, or read more of the text. False: it had nothing to
        do."""
        chain = None if self.drafter is None else self.drafter.draft()
        self.verifier.received.suggest(chain or ())
        return chain is not None

    def close_drafter(self) -> None:
        if self.drafter is not None:
            self.drafter.close()
            self.drafter = None

    def summary(self) -> dict[str, Any]:
        """For the log, and for `edgespec top`."""
        counts, away = asdict(self.statistics), self.state.away_since_s is not None
        return {
            "session": self.number,
            "device": str(self.state.device),
            "seconds": round(time.monotonic() - counts.pop("opened_s"), 3),
            **{
                name: round(value, 1) if isinstance(value, float) else value for name, value in counts.items()
            },
            "forwards": self.verifier.forwards,
            "kv_bytes": self.cache.bytes,
            "state": self.verifier.finish or ("away" if away else "open"),
        }
