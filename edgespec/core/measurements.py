"""What a session has measured so far: costs, delays, and how often its probabilities came true. Pure."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace

from edgespec.core.calibration_ratios import CalibrationRatios
from edgespec.core.costs import LinearCost, TokenTime
from edgespec.core.lookup import LookupRates

CLOCK_MS = 2**32 / 1e3
"""When the server's clock, 32 bits of microseconds, begins again."""


class ForwardClock:
    """When the server's forwards begin, as the edge sees it: how long a block may wait for more nodes.

    A server that never waits begins a forward when the last one ends; a verdict brings the server's clock of that
    moment. What is sent reaches only the forward that begins after it arrives, so all that is in time for the same one
    may go in one frame. How the two clocks differ is learnt from the verdicts that came soonest after they were sent.
    """

    _LARGEST_DEVIATION = 0.2

    def __init__(self) -> None:
        self._clock_ms: float | None = None
        self._offset_ms = 0.0
        self._forward_ms = 0.0
        self._deviation_ms = 0.0

    def verdict(self, now_ms: float, clock_ms: float, forward_ms: float) -> None:
        """A verdict is looked at now; its forward took so long, and ended at the server's `clock_ms` (which wraps)."""
        if self._clock_ms is None:
            self._offset_ms, self._forward_ms = now_ms - clock_ms, forward_ms
        else:
            passed_ms = (clock_ms - self._clock_ms) % CLOCK_MS
            clock_ms = self._clock_ms + passed_ms
            later_ms = now_ms - clock_ms - self._offset_ms
            self._offset_ms += later_ms if later_ms < 0 else 0.02 * later_ms
            self._forward_ms += 0.2 * (forward_ms - self._forward_ms)
            self._deviation_ms += 0.2 * (abs(passed_ms - forward_ms) - self._deviation_ms)
        self._clock_ms = clock_ms

    def slack_ms(self, now_ms: float, rtt_ms: float, jitter_ms: float = 0.0) -> float:
        """How long sending may wait and still be in time for the forward that it would be in time for now.

        0 when that is not known well: before the first verdict, when forwards come irregularly, and close to the end.
        """
        period_ms, deviation_ms = self._forward_ms, self._deviation_ms
        if self._clock_ms is None or not 0 <= deviation_ms <= self._LARGEST_DEVIATION * period_ms:
            return 0.0
        began_ms = self._clock_ms + self._offset_ms - rtt_ms
        margin_ms = 0.5 + 0.05 * period_ms + 2 * deviation_ms + 2 * jitter_ms
        return max(0.0, period_ms - (now_ms - began_ms) % period_ms - margin_ms) if period_ms else 0.0


PRICE_WEIGHT = 0.2
"""Of the newest price: forwards differ in who takes part in them."""

USUAL_DRAFT_ROW_SHARE = 0.1
"""What a further row adds to a run of a small draft, while too few runs were seen to tell."""


@dataclass
class Measurements:
    """What `auto` decides from. Times in milliseconds; None or 0 where nothing was measured yet."""

    rtt_ms: float | None = None
    jitter_ms: float = 0.0
    draft_ms: LinearCost = field(default_factory=lambda: LinearCost(usual_row_share=USUAL_DRAFT_ROW_SHARE))
    forward_ms: LinearCost = field(default_factory=LinearCost)
    row_price: float = 0.0
    """Of the server's rows lately: the least probability with which a node was worth one."""
    clock: ForwardClock = field(default_factory=ForwardClock)
    forwards: int = 0
    committed: int = 0
    calibration_ratios: CalibrationRatios = field(default_factory=CalibrationRatios)
    lookup_rates: LookupRates = field(default_factory=LookupRates)
    server_drafts: bool = False
    own_draft_token_ms: TokenTime = field(default_factory=TokenTime)
    server_draft_token_ms: TokenTime = field(default_factory=TokenTime)

    def handed_on(self) -> Measurements:
        """What a next session on the same link and engines starts from; when forwards begin it learns anew."""
        copy = replace(deepcopy(self), clock=ForwardClock())
        copy.calibration_ratios.hints.forgive()
        return copy

    def observe_link(self, rtt_ms: float | None, jitter_ms: float, server_drafts: bool) -> None:
        """The link's figures of now, and whether the server hosts a draft."""
        self.rtt_ms, self.jitter_ms, self.server_drafts = rtt_ms, jitter_ms, server_drafts

    def observe_forward(
        self, rows: int, milliseconds: float, tokens: int, row_price: float = 0.0, settled: bool = True
    ) -> None:
        """A verdict came: its forward verified `rows` drafted nodes, at this price, and committed `tokens` tokens.

        settled: False where the server has just been told otherwise, so that its time tells nothing of the next ones.
        """
        if settled:
            self.forward_ms.observe(rows + 1, milliseconds)
        self.row_price += PRICE_WEIGHT * (row_price - self.row_price)
        self.forwards += 1
        self.committed += tokens

    def observe_tokens(self, tokens: int, milliseconds: float, server_draft: bool) -> None:
        """Tokens were committed from one forward's end to the next's, with drafts of the edge or of the server."""
        token_ms = self.server_draft_token_ms if server_draft else self.own_draft_token_ms
        token_ms.observe(tokens, milliseconds, self.forwards)

    def slack_ms(self, now_ms: float) -> float:
        """How long a block may wait: see `ForwardClock.slack_ms`."""
        return 0.0 if self.rtt_ms is None else self.clock.slack_ms(now_ms, self.rtt_ms, self.jitter_ms)
