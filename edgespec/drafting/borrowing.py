"""Whose drafts: this device's, or those of a server that has one to lend. Both are tried, and the faster is kept."""

from __future__ import annotations

from edgespec.core.measurements import Measurements

STINT_FORWARDS = 8
"""Forwards seen with drafts from here, or with the server's, before the two are compared."""

LONG_WAY = 0.5
"""A round trip of so many forwards or more: drafts from here will be slow to come, so the server's is tried at once."""

FASTER = 0.95
"""The other's time a token, in this one's, that is worth changing for."""

HOPELESS = 0.5
"""The other's time a token, in this one's, that need not be looked at for long."""

RETRY_FORWARDS = 128
"""Forwards until the slower way is tried again, if it was hardly slower; twice as many each time."""


class Borrowing:
    """borrows: the server drafts for now. reason: why, in words."""

    def __init__(self) -> None:
        self.borrows = False
        self._stint_began: int | None = None
        self._retry_after = RETRY_FORWARDS
        self._paces_ms = (0.0, 0.0)

    def choose(self, measurements: Measurements) -> None:
        own, borrowed = measurements.own_pace, measurements.borrowed_pace
        this, other = (borrowed, own) if self.borrows else (own, borrowed)
        slower = other() / this() if this() and other.seen else 1.0
        if self._stint_began is None:
            self._stint_began = this.seen
            change = self._at_first(measurements)
        else:
            change = self._after(this.seen - self._stint_began, measurements, slower)
        if change:
            self.borrows = not self.borrows
            self._stint_began = other.seen
        self._paces_ms = own(), borrowed()

    def _at_first(self, measurements: Measurements) -> bool:
        """Whether to borrow from the start, after an earlier session: where that was faster, or not tried in full; or
        what was slower, because it was tried so long ago."""
        own, borrowed = measurements.own_pace, measurements.borrowed_pace
        if not (own.seen and borrowed.seen >= STINT_FORWARDS):
            return own.seen >= STINT_FORWARDS
        faster = borrowed() < FASTER * own()
        slow, quick = (own, borrowed) if faster else (borrowed, own)
        long_ago = measurements.forwards - slow.last >= RETRY_FORWARDS * (slow() / quick()) ** 2
        return faster != long_ago

    def _after(self, stint: int, measurements: Measurements, slower: float) -> bool:
        """Whether to change after so many forwards of one way."""
        other = measurements.own_pace if self.borrows else measurements.borrowed_pace
        untried = not other.seen
        long_way = (measurements.rtt_ms or 0.0) > LONG_WAY * measurements.forward_ms(1)
        hopeless = slower < HOPELESS and other.seen > 2
        retried = stint >= self._retry_after * slower**2
        if stint < (1 if untried and long_way else 2 if hopeless else STINT_FORWARDS):
            return False
        self._retry_after *= 2 if retried else 1
        return untried or retried or slower < FASTER

    @property
    def reason(self) -> str:
        own_ms, borrowed_ms = self._paces_ms
        return (
            f"{'the server' if self.borrows else 'this device'} drafts: {own_ms:.3g} ms a token with drafts from here, "
            f"{format(borrowed_ms, '.3g') + ' ms' if borrowed_ms else 'not yet tried'} with the server's own"
        )
