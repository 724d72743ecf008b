"""How often or how much something may happen: a bucket that fills steadily. Pure: time is passed in.

The server's loop counts with it, as its I/O thread does with csrc/net/rate.hpp."""

from __future__ import annotations

from collections.abc import Hashable

MOST_REMEMBERED = 4096


class Rate:
    """per_second: how fast it fills. burst: what it holds at first, and at most."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = self._left = burst
        self._at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """One of it. False: there is less than that."""
        self._fill(now_s)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def spend(self, amount: float, now_s: float) -> None:
        """What has happened already; it may leave a debt."""
        self._fill(now_s)
        self._left -= amount

    def owed_s(self, now_s: float) -> float:
        """How long until its debt is paid; 0.0: it has none."""
        self._fill(now_s)
        return max(0.0, -self._left / self._per_second)

    def full(self, now_s: float) -> bool:
        """As if nothing had ever happened."""
        self._fill(now_s)
        return self._left >= self._burst

    def _fill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._left = min(self._burst, self._left + self._per_second * (now_s - self._at_s))
        self._at_s = now_s


class Rates:
    """A rate for each of those who do something. When many are known, those who did nothing of late are forgotten."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._rates: dict[Hashable, Rate] = {}

    def take(self, who: Hashable, now_s: float) -> bool:
        """False: too often for this one."""
        if len(self._rates) >= MOST_REMEMBERED:
            self._rates = {one: rate for one, rate in self._rates.items() if not rate.full(now_s)}
        return self._rates.setdefault(who, Rate(self._per_second, self._burst)).take(now_s)
