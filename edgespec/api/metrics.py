"""The API's metrics for Prometheus: vLLM's names behind `edgespec:` where they mean the same, and the link's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

if TYPE_CHECKING:
    from edgespec.api.door import TextStep

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTED = {
    "spec_decode_num_drafts": ("rounds", "Verdicts on drafted tokens."),
    "spec_decode_num_draft_tokens": ("sent", "Drafted tokens that were sent."),
    "spec_decode_num_accepted_tokens": ("accepted", "Drafted tokens that were committed."),
    "generation_tokens": ("committed", "Tokens committed."),
    "server_forwards": ("target_forwards", "Forwards of the target."),
    "hints": ("hints_sent", "Hints that came from early exits."),
    "hint_hits": ("hints_hit", "Hints that were right in full."),
    "bytes_up": ("bytes_up", "Bytes sent to servers."),
    "bytes_down": ("bytes_down", "Bytes received from servers."),
    "link_losses": ("link_losses", "Times that no connection was left."),
}
"""A counter -> the session statistic that it sums, and its help text."""


KEPT_S = 1.0
"""For so long a page stays as it is: it is made on the event loop, which the texts need."""


class Metrics:
    """Of one door."""

    def __init__(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        for name, value in (("num_requests_running", running), ("num_requests_waiting", waiting)):
            Gauge(f"edgespec:{name}", "Requests now.", registry=self._registry).set_function(value)
        self._counters = {name: self._counter(name, text) for name, (_, text) in COUNTED.items()}
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self._prefix_hits = self._counter("prefix_cache_hits", "Prompt tokens that an earlier text had read.")
        self._success = self._counter("request_success", "Texts that ended.", "finished_reason")
        self._provisional = self._counter("provisional_tokens", "Tokens of the draft alone, while offline.")
        self._first = self._histogram("time_to_first_token_seconds", "From a text's turn to its first token.")
        self._between = self._histogram("inter_token_latency_seconds", "Between steps, by token.")
        self._rtt = self._histogram("rtt_seconds", "Round trip to the server, at each step.")
        self._page, self._made_s = b"", -KEPT_S

    def text(self) -> TextMeter:
        """What measures one text."""
        return TextMeter(self)

    def exposition(self) -> bytes:
        """In Prometheus' text format, made once in `KEPT_S` at most."""
        if time.monotonic() - self._made_s >= KEPT_S:
            self._page, self._made_s = generate_latest(self._registry), time.monotonic()
        return self._page

    def begun(self, step: TextStep, seconds: float) -> None:
        self._first.observe(seconds)
        session = step.opened.session
        self._prompt_tokens.inc(len(session.all_tokens) - len(session.tokens))
        self._prefix_hits.inc(step.opened.reused)

    def went_on(self, step: TextStep, seconds: float | None, before: dict[str, float]) -> None:
        """seconds: since the text's last step, None for the first; before: what its statistics were then."""
        statistics = step.step.statistics
        for name, (field, _) in COUNTED.items():
            if (now := getattr(statistics, field)) > before[field]:
                self._counters[name].inc(now - before[field])
                before[field] = now
        if step.step.tokens and seconds is not None:
            self._between.observe(seconds / len(step.step.tokens))
        if statistics.rtt_ms is not None:
            self._rtt.observe(statistics.rtt_ms / 1e3)
        if step.step.provisional:
            self._provisional.inc()
        if step.step.finish_reason is not None:
            self._success.labels(step.step.finish_reason).inc()

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"edgespec:{name}", help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str) -> Histogram:
        return Histogram(f"edgespec:{name}", help_text, buckets=SECONDS, registry=self._registry)


class TextMeter:
    """The times of one text's steps."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last_s = time.monotonic()
        self._before: dict[str, float] | None = None

    def add(self, step: TextStep, now_s: float) -> None:
        """now_s: of the monotonic clock, when the step came."""
        seconds, self._last_s = now_s - self._last_s, now_s
        if self._before is None:
            self._before = {field: getattr(step.opened.before, field) for field, _ in COUNTED.values()}
            self._metrics.begun(step, seconds)
            self._metrics.went_on(step, None, self._before)
        else:
            self._metrics.went_on(step, seconds, self._before)
