"""What one step of a session brings its caller, and what the session has counted so far."""

from dataclasses import asdict, dataclass, field

from edgespec.drafting.speculator import DraftCounts


@dataclass
class Statistics(DraftCounts):
    """Counts since the session's first prompt, those of `DraftCounts` and more; times in milliseconds but `seconds`.

    forward_ms: time in this session's target forwards. draft_overruns: runs of the draft that took longer than their
    pacing. hedged: frames sent again because no acknowledgement came in time; link_losses: times that no connection was
    left.
    """

    seconds: float = 0.0
    ttft_ms: float | None = None
    committed: int = 0
    target_forwards: int = 0
    forward_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    rtt_ms: float | None = None
    draft_overruns: int = 0
    hedged: int = 0
    link_losses: int = 0

    @property
    def acceptance(self) -> float | None:
        """Share of the sent nodes that were committed."""
        return self.accepted / self.sent if self.sent else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.committed / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, float | int | None]:
        return {**asdict(self), "acceptance": self.acceptance, "tokens_per_s": self.tokens_per_s}


@dataclass(frozen=True)
class Step:
    """What one step brought.

    tokens: newly committed token ids; text: what they add to the text (a stop string or half a character is held
    back). logprobs: of these tokens, if asked for. top_logprobs: at each of them, the likeliest tokens' ids -> their
    log-probabilities, the likeliest first, if asked for. finish_reason: "stop" (end of sequence or stop string),
    "length" (max_new_tokens), "context" (the context is full), "cancelled", or None while the text goes on.
    provisional: text that the draft wrote alone, with no server there; revised: how many tokens of such text the
    target has replaced, or will. Both are empty online; `Session.provisional` is what of it still stands.
    events: what happened to the link since the last step, in words.
    """

    tokens: list[int]
    text: str
    logprobs: list[float] | None
    finish_reason: str | None
    statistics: Statistics
    provisional: str = ""
    revised: int = 0
    events: list[str] = field(default_factory=list)
    top_logprobs: list[dict[int, float]] | None = None
