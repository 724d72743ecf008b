"""What a request's texts took: usage as OpenAI counts it, speculation in vLLM's shape, and what only edgespec has."""

from collections import Counter
from dataclasses import fields
from typing import Any

from edgespec.api.door import TextStep
from edgespec.edge.step import Statistics

SUMMED = [field.name for field in fields(Statistics) if field.name not in ("ttft_ms", "rtt_ms")]


class Tally:
    """Fed with every step of a request's texts. choices: texts that have the same prompt, which counts once."""

    def __init__(self, choices: int = 1) -> None:
        self.prompt_tokens = self.cached_tokens = self.provisional_tokens = self.revised_tokens = 0
        self._choices = choices
        self._earlier = dict.fromkeys(SUMMED, 0.0)
        self._before = self._now = Statistics()
        self._histogram: Counter[int] = Counter()
        self._index = -1
        self._rtt_ms: float | None = None
        self._cloud_s = 0.0

    def add(self, text: TextStep) -> None:
        statistics, opened = text.step.statistics, text.opened
        if text.index != self._index:
            self._earlier, self._before, self._index = self.totals, opened.before, text.index
            if text.index % self._choices == 0:
                self.prompt_tokens += len(opened.session.all_tokens) - len(opened.session.tokens)
                self.cached_tokens += opened.reused
        self._now = statistics
        self._rtt_ms = statistics.rtt_ms
        self._cloud_s += len(text.step.tokens) * opened.session.measurements.forward_ms(1) / 1e3
        self.revised_tokens += text.step.revised
        self.provisional_tokens += bool(text.step.provisional)
        for event in text.events:
            if event.kind == "verdict":
                sources = event.detail["sources"]
                assert isinstance(sources, list)
                self._histogram[sum(source in ("draft", "hint") for source in sources)] += 1

    @property
    def totals(self) -> dict[str, float]:
        """The sums of all texts so far."""
        before, now = self._before, self._now
        return {name: self._earlier[name] + getattr(now, name) - getattr(before, name) for name in SUMMED}

    @property
    def completion_tokens(self) -> int:
        return int(self.totals["committed"])

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def metrics(self) -> dict[str, Any]:
        """speculative_decoding: as vLLM reports it. acceptance_histogram: verdicts by their accepted drafted tokens.
        speed_vs_cloud_estimated: this text's speed over one token a forward with no round trips between."""
        totals = self.totals
        count = {name: int(value) for name, value in totals.items()}
        rounds, sent, accepted = count["rounds"], count["sent"], count["accepted"]
        seconds = totals["seconds"]
        return {
            "speculative_decoding": {
                "mean_acceptance_length": 1 + accepted / rounds if rounds else None,
                "draft_acceptance_rate": accepted / sent if sent else None,
                "acceptance_histogram": [
                    self._histogram[length] for length in range(max(self._histogram, default=-1) + 1)
                ],
                "num_spec_steps": rounds,
                "num_accepted_draft_tokens": accepted,
                "num_draft_tokens": sent,
                "num_spec_tokens": count["drafted"],
            },
            "edgespec": {
                "rtt_ms": self._rtt_ms,
                "bytes_up": count["bytes_up"],
                "bytes_down": count["bytes_down"],
                "hints": count["hints_sent"],
                "hint_hits": count["hints_hit"],
                "provisional_tokens": self.provisional_tokens,
                "revised_tokens": self.revised_tokens,
                "server_forwards": count["target_forwards"],
                "tokens_per_s": self.completion_tokens / seconds if seconds else None,
                "speed_vs_cloud_estimated": self._cloud_s / seconds if seconds and self._cloud_s else None,
            },
        }
