"""The scheduler: which rows of which sessions the next forward runs. Pure.

Each ready session offers rows: the rest of its prompt, or its last committed token and the drafted nodes behind it.
A forward takes the most urgent sessions first, then the tenants and their devices in turns, so that a device with many
sessions gets no more than one with few. In each turn sessions that fill stand behind those whose edges wait.
Low-priority sessions come next, if there is room. Then it takes the likeliest nodes of all sessions, as long as they
raise the tokens expected of the forward by more than its cost. Tokens of a session whom others' nodes made slower than
plain decoding weigh more (`Standing`). Sessions whose edges are away come last: beside others each may run one row,
while these rows do not slow the forward down.

Rows that only some devices have beyond an equal share, of texts or of nodes, may slow the others down by a quarter at
most, and leave the others their equal shares, however urgent they are. A session that has waited for `max_wait_s` is
urgent when its device's turn comes, so none starves.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from edgespec.core.costs import least_worth
from edgespec.verifying.forward_room import Bound, Cost, ForwardRoom, rows_within
from edgespec.verifying.offer import Grant, Offer

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

SLOWED = 1.25
"""How many times as long as one without the greediest device a forward may take, unless equal shares take longer."""

UNNOTICED = 1.02
"""How many times as long a forward may take with the rows of sessions whose edges are away."""

LARGEST_SHARE = 0.75
"""Of a forward's nodes, for one device while others have some."""


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
    """Forms forwards."""

    limits: Limits = field(default_factory=Limits)
    cost: Cost = lambda rows, attended: 0.0
    roomy: bool = True
    """Whether one more likely node would have been worth its row in the last forward. Where not, the nodes that hints
    bring about would not be verified either."""
    _served: dict[Hashable, float] = field(default_factory=dict)

    def form(self, offers: Iterable[Offer], now_s: float, drafting_ms: float = 0.0) -> list[Grant]:
        """The next forward; empty only where nothing is offered. drafting_ms: all have waited this long while hosted
        drafts ran; rows beyond the equal shares have so much less."""
        offers = list(offers)
        self._update_devices({offer.device for offer in offers})
        present = [offer for offer in offers if not offer.away]
        forward = ForwardRoom(self.cost)
        granted = self._granted(forward, present or offers, now_s, drafting_ms)
        if present:
            granted += self._unnoticed(forward, [offer for offer in offers if offer.away])
        for offer, grant in granted:
            self._served[offer.device] += grant.rows + grant.nodes
        return [grant for _, grant in granted]

    def most_of_a_device(self, devices: int, least: int) -> int:
        """Sessions of one of these devices that are worth an offer, where none wants fewer rows than `least`: twice as
        many as have a row beside the others, since rows behind short texts cost less."""
        most = self.limits.rows
        equal = min(devices * least, most)
        if devices < 2:
            return most
        slowed_ms = SLOWED * self.cost((devices - 1) * least, None)
        return min(most, 2 * rows_within(slowed_ms, equal, most, lambda rows: self.cost(rows, None)))

    def _granted(
        self, forward: ForwardRoom, offers: Sequence[Offer], now_s: float, drafting_ms: float
    ) -> list[tuple[Offer, Grant]]:
        later = [offer for offer in offers if self._can_wait(offer, now_s)]
        now = [offer for offer in offers if not self._can_wait(offer, now_s)]
        ordered = [*self._in_order(now, now_s), *self._in_order(later, now_s)]
        in_time, fair = self._in_time(ordered), self._fair(offers, drafting_ms)
        share = fair.rows // len({offer.device for offer in offers}) if offers else 0
        granted = self._take(forward, ordered, in_time, fair, {offer.device: share for offer in now})
        fair_nodes = replace(fair, rows=self._equal_nodes(granted, forward.rows))
        self._add_nodes(forward, granted, [in_time, fair_nodes])
        return granted

    def _unnoticed(self, forward: ForwardRoom, away: Sequence[Offer]) -> list[tuple[Offer, Grant]]:
        """Of the sessions that are away and need one row, those that fit beside the granted rows."""
        bound = Bound(UNNOTICED * forward.milliseconds(), forward.rows)
        granted = []
        for offer in sorted((offer for offer in away if offer.rows == 1), key=lambda offer: offer.since_s):
            if forward.fits(offer.context, min(self.limits.rows, forward.rows + 1), [bound]):
                forward.add(1, offer.context)
                granted.append((offer, Grant(offer.session, 1)))
        return granted

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

    def _fair(self, offers: Sequence[Offer], drafting_ms: float) -> Bound:
        """Rows of texts where every device has as many as the one that wants fewest; and how long a forward may take
        with those of who wants more: `SLOWED` times as long as one with the equal shares of all but the greediest
        device. No bound where there is one device only."""
        most = max(self.limits.rows, self.limits.prefill_rows)
        wanted: Counter[Hashable] = Counter()
        attended: Counter[Hashable] = Counter()
        for offer in offers:
            wanted[offer.device] += offer.rows
            attended[offer.device] += offer.rows * offer.context
        if len(wanted) < 2:
            return Bound(math.inf, most)
        least = min(wanted.values())
        greediest = max(wanted, key=lambda device: (wanted[device], attended[device]))
        contexts = [attended[device] / wanted[device] for device in wanted if device != greediest]
        rows = min(len(contexts) * least, most)
        shared_ms = self.cost(rows, round(rows * sum(contexts) / len(contexts)))
        return Bound(SLOWED * shared_ms - drafting_ms, min(len(wanted) * least, most))

    def _equal_nodes(self, granted: Sequence[tuple[Offer, Grant]], rows: int) -> int:
        """The rows of a forward in which every device that waits for a verdict has as many nodes as the one that has
        fewest."""
        nodes: Counter[Hashable] = Counter()
        for offer, grant in granted:
            if grant.rows == offer.rows and not offer.away:
                nodes[offer.device] += len(offer.probabilities)
        return self.limits.rows if len(nodes) < 2 else rows + len(nodes) * min(nodes.values())

    def _in_time(self, offers: Sequence[Offer]) -> Bound:
        """A forward that keeps the tightest target of those that wait for a verdict; at least one row for each session
        whose target allows no other forward before its own."""
        targets = [o.latency_ms for o in offers if o.rows == 1 and o.latency_ms is not None]
        latency_ms = min(targets, default=math.inf)
        tight = sum(target < LOOSE * latency_ms for target in targets)
        return Bound(FORWARD_SHARE * latency_ms, tight + 1)

    def _take(
        self,
        forward: ForwardRoom,
        ordered: Sequence[Offer],
        in_time: Bound,
        fair: Bound,
        shares: dict[Hashable, int],
    ) -> list[tuple[Offer, Grant]]:
        """The text's rows of all sessions that fit; prompts in chunks that leave room for those that wait. shares: rows
        that each device has before any other has more. Of what keeps the targets, each device leaves a row to those
        without one: targets of one device, promised when forwards were faster, starve nobody."""
        limits = self.limits
        waits = any(offer.rows == 1 for offer in ordered)
        most, share = (limits.rows, limits.prefill_share) if waits else (limits.prefill_rows, 1.0)
        prompts, empty = 0, ForwardRoom(self.cost)
        granted = []
        unused, without = sum(shares.values()), set(shares)
        for offer in ordered:
            own = shares.get(offer.device, 0)
            others = unused - own
            beside_others = forward.fits(offer.context, forward.rows + offer.rows + others, [fair]) - others
            left = int(len(without) > (offer.device in without))
            room = forward.fits(offer.context, forward.rows + offer.rows + left, [in_time])
            in_all = max(room - left, min(room, int(offer.device in without)))
            rows = min(offer.rows, most - forward.rows, in_all, max(own, beside_others))
            if offer.rows > 1:
                chunk = max(1, int(share * empty.fits(offer.context, most, [in_time, fair])))
                rows = min(rows, chunk - prompts)
            if rows <= 0:
                continue
            granted.append((offer, Grant(offer.session, rows)))
            forward.add(rows, offer.context)
            without.discard(offer.device)
            prompts += rows if offer.rows > 1 else 0
            if own:
                shares[offer.device] = max(0, own - rows)
                unused -= own - shares[offer.device]
        return granted

    def _add_nodes(
        self, forward: ForwardRoom, granted: Sequence[tuple[Offer, Grant]], bounds: Sequence[Bound]
    ) -> None:
        """The likeliest nodes of all sessions, as they are weighed, while they are worth their rows and fit; of one
        device no more than `LARGEST_SHARE` of those that fit while others want some."""
        deciding = [(offer, grant) for offer, grant in granted if grant.rows == offer.rows]
        expected, plain_ms = float(len(deciding)), forward.milliseconds()
        weights = _weights([offer for offer, _ in deciding])
        most = self.limits.rows
        taken: Counter[Hashable] = Counter()
        share = math.ceil(LARGEST_SHARE * forward.fits(forward.context, most, bounds))
        left_out: list[tuple[float, int]] = []
        likeliest_without_room = 0.0
        frontier = [
            (-weights[i] * offer.probabilities[0], i)
            for i, (offer, _) in enumerate(deciding)
            if len(offer.probabilities)
        ]
        heapq.heapify(frontier)
        while frontier or left_out:
            if not frontier:  # what some devices do not need of their shares
                frontier, left_out, share = left_out, [], most
                heapq.heapify(frontier)
            probability, i = heapq.heappop(frontier)
            offer, grant = deciding[i]
            if not forward.fits(offer.context, min(forward.rows + 1, most), bounds):
                likeliest_without_room = max(likeliest_without_room, -probability)
                continue
            if taken[offer.device] >= share:
                left_out.append((probability, i))
                continue
            first = len(deciding) == 1 and not grant.nodes
            if not first and -probability < self._price(forward, offer.context, expected, len(deciding)):
                continue
            grant.nodes += 1
            taken[offer.device] += 1
            forward.add(1, offer.context)
            expected -= probability
            if grant.nodes < len(offer.probabilities):
                heapq.heappush(frontier, (-weights[i] * offer.probabilities[grant.nodes], i))
        price = self._price(forward, forward.context, expected, len(deciding))
        for weight, (_, grant) in zip(weights, deciding, strict=True):
            grant.price = min(1.0, max(price, likeliest_without_room) / weight)
            grant.slowed = forward.milliseconds() / plain_ms if plain_ms else 1.0
        self.roomy = forward.fits(forward.context, most, bounds) > 0 and price <= LIKELY

    def _price(self, forward: ForwardRoom, context: int, expected: float, sessions: int) -> float:
        """The least probability of a node behind `context` tokens that is worth a row of this forward."""
        least = least_worth(forward.milliseconds(), forward.milliseconds(1, context), expected)
        return least if sessions == 1 else NEIGHBOURS * least


def _weights(offers: Sequence[Offer]) -> list[float]:
    """Of a token of each session, 1 on average."""
    total = sum(offer.weight for offer in offers)
    return [len(offers) * offer.weight / total for offer in offers]


def _turns(offers: Iterable[Offer], holder: Callable[[Offer], Hashable]) -> list[int]:
    """Of each offer, the number of offers of the same holder before it."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for offer in offers:
        turns.append(seen[holder(offer)])
        seen[holder(offer)] += 1
    return turns
