"""What a session has done so far, for the log, metrics and `edgespec top`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SessionStatistics:
    """Tokens, unless the name says otherwise. opened_s: of the server's clock; rtt_ms: at the last verdict."""

    opened_s: float
    prompt_tokens: int
    committed: int = 0
    drafted: int = 0
    accepted: int = 0
    filled: int = 0
    hints: int = 0
    first_token_ms: float | None = None
    rtt_ms: float | None = None

    def record_verdict(self, drafted: int, accepted: int, committed: int, now_s: float) -> None:
        self.drafted += drafted
        self.accepted += accepted
        self.committed += committed
        self.filled += 0 if drafted else committed
        if self.first_token_ms is None:
            self.first_token_ms = (now_s - self.opened_s) * 1e3
