"""Pages of key-value memory: who reads which page, and which pages hold a prefix that sessions share. Pure.

A page is SLOT_BUCKET slots. A session numbers its slots by itself; its page table says where they lie. A page that
holds the first tokens of a prompt stays known by those tokens, so that the next prompt that begins with them need not
compute them again; it is kept once, however many sessions read it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgespec.core.pictures import PictureSpan
from edgespec.core.slots import SLOT_BUCKET
from edgespec.model.target_engine import KvFull


class Pages:
    """Reference counts of `count` pages, and the prefixes that some of them hold."""

    size = SLOT_BUCKET

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self._page_of: OrderedDict[bytes, int] = OrderedDict()
        self._key_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Pages that neither a session nor a prefix holds."""
        return int((self._holders == 0).sum())

    @property
    def used(self) -> int:
        """Pages that sessions hold."""
        return self.count - self.free - self.reclaimable

    @property
    def reclaimable(self) -> int:
        """Pages that only a remembered prefix holds."""
        return int(sum(self._holders[page] == 1 for page in self._page_of.values()))

    def take(self, count: int, after: int | None = None) -> list[int]:
        """`count` pages, contiguous if possible: behind page `after`, else in the first gap that fits. Remembered
        prefixes that nobody reads make room, the least recently used first. Raises KvFull, with nothing changed."""
        missing = count - self.free
        if missing > self.reclaimable:
            raise KvFull((missing - self.reclaimable) * SLOT_BUCKET)
        unread = [key for key, page in self._page_of.items() if self._holders[page] == 1]
        for key in unread[: max(0, missing)]:
            page = self._page_of.pop(key)
            del self._key_of[page]
            self.drop([page])
        pages = self._contiguous(count, after)
        self._holders[pages] = 1
        return pages

    def drop(self, pages: Sequence[int]) -> None:
        """One holder fewer of each page."""
        for page in pages:
            self._holders[page] -= 1

    def shared(self, page: int) -> bool:
        """It has another reader or is remembered as a prefix: it must not be written."""
        return bool(self._holders[page] > 1)

    def find(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: bytes = b""
    ) -> list[int]:
        """The known pages that hold the first tokens of `tokens`, remembered under `salt`; each has one more reader."""
        found = []
        for key in prefix_keys(tokens, pictures, salt):
            page = self._page_of.get(key)
            if page is None:
                break
            self._page_of.move_to_end(key)
            self._holders[page] += 1
            found.append(page)
        return found

    def remember(
        self,
        tokens: Sequence[int],
        pages: Sequence[int],
        pictures: Sequence[PictureSpan] = (),
        salt: bytes = b"",
    ) -> None:
        """`pages` hold the first tokens of `tokens`, SLOT_BUCKET a page; they stay until reclaimed."""
        for key, page in zip(prefix_keys(tokens, pictures, salt), pages, strict=False):
            if key not in self._page_of and page not in self._key_of:
                self._page_of[key] = page
                self._key_of[page] = key
                self._holders[page] += 1

    def _contiguous(self, count: int, after: int | None) -> list[int]:
        """`count` free pages, contiguous where possible."""
        free = self._holders == 0
        if after is not None and free[after + 1 : after + 1 + count].sum() == count:
            return list(range(after + 1, after + 1 + count))
        edges = np.flatnonzero(np.diff(free.astype(np.int8), prepend=0, append=0))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if stop - start >= count:
                return list(range(start, start + count))
        return [int(page) for page in np.flatnonzero(free)[:count]]


def prefix_keys(
    tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: bytes = b""
) -> list[bytes]:
    """A key for each whole page of tokens but the last token's, which must be left to run: the SHA-256 of the salt, of
    all tokens up to the page's end, and of the pictures that it touches, so that equal keys mean equal prefixes of the
    same owner."""
    whole = (len(tokens) - 1) // SLOT_BUCKET
    array = np.asarray(tokens[: whole * SLOT_BUCKET], dtype=np.int32)
    digest = hashlib.sha256(hashlib.sha256(salt).digest())
    keys = []
    for number, page in enumerate(array.reshape(whole, SLOT_BUCKET)):
        digest.update(page.tobytes())
        for span in pictures:
            if span.first_row < (number + 1) * SLOT_BUCKET and span.end > number * SLOT_BUCKET:
                digest.update(b"picture" + span.sha256 + span.first_row.to_bytes(4, "little"))
        keys.append(digest.copy().digest())
    return keys


def runs(pages: Sequence[int]) -> NDArray[np.int64]:
    """A page table as contiguous runs, in slots, int64 [n, 3]: the session's first slot, the pool's, and the
    length."""
    found, start = [], 0
    for end in range(1, len(pages) + 1):
        if end == len(pages) or pages[end] != pages[end - 1] + 1:
            found.append((start, pages[start], end - start))
            start = end
    return np.array(found, dtype=np.int64).reshape(-1, 3) * SLOT_BUCKET
