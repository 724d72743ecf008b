"""`auto`: the default policy. It streams a draft tree and sets its width and depth from what was measured, or uses the
server's own draft where that is faster. It asks for no hints: a tree that is always ahead gains less from them than
exits cost (`benchmarks.hint_worth`).

Every choice comes with its reason in words (`reasons`, shown by --explain). It decides again every few forwards, and
changes only on clear evidence. `objective` says what it minimises: the time a token, the target's forwards, or the
drafting on the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgespec.core.costs import least_worth
from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.drafting.drafter_choice import DrafterChoice
from edgespec.drafting.full_link import FullLink
from edgespec.drafting.policies import STREAM_OPTIONS, Stream
from edgespec.drafting.speculator import Speculator

DECIDE_EVERY = 8
"""Forwards between two decisions."""

FLOOR, NODE_MS = 0.005, 0.03
"""The least probability of being committed that is worth drafting and sending where rows are cheap; and what a node
costs on its way, in messages and in both trees, which makes it more where forwards are short."""

LATE_FLOOR = 0.07
"""The least probability of being committed that is worth a frame of its own when it may just miss the next forward."""

SPARE_MS, SPARE_SHARE = 0.5, 0.15
"""What is held back is sent this long before it would be too late, and no less than this share of a forward: forwards
differ in length with their rows, and what misses one waits for a whole one more."""

FORWARDS_AHEAD = 4.0
"""In which a node may still become worth its row at a busy server. With fewer, sessions at a server whose rows are dear
get slower (simulated); with more, they send nodes that are never verified."""

OBJECTIVES = ("latency", "cost", "energy")

ENERGY_FLOOR = 0.25
"""With the objective `energy`, the least probability of being committed that is worth drafting."""

LEAST_ACCEPTANCE, WORTHWHILE_ACCEPTANCE = 0.08, 0.25
"""A draft that is right less often rests, and is tried again later. It must also be certain that it is right less often
than the second figure: a few unlucky draws are no reason."""

MOST_ROWS = 6
"""Of a run of the draft."""

ANSWER_ROWS = 2
"""Of each of the first runs after a verdict, on average: little is there to draft behind."""

REST_FORWARDS, PROBE_FORWARDS = 48, 8


class Auto(Stream):
    """A `Stream` that tunes itself.

    objective: one of OBJECTIVES. budget: with `cost`, the target forwards a token that are allowed; None: the fewest.
    Raises EdgespecError for an unknown objective or a budget that makes no sense.
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
        super().__init__(
            draft_tokens,
            floor=FLOOR,
            options=replace(STREAM_OPTIONS, hint_threshold=None, low_priority=objective == "cost"),
        )
        self.objective = objective
        self.budget = budget
        if objective == "energy":
            self.floor = self.send_floor = ENERGY_FLOOR
            self.rows = self.alternatives = 1
        self._depth, self._floor = self.depth, self.floor
        self._rests_until = 0
        self._seen = (0, 0)
        self.reasons: dict[str, str] = {}
        self._decided_at = 0
        self._run_ms, self._spare_ms = 0.0, SPARE_MS
        self._link = FullLink()
        self._drafter_choice = DrafterChoice()

    def expand(self, view: Speculator) -> Sequence[int]:
        return () if self._server_drafts else super().expand(view)

    def send(self, view: Speculator) -> Sequence[int]:
        return () if self._server_drafts else super().send(view)

    @property
    def _server_drafts(self) -> bool:
        return self.options.server_draft == "lent"

    def _ask(self, **changes: Any) -> None:
        self.options = replace(self.options, **changes)

    def hold_ms(self, view: Speculator, nodes: Sequence[int]) -> float:
        """Fewer frames: nodes wait for those of the next run, or for a verdict that may drop them, as long as they
        still reach the same forward. Unlikely nodes also wait where that is not known."""
        if self.options.max_wait_ms:
            return 0.0
        if view.slack_ms == 0:
            thin = all(view.tree[node].path_probability < LATE_FLOOR for node in nodes)
            return math.inf if thin and view.in_flight else 0.0
        if view.slack_ms < 2 * self._spare_ms or (view.slack_ms <= self._run_ms and self.expand(view)):
            return 0.0
        return view.slack_ms - self._spare_ms

    def adapt(self, view: Speculator, measurements: Measurements) -> None:
        self._run_ms = measurements.draft_ms(self.rows)
        self._spare_ms = max(SPARE_MS, SPARE_SHARE * measurements.forward_ms(1))
        self._choose_drafter(measurements)
        if self._is_congested(measurements) or self._server_drafts:
            self._ask(max_wait_ms=0.0)
            return
        if measurements.forwards < self._decided_at + DECIDE_EVERY:
            return
        self._decided_at = measurements.forwards
        self._choose_depth(measurements)
        self._choose_rows(measurements)
        self._choose_thresholds(measurements)
        self._choose_max_wait(measurements)

    def _is_congested(self, measurements: Measurements) -> bool:
        """Whether the link cannot carry what goes over it: nothing is drafted for a while, as in `cloud`."""
        if self._link.update(measurements, REST_FORWARDS):
            self.depth, self._rests_until = 0, self._link.rests_until
            self.reasons["link"] = self._link.reason
        else:
            self.reasons.pop("link", None)
        return "link" in self.reasons

    def _choose_drafter(self, measurements: Measurements) -> None:
        """The server may draft where it hosts a draft, unless its forwards are to be saved."""
        if not measurements.server_drafts or self.objective == "cost":
            self._ask(server_draft="off")
            return
        self._drafter_choice.update(measurements)
        self._ask(server_draft="lent" if self._drafter_choice.server_drafts else "off")
        self.reasons["drafter"] = self._drafter_choice.reason

    def _choose_depth(self, measurements: Measurements) -> None:
        """A draft that is hardly ever right rests, but for a trial now and then."""
        best = measurements.calibration_ratios.best
        if self.depth == 0:
            if measurements.forwards < self._rests_until:
                return
            self.depth, self._rests_until = self._depth, measurements.forwards + PROBE_FORWARDS
        elif (
            best.share < LEAST_ACCEPTANCE
            and best.most_share < WORTHWHILE_ACCEPTANCE
            and measurements.forwards >= self._rests_until
        ):
            self.depth, self._rests_until = 0, measurements.forwards + REST_FORWARDS
        self.reasons["depth"] = (
            f"drafts {'up to ' + str(self.depth) + ' tokens ahead' if self.depth else 'nothing'}: "
            f"the draft is right {best.share:.0%} of the time"
        )

    def _choose_rows(self, measurements: Measurements) -> None:
        """Each run takes the nodes that are worth their time (`least_worth`), up to MOST_ROWS."""
        alone_ms = measurements.draft_ms(1)
        if not alone_ms or self.objective == "energy":
            return
        self.draft_ms, self.rows = measurements.draft_ms, MOST_ROWS
        share = measurements.draft_ms.per_row_ms / alone_ms
        self.reasons["rows"] = (
            f"up to {MOST_ROWS} nodes a draft run, those worth their time: a further one costs {share:.0%} of the first"
        )

    def _choose_thresholds(self, measurements: Measurements) -> None:
        """What is worth drafting and sending at the server's price of a row."""
        forward_ms = measurements.forward_ms(1)
        if not forward_ms or measurements.rtt_ms is None:
            return
        round_trip = measurements.rtt_ms / forward_ms
        price = _price_ahead(measurements.row_price, round_trip)
        tokens = measurements.committed / max(1, measurements.forwards)
        carried = least_worth(forward_ms, forward_ms + NODE_MS, tokens)
        self.floor = self.send_floor = max(self._floor, carried, price)
        self.reasons["sending"] = (
            f"nodes of a probability of {self.send_floor:.1%} or more: "
            f"a round trip is {round_trip:.1f} forwards, and the server gives rows to nodes of "
            f"{measurements.row_price:.0%} or more"
        )

    def _choose_max_wait(self, measurements: Measurements) -> None:
        """Where the draft's answer to a verdict comes soon, a forward had better wait for it than run with nothing."""
        forward_ms, rtt_ms = measurements.forward_ms(1), measurements.rtt_ms
        if not forward_ms or rtt_ms is None:
            return
        answer_ms = rtt_ms + measurements.jitter_ms + 3 * measurements.draft_ms(ANSWER_ROWS)
        if self.objective == "cost" and self.depth:
            return self._spare_forwards(measurements, answer_ms)
        share = answer_ms / forward_ms
        worth_it = share < (0.3 if self.options.max_wait_ms else 0.2)
        self._ask(max_wait_ms=round(1.5 * answer_ms, 1) if worth_it else 0.0)
        self.reasons["max_wait"] = (
            f"{'a forward waits up to ' + format(self.options.max_wait_ms, 'g') + ' ms' if worth_it else 'none'}: "
            f"the draft's answer to a verdict takes {share:.0%} of a forward"
        )

    def _spare_forwards(self, measurements: Measurements, answer_ms: float) -> None:
        """No forward runs before drafts are there, unless the budget allows for it."""
        forwards, committed = measurements.forwards - self._seen[0], measurements.committed - self._seen[1]
        self._seen = (measurements.forwards, measurements.committed)
        lately = forwards / committed if committed else 1.0
        within = self.budget is not None and lately < self.budget * (1.0 if self.options.max_wait_ms else 0.9)
        self._ask(max_wait_ms=0.0 if within else round(2 * answer_ms, 1))
        self.reasons["max_wait"] = (
            f"{'none' if within else 'a forward waits up to ' + format(self.options.max_wait_ms, 'g') + ' ms'}: "
            f"{lately:.2f} forwards a token lately"
        )


def _price_ahead(row_price: float, round_trip: float) -> float:
    """The least probability of being committed with which a node may yet be worth its row. round_trip: in forwards.

    A node that is not worth a row now may be later: each forward that commits its ancestors raises what is left of its
    path. Nodes are verified down to the price in a forward, so what survives it gains by a factor of 1 / price at most;
    that happens in each forward until the node arrives, and in FORWARDS_AHEAD more.
    """
    return float(row_price ** (FORWARDS_AHEAD + round_trip))
