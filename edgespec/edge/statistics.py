"""What a session counts and times, as `Step.statistics` and `--json` report it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgespec.drafting.speculator import Tally


@dataclass
class Statistics:
    """Counts since the session's first prompt; times in milliseconds but `seconds`.

    rounds: verdicts whose forward verified drafted nodes. drafted: nodes the draft made; sent: those that went up;
    accepted: drafted tokens that the target committed. hints_sent: hints that came; hints_hit: those that were right
    in full. draft_ms and forward_ms: time in the draft and in this session's target forwards. draft_runs and
    draft_overruns: runs of a paced draft, and those that took longer than their pace. hedged: frames sent again because
    no acknowledgement came in time; link_losses: times that no connection was left.
    """

    seconds: float = 0.0
    ttft_ms: float | None = None
    committed: int = 0
    rounds: int = 0
    drafted: int = 0
    sent: int = 0
    accepted: int = 0
    hints_sent: int = 0
    hints_hit: int = 0
    target_forwards: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    draft_ms: float = 0.0
    forward_ms: float = 0.0
    rtt_ms: float | None = None
    draft_runs: int = 0
    draft_overruns: int = 0
    hedged: int = 0
    link_losses: int = 0

    def take(self, tally: Tally) -> None:
        """The speculator's counts so far."""
        self.rounds, self.drafted, self.sent = tally.rounds, tally.drafted, tally.sent
        self.accepted, self.hints_sent, self.hints_hit = tally.accepted, tally.hints, tally.hints_hit

    @property
    def acceptance(self) -> float | None:
        """Share of the sent nodes that were committed."""
        return self.accepted / self.sent if self.sent else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.committed / self.seconds if self.seconds else None

    def to_json(self) -> dict[str, float | int | None]:
        return {**asdict(self), "acceptance": self.acceptance, "tokens_per_s": self.tokens_per_s}
