"""How far the probabilities of drafts are believed: as far as they came true. Pure.

Nobody gets others' rows by claiming to be sure. A new session of a device begins with what the device's sessions have
shown before, so that opening one session after the other brings nothing either.
"""

from __future__ import annotations

DOUBTED_BELOW = 0.5
"""Probabilities count for less where fewer of the nodes are accepted than this share of what they promise."""

BENEFIT_OF_DOUBT, MEMORY = 4.0, 0.98
"""Nodes that are believed before anything is known, and how much of what was seen stays at each forward."""


class Belief:
    """In one session's drafts. device: in those of its device, which learns with it; None: nobody knows whose it is."""

    def __init__(self, device: Belief | None = None) -> None:
        self._device = device
        self._promised = BENEFIT_OF_DOUBT
        self._kept = BENEFIT_OF_DOUBT * (1.0 if device is None else device.share)

    @property
    def share(self) -> float:
        """Of what was promised, what was accepted; 1 at most."""
        return min(1.0, self._kept / self._promised)

    @property
    def factor(self) -> float:
        """By which probabilities count."""
        return self.share if self.share < DOUBTED_BELOW else 1.0

    def observe(self, promised: float, accepted: int) -> None:
        """A forward has verified nodes whose probabilities add up to `promised`. What was seen long ago counts for less
        and less: in the end there is the benefit of the doubt again."""
        again = (1 - MEMORY) * BENEFIT_OF_DOUBT
        self._promised = MEMORY * self._promised + again + promised
        self._kept = MEMORY * self._kept + again + accepted
        if self._device is not None:
            self._device.observe(promised, accepted)
