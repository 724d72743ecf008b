"""The scheduler: which rows of which sessions the next forward runs. Pure.

Each ready session offers rows: the rest of its prompt, or its last committed token and the drafted nodes behind it.
A forward takes the most urgent sessions first, then the devices in turns, so that a device with many sessions gets no
more than one with few. Fill and low-priority sessions come next, if there is room. Then it takes the likeliest nodes
of all sessions, as long as they raise the tokens expected of the forward by more than its cost. A session that has
waited for `max_wait_s` is urgent, so none starves.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

LIKELY = 0.5
"""The probability of a node that a draft is about to bring."""

LOOSE = 2.0
"""Sessions whose latency target is at least this many times the tightest one waiting run every second forward."""

FORWARD_SHARE = 0.8
"""How much of a session's latency target a forward may take; the rest is for the loop and the link."""


@dataclass(frozen=True)
class Offer:
    """What a session could run. rows: tokens of its text that must run before anything is decided, 1 or more (many: a
    prompt, which may be taken in chunks). since_s: when it became ready. probabilities: of its drafted nodes to be
    committed, parents first, falling. latency_ms: its target for a token, None for none. low_priority: it runs in the
    room that others leave, as fill does."""

    session: int
    device: Hashable
    rows: int
    since_s: float
    probabilities: Sequence[float] = ()
    latency_ms: float | None = None
    low_priority: bool = False


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
    _served: dict[Hashable, float] = field(default_factory=dict)

    def form(self, offers: Iterable[Offer], now_s: float) -> list[Grant]:
        """The next forward; empty only where nothing is offered."""
        offers = list(offers)
        self._update_devices({offer.device for offer in offers})
        later = [offer for offer in offers if self._can_wait(offer, now_s)]
        now = [offer for offer in offers if not self._can_wait(offer, now_s)]
        ordered = [*self._in_order(now, now_s), *self._in_order(later, now_s)]
        rows = self._rows_in_time(ordered)
        granted = self._take(ordered, rows)
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
        """The earliest deadline first; then the devices in turns, the least served first."""
        if len(offers) < 2:
            return list(offers)

        def deadline_s(offer: Offer) -> float:
            if offer.latency_ms is not None:
                return offer.since_s + min(offer.latency_ms / 1e3, self.limits.max_wait_s)
            overdue = now_s - offer.since_s >= self.limits.max_wait_s
            return offer.since_s + self.limits.max_wait_s if overdue else math.inf

        turns: dict[Hashable, int] = {}
        keys: list[tuple[float, int, float, float]] = []
        by_age = sorted(offers, key=lambda offer: offer.since_s)
        for offer in by_age:
            turn = turns[offer.device] = turns.get(offer.device, -1) + 1
            keys.append((deadline_s(offer), turn, self._served[offer.device], offer.since_s))
        order = sorted(range(len(by_age)), key=lambda i: keys[i])
        return [by_age[i] for i in order]

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

    def _take(self, ordered: Sequence[Offer], most: int) -> list[tuple[Offer, Grant]]:
        """The text's rows of all sessions that fit; prompts in chunks that leave room for those that wait."""
        limits = self.limits
        verdicts = sum(offer.rows == 1 for offer in ordered)
        room = most if verdicts else limits.prefill_rows
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
        """The likeliest nodes of all sessions, while they are worth their rows, up to `most` rows in all."""
        rows = sum(grant.rows for _, grant in granted)
        deciding = [(offer, grant) for offer, grant in granted if grant.rows == offer.rows]
        expected = float(len(deciding))
        frontier = [
            (-offer.probabilities[0], i) for i, (offer, _) in enumerate(deciding) if len(offer.probabilities)
        ]
        heapq.heapify(frontier)
        while frontier and rows < most:
            probability, i = heapq.heappop(frontier)
            offer, grant = deciding[i]
            first = len(deciding) == 1 and not grant.nodes
            if not first and not self._worth(-probability, rows, expected):
                break
            grant.nodes += 1
            rows += 1
            expected -= probability
            if grant.nodes < len(offer.probabilities):
                heapq.heappush(frontier, (-offer.probabilities[grant.nodes], i))
        self.roomy = rows < most and self._worth(LIKELY, rows, expected)

    def _worth(self, probability: float, rows: int, expected: float) -> bool:
        """Whether a node adds relatively more to the tokens expected of a forward of `rows` rows than to its time."""
        after_ms = self.cost(rows + 1)
        more_ms = after_ms - self.cost(rows)
        return more_ms <= 0 or probability * after_ms >= more_ms * expected
