"""The scheduler: which rows of which sessions the next forward runs. Pure.

Each ready session offers rows: the rest of its prompt, or its last committed token and the drafted nodes behind it.
A forward takes the most urgent sessions first, then the tenants and their devices in turns, so that a device with many
sessions gets no more than one with few. In each turn sessions that fill stand behind those whose edges wait.
Low-priority sessions come next, if there is room. Then it takes the likeliest nodes of all sessions, as long as they
raise the tokens expected of the forward by more than its cost.

Rows of texts that only some devices have beyond an equal share may slow the others down by a third at most. A session
that has waited for `max_wait_s` is urgent when its device's turn comes, so none starves.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from edgespec.core.costs import least_worth

LIKELY = 0.5
"""The probability of a node that a draft is about to bring."""

NEIGHBOURS = 1.15
"""Times its worth that a node must bring where others share the forward: who has no nodes in it waits for those of the
others, and should not be slower than with nobody drafting. At 32 sessions this costs 1 % on average, and gives the
slowest 1 to 2 % (simulated)."""

LOOSE = 2.0
"""Sessions whose latency target is at least this many times the tightest one waiting run every second forward."""

FORWARD_SHARE = 0.8
"""How much of a session's latency target a forward may take; the rest is for the loop and the link."""

SLOWED = 1.35
"""How many times as long as one without the greediest device a forward may take, unless equal shares take longer."""

LARGEST_SHARE = 0.75
"""Of a forward's nodes, for one device while others have some."""


@dataclass(frozen=True)
class Offer:
    """What a session could run. rows: tokens of its text that must run before anything is decided, 1 or more (many: a
    prompt, which may be taken in chunks). since_s: when it became ready. probabilities: of its drafted nodes to be
    committed, parents first, falling. latency_ms: its target for a token, None for none. low_priority: it runs in the
    room that others leave. fills: no edge waits for it. tenant: whose device it is; None: its own."""

    session: int
    device: Hashable
    rows: int
    since_s: float
    probabilities: Sequence[float] = ()
    latency_ms: float | None = None
    low_priority: bool = False
    tenant: Hashable = None
    fills: bool = False


@dataclass
class Grant:
    """How many rows of its text, and how many of its nodes, a session may run in the next forward."""

    session: int
    rows: int
    nodes: int = 0


@dataclass(frozen=True)
class Limits:
    """rows: of a forward in which a session waits for a verdict; prefill_rows: of one that only reads prompts;
    prefill_share: how much of `rows` prompts may take meanwhile; max_wait_s: after which a session becomes urgent."""

    rows: int = 64
    prefill_rows: int = 256
    prefill_share: float = 0.5
    max_wait_s: float = 1.0


