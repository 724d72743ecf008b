"""`auto`: the default policy. It streams a draft tree and sets its width, depth and hints from what was measured.

Every choice comes with its reason in words (`reasons`, shown by --explain). It re-decides every few forwards; a
choice changes only when the measures speak clearly for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgespec.measures import Measures
from edgespec.policies import Stream
from edgespec.policy import View

DECIDE_EVERY = 8
"""Forwards between two decisions."""

TRIAL_FORWARDS = 8
"""Forwards with hints, and as many without, before their cost is judged."""

HINT_GAIN = 0.05
"""What hints gained at a round trip of nothing, in simulations of the bundled pair; it fades as round trips grow."""


class Auto(Stream):
    """A `Stream` that tunes itself."""

    name = "auto"

    def __init__(self, draft_tokens: int = 12) -> None:
        super().__init__(draft_tokens, hints=False)
        self.reasons: dict[str, str] = {}
        self._decided_at = 0
        self._run_ms = 0.0

    def send(self, view: View) -> Sequence[int]:
        """As `Stream`, but nodes wait for the next run's while all of them reach the same forward: fewer frames."""
        waits = 0.0 < self._run_ms < view.slack_ms and not self.patience_ms and self.expand(view)
        return () if waits else super().send(view)

    def adapt(self, view: View, measures: Measures) -> None:
        self._run_ms = measures.draft_ms(self.rows)
        if measures.forwards < self._decided_at + DECIDE_EVERY:
            return
        self._decided_at = measures.forwards
        self._choose_rows(measures)
        self._choose_hints(measures)
        self._choose_patience(measures)

    def _choose_rows(self, measures: Measures) -> None:
        """As many rows a run as come nearly for free: the likeliest node is worth more than the third."""
        alone_ms = measures.draft_ms(1)
        if not alone_ms:
            return
        share = measures.draft_ms.per_row_ms / alone_ms
        self.rows = 4 if share < 0.05 else 3 if share < 0.2 else 2 if share < 0.5 else 1
        self.reasons["rows"] = f"{self.rows} nodes a draft run: a further one costs {share:.0%} of the first"

    def _choose_hints(self, measures: Measures) -> None:
        """Hints are tried, then kept if what they should gain on this link exceeds what the exits cost."""
        if not measures.hinted_forward_ms.known:
            self.hints = measures.forwards >= TRIAL_FORWARDS
            self.reasons["hints"] = (
                "on for a trial" if self.hints else "off until plain forwards are measured"
            )
            return
        if measures.hint_trust < 0.5:
            self.hints = False
            self.reasons["hints"] = f"off: only {measures.hint_trust:.0%} of what they promised came true"
            return
        rows = 4
        plain_ms, hinted_ms = measures.plain_forward_ms(rows), measures.hinted_forward_ms(rows)
        cost = hinted_ms / plain_ms - 1 if plain_ms else 0.0
        rtt_ms = measures.rtt_ms or 0.0
        gain = HINT_GAIN * max(0.0, 1 - rtt_ms / (2.5 * plain_ms)) if plain_ms else 0.0
        margin = 0.01 if self.hints else -0.01
        self.hints = gain + margin > cost
        self.reasons["hints"] = (
            f"{'on' if self.hints else 'off'}: worth about {gain:.1%} at {rtt_ms:.0f} ms round trip, "
            f"and exits cost {max(0.0, cost):.1%} of a forward"
        )

    def _choose_patience(self, measures: Measures) -> None:
        """Where the draft's answer to a verdict comes soon, a forward is better held for it than run with nothing."""
        forward_ms, rtt_ms = measures.forward_ms(1), measures.rtt_ms
        if not forward_ms or rtt_ms is None:
            return
        answer_ms = rtt_ms + 3 * measures.draft_ms(self.rows)
        share = answer_ms / forward_ms
        worth_it = share < (0.3 if self.patience_ms else 0.2)
        self.patience_ms = round(1.5 * answer_ms, 1) if worth_it else 0.0
        self.reasons["patience"] = (
            f"{'a forward waits up to ' + format(self.patience_ms, 'g') + ' ms' if worth_it else 'none'}: "
            f"the draft's answer to a verdict takes {share:.0%} of a forward"
        )
