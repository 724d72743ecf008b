"""One session's key-value memory: taken for all that its text may become, given back while it is idle."""

from __future__ import annotations

from edgespec.model.target_engine import KvFull, SessionCache
from edgespec.verifying.verifier import Verifier


class SessionMemory:
    """reserved: there is room for all that the session's text may become."""

    def __init__(self, cache: SessionCache, verifier: Verifier) -> None:
        self.cache = cache
        self.reserved = False
        self.adopted = 0
        """Tokens whose keys and values other sessions had computed, in all."""
        self._verifier = verifier
        self._published = False

    def reserve(self, slots: int | None = None) -> None:
        """Take room for this many slots (None: for what the text may become), and adopt what other sessions computed of
        the text. Raises KvFull, with no more taken."""
        verifier = self._verifier
        slots = slots or verifier.limits.slots(len(verifier.text) + verifier.remaining)
        try:
            if not self.reserved and (length := self.cache.adopt(verifier.text)):
                verifier.slots.adopt(length)
                self.adopted += length
            self.cache.reserve(slots)
        except KvFull:
            if not self.reserved:
                self.release()
            raise
        self.reserved = True

    def release(self) -> None:
        """Give the room back. The tokens stay: their keys and values are computed again when they are needed."""
        self._verifier.slots.truncate(0)
        self.cache.release()
        self.reserved = self._published = False

    def publish(self) -> None:
        """The prompt is computed: sessions whose text begins alike may adopt it."""
        if not self._published:
            self._published = True
            self.cache.publish(self._verifier.text[: self._verifier.slots.in_order + 1])
