"""A session on the server: its verifier, its place in the key-value memory, what it offers the scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec import _native
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import KvFull, SessionCache
from edgespec.server.server_drafter import ServerDrafter
from edgespec.verifying.scheduler import Offer
from edgespec.verifying.verifier import Verifier

DRAFT_ROWS = 64
LATE = 0.25
"""Who is later than usual is expected after this share of the usual time."""

AWAY_FORWARDS = 64
"""Forwards that a session may have while its edge is away; their verdicts are kept for it."""


ServerDrafters = Callable[[Sequence[int], SamplingParams, int, int], ServerDrafter]
"""Makes a server drafter: of a text, its parameters, its seed, and the tokens that may still come."""


@dataclass
class Tally:
    """What a session has been so far, for logs, metrics and `edgespec top`."""

    prompt_tokens: int
    adopted: int = 0
    committed: int = 0
    verdicts: int = 0
    drafted: int = 0
    accepted: int = 0
    hints: int = 0
    filled: int = 0
    first_ms: float | None = None

    def saw_verdict(self, drafted: int, accepted: int, committed: int, since_open_s: float) -> None:
        self.verdicts += 1
        self.drafted += drafted
        self.accepted += accepted
        self.committed += committed
        self.filled += 0 if drafted else committed
        if self.first_ms is None:
            self.first_ms = since_open_s * 1e3


class ServerSession:
    """One session: its verifier, its keys and values, its parameters. number: its own at the listener;
    device: who opened it; latency_ms: its target for a token, its own or the server's."""

    def __init__(
        self,
        number: int,
        device: Hashable,
        opened: _native.Open,
        *,
        context_length: int,
        end_tokens: tuple[int, ...],
        open_cache: Callable[[int], SessionCache],
        latency_ms: float | None = None,
    ) -> None:
        """Raises EdgespecError for sampling parameters that mean nothing."""
        self.number = number
        self.device = device
        self.turn = 0
        self.params = sampling_params(opened)
        self.seed: int = opened.seed
        self.latency_ms = latency_ms
        self.verifier = Verifier(
            opened.tokens.tolist(),
            max_new_tokens=opened.max_new_tokens,
            end_tokens=() if opened.ignore_eos else end_tokens,
            context_length=context_length,
            options=ServerOptions.from_wire(opened.options),
            draft_rows=DRAFT_ROWS,
        )
        self.cache = open_cache(self.verifier.slots.capacity)
        self.away_until: int | None = None
        """While its edge is away: the number of forwards at which it rests."""
        self.held = False
        """It has room in the key-value memory for all that its text may become."""
        self.opened_s = self.concluded_s = self.ready_since_s = time.monotonic()
        self.tally = Tally(len(opened.tokens))
        self.rtt_ms: float | None = None
        """To its device and back, as the link knew it at the last verdict."""
        self.server_drafter: ServerDrafter | None = None
        """Drafts for it here, on the server."""
        self._turnaround_s: float | None = None
        """From a verdict to the block that follows it, of late."""
        self._context_length = context_length
        self._published = False

    @property
    def low_priority(self) -> bool:
        """It would rather share a forward with others than have one soon."""
        return self.verifier.options.low_priority and self.latency_ms is None

    # Time

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until its next forward may start; None: there is nothing to run."""
        resting = self.away_until is not None and self.verifier.forwards >= self.away_until
        if not self.verifier.ready or resting:
            return None
        if not self.verifier.patient:
            return 0.0
        return max(0.0, self.concluded_s + self.verifier.options.max_wait_ms / 1e3 - now_s)

    def saw_return(self, now_s: float) -> None:
        """A block came for which it had nothing to run."""
        took_s = now_s - self.concluded_s
        self._turnaround_s = took_s if self._turnaround_s is None else 0.7 * self._turnaround_s + 0.3 * took_s

    def expected_s(self, now_s: float) -> float | None:
        """Seconds until it will probably have something to run; None: nobody knows, or it has it now."""
        wait_s = self.wait_s(now_s)
        if wait_s is not None:
            return wait_s or None
        if self._turnaround_s is None or self.away_until is not None or self.verifier.finish is not None:
            return None
        gone_s = now_s - self.concluded_s
        return (
            max(self._turnaround_s - gone_s, LATE * self._turnaround_s)
            if gone_s < 2 * self._turnaround_s
            else None
        )

    def leave(self) -> None:
        """Its edge is away: what it has sent is still verified, and a text that is filled goes on a
        little."""
        self.away_until = self.verifier.forwards + AWAY_FORWARDS

    def come_back(self) -> None:
        self.away_until = None

    def offer(self) -> Offer[ServerSession]:
        """What it brings to the next forward, now that it is ready."""
        pending, probabilities, asked = self.verifier.offer()
        return Offer(
            self,
            self.device,
            pending,
            max(self.concluded_s, self.ready_since_s),
            probabilities,
            self.latency_ms,
            spare=self.low_priority or not (asked or self.latency_ms),
        )

    # Drafting here

    def draft_here(self, server_drafters: ServerDrafters) -> None:
        """Draft on the server from now on, from the text as it stands."""
        if self.server_drafter is None:
            verifier = self.verifier
            self.server_drafter = server_drafters(verifier.text, self.params, self.seed, verifier.remaining)

    def draft_elsewhere(self) -> None:
        """Stop drafting on the server."""
        if self.server_drafter is not None:
            self.server_drafter.close()
            self.server_drafter = None

    # Memory

    def need(self, length: int, max_new_tokens: int) -> int:
        """Slots for a text of so many tokens and as many more, and the drafts that are verified behind it."""
        return min(self._context_length, length + max_new_tokens) + DRAFT_ROWS + 1

    def hold(self, slots: int | None = None) -> None:
        """Take memory, so many slots or what the text may need; what others computed of its text is adopted.
        Raises KvFull, with nothing held."""
        verifier = self.verifier
        slots = slots or self.need(len(verifier.text), verifier.remaining)
        try:
            if not self.held and (length := self.cache.adopt(verifier.text)):
                verifier.slots.adopt(length)
                self.tally.adopted += length
            self.cache.reserve(slots)
        except KvFull:
            if not self.held:
                self.let_go()
            raise
        self.held = True

    def let_go(self) -> None:
        """Give the memory back; the tokens stay, and what they were worth is computed again when it is
        needed."""
        self.verifier.slots.truncate(0)
        self.cache.release()
        self.held = False
        self._published = False

    def publish(self) -> None:
        """Once its prompt is computed: let other sessions that begin with it adopt it."""
        if not self._published:
            self._published = True
            length = self.verifier.slots.in_order
            self.cache.publish(self.verifier.text[: length + 1])

    # What others want to know

    def summary(self) -> dict[str, Any]:
        """One line's worth: for the log, and for `edgespec top`."""
        tally, seconds = self.tally, time.monotonic() - self.opened_s
        return {
            "session": self.number,
            "device": self.device.hex() if isinstance(self.device, bytes) else str(self.device),
            "seconds": round(seconds, 3),
            "prompt_tokens": tally.prompt_tokens,
            "prefix_tokens": tally.adopted,
            "tokens": tally.committed,
            "first_token_ms": None if tally.first_ms is None else round(tally.first_ms, 1),
            "forwards": self.verifier.forwards,
            "drafted": tally.drafted,
            "accepted": tally.accepted,
            "filled": tally.filled,
            "hints": tally.hints,
            "kv_bytes": self.cache.bytes,
            "rtt_ms": None if self.rtt_ms is None else round(self.rtt_ms, 1),
            "state": self.verifier.finish or ("away" if self.away_until is not None else "open"),
        }


def sampling_params(opened: _native.Open) -> SamplingParams:
    """The parameters of an OPEN, checked. Raises EdgespecError for values that mean nothing."""
    return SamplingParams(
        temperature=opened.temperature,
        top_k=opened.top_k,
        top_p=opened.top_p,
        min_p=opened.min_p,
        repetition_penalty=opened.repetition_penalty,
        logit_bias=dict(opened.logit_bias),
        seed=opened.seed,
        max_new_tokens=opened.max_new_tokens,
        ignore_eos=opened.ignore_eos,
        logprobs=opened.logprobs,
    )
