"""What a session has measured so far: costs, delays, and how often its probabilities came true. Pure."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace


class LinearCost:
    """Milliseconds of a run by its rows: a line fitted to what was seen, the newest weighing most.

    `decay`: how much of an observation's weight is left after the next one.
    """

    def __init__(self, decay: float = 0.97) -> None:
        self._decay = decay
        self._weight = self._rows = self._ms = self._rows_rows = self._rows_ms = 0.0
        self.seen = 0

    @property
    def known(self) -> bool:
        return self.seen > 0

    def observe(self, rows: int, milliseconds: float) -> None:
        self.seen += 1
        decay = self._decay
        self._weight = self._weight * decay + 1.0
        self._rows = self._rows * decay + rows
        self._ms = self._ms * decay + milliseconds
        self._rows_rows = self._rows_rows * decay + rows * rows
        self._rows_ms = self._rows_ms * decay + rows * milliseconds

    @property
    def per_row_ms(self) -> float:
        """What one row more costs; 0 where all runs seen had about the same rows."""
        spread = self._weight * self._rows_rows - self._rows**2
        if spread <= 1e-3 * self._weight**2:
            return 0.0
        return max(0.0, (self._weight * self._rows_ms - self._rows * self._ms) / spread)

    def __call__(self, rows: int) -> float:
        """The expected milliseconds of a run of `rows` rows; 0 when nothing was seen yet."""
        if not self.known:
            return 0.0
        mean_rows, mean_ms = self._rows / self._weight, self._ms / self._weight
        return max(0.1 * mean_ms, mean_ms + self.per_row_ms * (rows - mean_rows))


class CalibrationRatio:
    """How often predictions came true, divided by how often their probabilities said they would.

    It corrects a calibration that does not fit this text. It starts at 1 and follows about the last hundred
    observations.
    """

    _DECAY = 0.99
    _LEAST_PRIOR = 1.0

    def __init__(self, prior: float = 15.0) -> None:
        self._first_prior = self._prior = prior
        self._foretold = 0.0
        self._true = 0.0
        self._count = 0.0

    def observe(self, probability: float, came_true: bool) -> None:
        self._foretold = self._foretold * self._DECAY + probability
        self._true = self._true * self._DECAY + came_true
        self._count = self._count * self._DECAY + 1
        self._prior = max(self._LEAST_PRIOR, self._prior * self._DECAY)

    @property
    def share(self) -> float:
        """How often it came true, lately; one half while nothing was observed."""
        return (self._true + 0.5) / (self._count + 1.0)

    @property
    def ratio(self) -> float:
        return (self._true + self._prior) / (self._foretold + self._prior)

    def corrected(self, probability: float) -> float:
        return min(0.995, probability * self.ratio)

    def forgive(self) -> None:
        """Keep a quarter of what was observed, and trust the calibration as at first."""
        self._foretold, self._true, self._count = self._foretold / 4, self._true / 4, self._count / 4
        self._prior = self._first_prior


HINT_PRIOR = 5.0
"""Small, so that hints that never come true are found out within a few forwards."""


@dataclass
class CalibrationRatios:
    """Of the draft's best choices, of its other choices, and of hints."""

    best: CalibrationRatio = field(default_factory=CalibrationRatio)
    others: CalibrationRatio = field(default_factory=CalibrationRatio)
    hints: CalibrationRatio = field(default_factory=lambda: CalibrationRatio(HINT_PRIOR))


class TokenTime:
    """Milliseconds a token at the server, over about the last twenty forwards. seen: how many forwards were observed;
    last_forward: the number of the newest of them."""

    _DECAY = 0.95

    def __init__(self) -> None:
        self._tokens = self._ms = 0.0
        self.seen = self.last_forward = 0

    def observe(self, tokens: int, milliseconds: float, forward: int) -> None:
        self.seen += 1
        self.last_forward = forward
        self._tokens = self._tokens * self._DECAY + tokens
        self._ms = self._ms * self._DECAY + milliseconds

    def __call__(self) -> float:
        """0 when nothing was seen yet."""
        return self._ms / self._tokens if self._tokens else 0.0


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


@dataclass
class Measurements:
    """What `auto` decides from. Times in milliseconds; None or 0 where nothing was measured yet."""

    rtt_ms: float | None = None
    jitter_ms: float = 0.0
    draft_ms: LinearCost = field(default_factory=LinearCost)
    plain_forward_ms: LinearCost = field(default_factory=LinearCost)
    hinted_forward_ms: LinearCost = field(default_factory=LinearCost)
    clock: ForwardClock = field(default_factory=ForwardClock)
    forwards: int = 0
    committed: int = 0
    calibration_ratios: CalibrationRatios = field(default_factory=CalibrationRatios)
    hint_calibration_ratio: float = 1.0
    acceptance: float = 0.5
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

    def observe_forward(self, rows: int, milliseconds: float, hints: bool | None, tokens: int) -> None:
        """A verdict came: its forward verified `rows` drafted nodes and committed `tokens` tokens.

        hints: exits ran in it; None: that is not known, since the server has just been told otherwise.
        """
        if hints is not None:
            (self.hinted_forward_ms if hints else self.plain_forward_ms).observe(rows + 1, milliseconds)
        self.forwards += 1
        self.committed += tokens

    def observe_tokens(self, tokens: int, milliseconds: float, server_draft: bool) -> None:
        """Tokens were committed from one forward's end to the next's, with drafts of the edge or of the server."""
        token_ms = self.server_draft_token_ms if server_draft else self.own_draft_token_ms
        token_ms.observe(tokens, milliseconds, self.forwards)

    def slack_ms(self, now_ms: float) -> float:
        """How long a block may wait: see `ForwardClock.slack_ms`."""
        return 0.0 if self.rtt_ms is None else self.clock.slack_ms(now_ms, self.rtt_ms, self.jitter_ms)

    @property
    def forward_ms(self) -> LinearCost:
        return self.plain_forward_ms if self.plain_forward_ms.known else self.hinted_forward_ms
