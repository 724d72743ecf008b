"""`auto`: the default policy. It streams a draft tree and sets its width, depth and hints from what was measured, or
borrows the server's own draft where that is found faster.

Every choice comes with its reason in words (`reasons`, shown by --explain). It re-decides every few forwards; a
choice changes only when the measures speak clearly for it. `objective` says what it is after: the least time a token,
the fewest target forwards, or the least drafting on the edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgespec.errors import EdgespecError
from edgespec.speculation.borrowing import Borrowing
from edgespec.speculation.measures import Measures
from edgespec.speculation.policies import Stream
from edgespec.speculation.policy import View

DECIDE_EVERY = 8
"""Forwards between two decisions."""

PLAIN_FORWARDS, TRIAL_FORWARDS = 8, 3
"""Forwards without hints, and then with them, before their cost is judged: exits may be dear."""

HINT_GAIN, HINT_REACH = 0.05, 1.4
"""What hints gained at a round trip of nothing, in simulations of the bundled pair; it fades as round trips grow, to
nothing that is worth a hint's bytes at so many forwards."""

SEND_FLOORS = (0.02, 0.05)
"""The least chance of being committed that is worth sending, at a round trip of nothing and of a forward or more: the
longer the way, the likelier a thin branch is dead when it arrives. In between they are mixed."""

HINT_THRESHOLDS = (0.3, 0.7)
"""The least confidence of a hint that is worth sending, alike: the longer the way, the less a hint is ahead."""

LATE_FLOOR = 0.07
"""The least chance of being committed that is worth a frame of its own when it may just miss the next forward."""

SPARE_MS = 0.5
"""What is held back leaves so long before it would be too late."""

OBJECTIVES = ("latency", "cost", "energy")

ENERGY_FLOOR = 0.25
"""With the objective `energy`, the least chance of being committed that is worth drafting."""

TRIAL_RUNS, DEEP_SHARE = 3, 0.35
"""Runs of several levels before they are judged, and the share of as many runs' time that they may take: in simulations
four levels pay up to 0.4, since single runs choose better what they run on."""

LEAST_ACCEPTANCE = 0.08
"""A draft that is right less often is put to rest, and tried again later."""

REST_FORWARDS, PROBE_FORWARDS = 48, 8

CONGESTED, CONGESTED_FORWARDS = 4.0, 8.0
"""A round trip that has grown to so many times the shortest, and to so many forwards: the link is full."""