@dataclass
class Scheduler:
    """Forms forwards. cost: milliseconds of a forward by its rows, 0 while nothing is known."""

    limits: Limits = field(default_factory=Limits)
    cost: Callable[[int], float] = lambda rows: 0.0
    roomy: bool = True
    """Whether one more likely node would have been worth its row in the last forward. Where not, the nodes that hints
    bring about would not be verified either."""
    row_price: float = 0.0
    """Of the last forward: the least probability with which one more node would have been worth its row."""
    _served: dict[Hashable, float] = field(default_factory=dict)

    def form(self, offers: Iterable[Offer], now_s: float) -> list[Grant]:
        """The next forward; empty only where nothing is offered."""
        offers = list(offers)
        self._update_devices({offer.device for offer in offers})
        later = [offer for offer in offers if self._can_wait(offer, now_s)]
        now = [offer for offer in offers if not self._can_wait(offer, now_s)]
        ordered = [*self._in_order(now, now_s), *self._in_order(later, now_s)]
        rows = self._rows_in_time(ordered)
        granted = self._take(ordered, rows, self._fair_rows(offers))
        self._add_nodes(granted, rows)
        for offer, grant in granted:
            self._served[offer.device] += grant.rows + grant.nodes
        return [grant for _, grant in granted]

    def _can_wait(self, offer: Offer, now_s: float) -> bool:
        return offer.low_priority and now_s - offer.since_s < self.limits.max_wait_s

    def _update_devices(self, devices: set[Hashable]) -> None:
        """Forget devices that offer nothing; a new one starts level with the one that was served least."""
        least = min((rows for device, rows in self._served.items() if device in devices), default=0.0)
        self._served = {device: max(self._served.get(device, least), least) for device in devices}

    def _in_order(self, offers: Sequence[Offer], now_s: float) -> list[Offer]:
        """The earliest deadline first; then the devices in turns, the least served first of those that wait, then of
        those that fill. So the first session of a device that fills goes before the second one of any other."""
        if len(offers) < 2:
            return list(offers)

        def deadline_s(offer: Offer, turn: int) -> float:
            if offer.latency_ms is not None:
                return offer.since_s + min(offer.latency_ms / 1e3, self.limits.max_wait_s)
            overdue = turn == 0 and now_s - offer.since_s >= self.limits.max_wait_s
            return offer.since_s + self.limits.max_wait_s if overdue else math.inf

        by_age = sorted(offers, key=lambda offer: offer.since_s)
        of_device = _turns(by_age, lambda offer: offer.device)
        by_device = sorted(
            zip(by_age, of_device, strict=True),
            key=lambda one: (one[1], one[0].fills, self._served[one[0].device], one[0].since_s),
        )
        in_turns = [offer for offer, _ in by_device]
        of_tenant = _turns(in_turns, lambda offer: offer.device if offer.tenant is None else offer.tenant)
        keys = [
            (deadline_s(offer, max(own, turn)), turn, offer.fills, self._served[offer.device], offer.since_s)
            for (offer, own), turn in zip(by_device, of_tenant, strict=True)
        ]
        return [in_turns[i] for i in sorted(range(len(keys)), key=lambda i: keys[i])]

    def _fair_rows(self, offers: Sequence[Offer]) -> int:
        """Rows of texts that a forward may take. Every device may have as many as the one that wants fewest. Who wants
        more has them while the forward takes no more than `SLOWED` times as long as it would without that device's
        equal share. No bound where there is one device only."""
        most = max(self.limits.rows, self.limits.prefill_rows)
        wanted: Counter[Hashable] = Counter()
        for offer in offers:
            wanted[offer.device] += offer.rows
        if len(wanted) < 2:
            return most
        least = min(wanted.values())
        equal = min(len(wanted) * least, most)
        allowed_ms = SLOWED * self.cost(min((len(wanted) - 1) * least, most))
        return equal + bisect_right(range(equal, most), allowed_ms, key=lambda rows: self.cost(rows + 1))

    def _rows_in_time(self, offers: Sequence[Offer]) -> int:
        """Rows of a forward that keeps the tightest target of those that wait for a verdict; at least one for each
        session whose target allows no other forward before its own."""
        targets = [o.latency_ms for o in offers if o.rows == 1 and o.latency_ms is not None]
        latency_ms = min(targets, default=math.inf)
        tight = sum(target < LOOSE * latency_ms for target in targets)
        least, most = min(tight + 1, self.limits.rows), self.limits.rows
        if self.cost(most) <= FORWARD_SHARE * latency_ms:
            return most
        beyond = range(least, most)
        return least + bisect_right(beyond, FORWARD_SHARE * latency_ms, key=lambda rows: self.cost(rows + 1))

    def _take(self, ordered: Sequence[Offer], most: int, fair: int) -> list[tuple[Offer, Grant]]:
        """The text's rows of all sessions that fit; prompts in chunks that leave room for those that wait."""
        limits = self.limits
        verdicts = sum(offer.rows == 1 for offer in ordered)
        room = min(fair, most if verdicts else limits.prefill_rows)
        prompts = max(1, int(room * limits.prefill_share)) if verdicts else room
        granted = []
        for offer in ordered:
            rows = min(offer.rows, room) if offer.rows == 1 else min(offer.rows, room, prompts)
            if rows <= 0:
                continue
            granted.append((offer, Grant(offer.session, rows)))
            room -= rows
            prompts -= rows if offer.rows > 1 else 0
        return granted

    def _add_nodes(self, granted: Sequence[tuple[Offer, Grant]], most: int) -> None:
        """The likeliest nodes of all sessions, while they are worth their rows, up to `most` rows in all; of one device
        no more than `LARGEST_SHARE` of these while others want some."""
        rows = sum(grant.rows for _, grant in granted)
        taken: Counter[Hashable] = Counter()
        share = math.ceil(LARGEST_SHARE * (most - rows))
        left_out: list[tuple[float, int]] = []
        deciding = [(offer, grant) for offer, grant in granted if grant.rows == offer.rows]
        expected = float(len(deciding))
        frontier = [
            (-offer.probabilities[0], i) for i, (offer, _) in enumerate(deciding) if len(offer.probabilities)
        ]
        heapq.heapify(frontier)
        while rows < most and (frontier or left_out):
            if not frontier:  # what some devices do not need of their shares
                frontier, left_out, share = left_out, [], most
                heapq.heapify(frontier)
            probability, i = heapq.heappop(frontier)
            offer, grant = deciding[i]
            if taken[offer.device] >= share:
                left_out.append((probability, i))
                continue
            first = len(deciding) == 1 and not grant.nodes
            if not first and -probability < self._price(rows, expected, len(deciding)):
                if not left_out:
                    break
                frontier = []
                continue
            grant.nodes += 1
            taken[offer.device] += 1
            rows += 1
            expected -= probability
            if grant.nodes < len(offer.probabilities):
                heapq.heappush(frontier, (-offer.probabilities[grant.nodes], i))
        price = self._price(rows, expected, len(deciding))
        if rows >= most:  # nodes are left over: the likeliest of them was not likely enough
            price = max([price, *(-probability for probability, _ in frontier)])
        self.row_price = min(1.0, price)
        self.roomy = rows < most and price <= LIKELY

    def _price(self, rows: int, expected: float, sessions: int) -> float:
        """The least probability of a node that is worth one more row than `rows`."""
        least = least_worth(self.cost(rows), self.cost(rows + 1), expected)
        return least if sessions == 1 else NEIGHBOURS * least


def _turns(offers: Iterable[Offer], holder: Callable[[Offer], Hashable]) -> list[int]:
    """Of each offer, the number of offers of the same holder before it."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for offer in offers:
        turns.append(seen[holder(offer)])
        seen[holder(offer)] += 1
    return turns
