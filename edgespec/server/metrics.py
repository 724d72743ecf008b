"""The server's metrics for Prometheus: vLLM's names behind `edgespec:` where they mean the same, and some of our own.

The server counts, `monitoring` serves them. Needs prometheus-client (the server extra).
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from edgespec.server.server_session import SessionStatistics
from edgespec.verifying.verifier import Conclusion

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RTT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters, gauges and histograms of one server; some count by themselves, the others in `record_...`. generated:
    tokens committed so far."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.generated = 0
        self._gauges: dict[str, Gauge] = {}
        # vLLM's
        self._accepted = self._counter(
            "spec_decode_num_accepted_tokens", "Drafted tokens that were committed."
        )
        self._drafted = self._counter("spec_decode_num_draft_tokens", "Drafted tokens that were verified.")
        self._drafts = self._counter("spec_decode_num_drafts", "Forwards of a session that verified drafts.")
        self._accepted_at = self._counter(
            "spec_decode_num_accepted_tokens_per_pos", "Of them, by depth in the draft tree.", "position"
        )
        self._generated = self._counter("generation_tokens", "Tokens committed behind prompts.")
        self._prompted = self._counter("prompt_tokens", "Tokens of prompts and turns.")
        self._prefix_hits = self._counter("prefix_cache_hits", "Prompt tokens that were computed before.")
        self._success = self._counter("request_success", "Texts that ended.", "finished_reason")
        self._first_token = self._histogram("time_to_first_token_seconds", "From OPEN to the first verdict.")
        self._inter_token = self._histogram("inter_token_latency_seconds", "Between verdicts, by token.")
        # edgespec's own
        self._forwards = self._counter("forwards", "Target forwards.")
        self._forward_seconds = self._histogram("forward_seconds", "A target forward.")
        self._forward_rows = self._histogram("forward_rows", "Rows of a forward.", ROWS)
        self._forward_sessions = self._histogram("forward_sessions", "Sessions in a forward.", ROWS)
        self.hints = self._counter("hints_sent", "Hints sent from early exits.")
        self._fills = self._counter("fill_tokens", "Tokens committed by fill, with no draft at hand.")
        self._wasted = self._counter("wasted_rows", "Drafted rows that were verified for nothing.")
        self.refused = self._counter("refusals", "ERRORs sent.", "code")
        self._rtt_seconds = self._histogram(
            "rtt_seconds", "A session's smoothed round trip, at each of its verdicts.", RTT_SECONDS
        )
        self.drafting = self._counter("colocated_draft_seconds", "Time spent drafting for edges that cannot.")
        self.ended = self._counter("sessions_ended", "Sessions that ended.")

    def add_gauge(self, name: str, help_text: str) -> None:
        self._gauges[name] = Gauge(f"edgespec:{name}", help_text, registry=self._registry)

    def set_gauges(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._gauges[name].set(value)

    def record_open(self, session: SessionStatistics) -> None:
        self._prompted.inc(session.prompt_tokens)
        self._prefix_hits.inc(session.prefix_tokens)

    def record_forward(self, sessions: int, rows: int, seconds: float) -> None:
        self._forwards.inc()
        self._forward_seconds.observe(seconds)
        self._forward_rows.observe(rows)
        self._forward_sessions.observe(sessions)

    def record_verdict(
        self, conclusion: Conclusion, drafted: int, session: SessionStatistics, before_s: float, now_s: float
    ) -> None:
        """drafted: nodes that its forward verified. session: without this verdict, but with its round trip. before_s:
        when the verdict before it left."""
        committed, accepted = len(conclusion.verdict.tokens), conclusion.accepted
        self._generated.inc(committed)
        self.generated += committed
        if drafted:
            self._drafts.inc()
            self._drafted.inc(drafted)
            self._accepted.inc(accepted)
            self._wasted.inc(drafted - accepted)
            for depth in range(accepted):
                self._accepted_at.labels(str(depth)).inc()
        else:
            self._fills.inc(committed)
        if session.first_token_ms is None:
            self._first_token.observe(now_s - session.opened_s)
        else:
            self._inter_token.observe((now_s - before_s) / committed)
        if session.rtt_ms is not None:
            self._rtt_seconds.observe(session.rtt_ms / 1e3)
        if conclusion.verdict.finish is not None:
            self._success.labels(conclusion.verdict.finish).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"edgespec:{name}", help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(f"edgespec:{name}", help_text, buckets=buckets, registry=self._registry)