class Auto(Stream):
    """A `Stream` that tunes itself.

    objective: one of OBJECTIVES. budget: with `cost`, so many target forwards a token are allowed; None: the fewest.
    Raises EdgespecError for an objective that there is not, or a budget that is none.
    """

    name = "auto"

    def __init__(
        self, draft_tokens: int = 12, objective: str = "latency", budget: float | None = None
    ) -> None:
        if objective not in OBJECTIVES:
            raise EdgespecError(
                f"there is no objective {objective!r}: choose one of {', '.join(OBJECTIVES)}."
            )
        if budget is not None and not (objective == "cost" and 0 < budget <= 1):
            raise EdgespecError(
                "a budget is a number of target forwards a token, above 0 and up to 1, for `cost`."
            )
        super().__init__(draft_tokens, hints=False)
        self.objective = objective
        self.budget = budget
        if objective == "energy":
            self.floor = self.send_floor = ENERGY_FLOOR
            self.rows = self.alternatives = 1
        self._depth = self.depth
        self._rests_until = 0
        self._seen = (0, 0)
        self.reasons: dict[str, str] = {}
        self._decided_at = 0
        self._trial = False
        self._run_ms = 0.0
        self._least_rtt_ms = math.inf
        self._borrowing = Borrowing()

    def expand(self, view: View) -> Sequence[int]:
        return () if self.borrows else super().expand(view)

    def send(self, view: View) -> Sequence[int]:
        return () if self.borrows else super().send(view)

    def hold_ms(self, view: View, nodes: Sequence[int]) -> float:
        """Fewer frames: nodes wait for the next run's, or for the verdict that may end them, while all of that reaches
        the same forward; and thin ones where it is not known whether they reach it."""
        if self.patience_ms:
            return 0.0
        if view.slack_ms == 0:
            thin = all(view.tree.reach(node) < LATE_FLOOR for node in nodes)
            return math.inf if thin and view.in_flight else 0.0
        if view.slack_ms < 2 * SPARE_MS or (view.slack_ms <= self._run_ms and self.expand(view)):
            return 0.0
        return view.slack_ms - SPARE_MS

    def adapt(self, view: View, measures: Measures) -> None:
        self._run_ms = measures.draft_ms(self.rows)
        self._choose_drafter(measures)
        if self._is_congested(measures) or self.borrows:
            self.hints, self._trial, self.patience_ms = False, False, 0.0
            return
        tried = self._trial and measures.hinted_forward_ms.seen >= TRIAL_FORWARDS
        if not tried and measures.forwards < self._decided_at + DECIDE_EVERY:
            return
        self._decided_at = measures.forwards
        self._choose_depth(measures)
        self._choose_levels(measures)
        self._choose_rows(measures)
        self._choose_thresholds(measures)
        self._choose_hints(measures)
        self._choose_patience(measures)

    def _is_congested(self, measures: Measures) -> bool:
        """A link that cannot carry what goes over it: nothing is drafted or hinted for a while, as in `cloud`."""
        rtt_ms, forward_ms = measures.rtt_ms or 0.0, measures.forward_ms(1)
        self._least_rtt_ms = min(self._least_rtt_ms, rtt_ms or math.inf)
        full = rtt_ms > CONGESTED * self._least_rtt_ms and 0 < CONGESTED_FORWARDS * forward_ms < rtt_ms
        if full:
            self.depth, self._rests_until = 0, measures.forwards + REST_FORWARDS
            self.reasons["link"] = (
                f"the link is full: a round trip took {self._least_rtt_ms:.0f} ms and takes {rtt_ms:.0f} ms now, "
                "so nothing is drafted or hinted for a while"
            )
        elif measures.forwards >= self._rests_until:
            self.reasons.pop("link", None)
        return "link" in self.reasons

    def _choose_drafter(self, measures: Measures) -> None:
        """Where the server has a draft to lend, and its forwards are not to be spared."""
        if not measures.server_drafts or self.objective == "cost":
            self.borrows = False
            return
        self._borrowing.choose(measures)
        self.borrows = self._borrowing.borrows
        self.reasons["drafter"] = self._borrowing.reason

    def _choose_depth(self, measures: Measures) -> None:
        """A draft that is hardly ever right only warms the device: nothing is drafted, but for a trial now and then."""
        if self.depth == 0:
            if measures.forwards < self._rests_until:
                return
            self.depth, self._rests_until = self._depth, measures.forwards + PROBE_FORWARDS
        elif measures.acceptance < LEAST_ACCEPTANCE and measures.forwards >= self._rests_until:
            self.depth, self._rests_until = 0, measures.forwards + REST_FORWARDS
        self.reasons["depth"] = (
            f"drafts {'up to ' + str(self.depth) + ' tokens ahead' if self.depth else 'nothing'}: "
            f"the draft is right {measures.acceptance:.0%} of the time"
        )

    def _choose_levels(self, measures: Measures) -> None:
        """Several levels in one run, where they take much less than as many runs."""
        if measures.levels == 1 or not measures.draft_ms.known:
            return
        tried = measures.levels_ms.seen >= TRIAL_RUNS
        share = measures.levels_ms(1) / (measures.levels * measures.draft_ms(1)) if tried else 0.0
        self.deep = share < (DEEP_SHARE + 0.05 if self.deep else DEEP_SHARE)
        self.reasons["levels"] = f"{measures.levels if self.deep else 1} a draft run: " + (
            f"{measures.levels} in one run take {share:.0%} of as many runs" if tried else "on for a trial"
        )

    def _choose_rows(self, measures: Measures) -> None:
        """As many rows a run as come nearly for free: the likeliest node is worth more than the third."""
        if self.deep:
            self.rows = 1
            return
        alone_ms = measures.draft_ms(1)
        if not alone_ms or self.objective == "energy":
            return
        share = measures.draft_ms.per_row_ms / alone_ms
        self.rows = 4 if share < 0.05 else 3 if share < 0.2 else 2 if share < 0.5 else 1
        self.reasons["rows"] = f"{self.rows} nodes a draft run: a further one costs {share:.0%} of the first"

    def _choose_thresholds(self, measures: Measures) -> None:
        """What is worth its bytes: on a long way thin branches and doubtful hints mostly come too late."""
        forward_ms = measures.forward_ms(1)
        if not forward_ms or measures.rtt_ms is None:
            return
        way = min(1.0, measures.rtt_ms / forward_ms)
        self.send_floor = max(self.floor, _between(SEND_FLOORS, way))
        self.hint_threshold = round(_between(HINT_THRESHOLDS, way), 1)
        self.reasons["sending"] = (
            f"nodes of a chance of {self.send_floor:.0%} and hints of {self.hint_threshold:.0%} or more: "
            f"a round trip is {measures.rtt_ms / forward_ms:.1f} forwards"
        )

    def _choose_hints(self, measures: Measures) -> None:
        """Hints are tried, then kept if what they should gain on this link exceeds what the exits cost."""
        rows = 4
        plain_ms, hinted_ms = measures.plain_forward_ms(rows), measures.hinted_forward_ms(rows)
        rtt_ms = measures.rtt_ms or 0.0
        gain = HINT_GAIN * (1 - rtt_ms / (HINT_REACH * plain_ms)) if plain_ms else 0.0
        self._trial = False
        if plain_ms and gain <= 0:
            self.hints = False
            self.reasons["hints"] = f"off: too late after {rtt_ms / plain_ms:.1f} forwards of a round trip"
        elif not measures.hinted_forward_ms.known:
            self.hints = self._trial = measures.forwards >= PLAIN_FORWARDS
            self.reasons["hints"] = (
                "on for a trial" if self.hints else "off until plain forwards are measured"
            )
        elif measures.hint_trust < 0.5:
            self.hints = False
            self.reasons["hints"] = f"off: only {measures.hint_trust:.0%} of what they promised came true"
        else:
            cost = hinted_ms / plain_ms - 1 if plain_ms else 0.0
            self.hints = gain + (0.01 if self.hints else -0.01) > cost
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
        if self.objective == "cost" and self.depth:
            return self._spare_forwards(measures, answer_ms)
        share = answer_ms / forward_ms
        worth_it = share < (0.3 if self.patience_ms else 0.2)
        self.patience_ms = round(1.5 * answer_ms, 1) if worth_it else 0.0
        self.reasons["patience"] = (
            f"{'a forward waits up to ' + format(self.patience_ms, 'g') + ' ms' if worth_it else 'none'}: "
            f"the draft's answer to a verdict takes {share:.0%} of a forward"
        )

    def _spare_forwards(self, measures: Measures, answer_ms: float) -> None:
        """No forward runs before drafts are there, unless the budget allows for it."""
        forwards, committed = measures.forwards - self._seen[0], measures.committed - self._seen[1]
        self._seen = (measures.forwards, measures.committed)
        lately = forwards / committed if committed else 1.0
        within = self.budget is not None and lately < self.budget * (1.0 if self.patience_ms else 0.9)
        self.patience_ms = 0.0 if within else round(2 * answer_ms, 1)
        self.reasons["patience"] = (
            f"{'none' if within else 'a forward waits up to ' + format(self.patience_ms, 'g') + ' ms'}: "
            f"{lately:.2f} forwards a token lately"
        )


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


class AutoWithoutHints(Auto):
    """`auto` that never asks for hints: what it lacks is what they bring."""

    name = "auto-no-hints"

    def _choose_hints(self, measures: Measures) -> None:
        self.reasons["hints"] = "off: this mode asks for none"
