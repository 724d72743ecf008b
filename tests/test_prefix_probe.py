"""What another device asked cannot be probed: a guess of its prompt gets the same counts, right or wrong."""

from __future__ import annotations

import random
import secrets
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import raw_peer
from raw_peer import RawPeer, hello, opening
from scripted_models import HashModel
from stubs import VOCABULARY, VOCABULARY_HASH, SlotMemory, StubTarget
from test_isolation import server_with, welcomed

from edgespec.core.access import credential
from edgespec.model.kv_pages import Pages, prefix_keys
from edgespec.server.tokens import add_token

GUESSES = 200
PREFIX = 3 * Pages.size
"""Tokens that a prompt and a guess may have in common."""

Counts = tuple[Any, ...]


class PagedMemory(SlotMemory):
    """With pages of a pool, as the real target's cache has."""

    def __init__(self, target: PagedTarget) -> None:
        super().__init__()
        self._target = target
        self._pages: list[int] = []

    @property
    def slots(self) -> int:
        return len(self._pages) * Pages.size

    def reserve(self, slots: int) -> None:
        more = -(-slots // Pages.size) - len(self._pages)
        self._target.taken.append(more)
        self._pages += self._target.pages.take(more) if more > 0 else []

    def adopt(self, tokens: Sequence[int], pictures: Sequence[Any] = (), salt: bytes = b"") -> int:
        self._pages = self._target.pages.find(tokens, pictures, salt)
        self._target.looked_up.append(min(len(self._pages) + 1, len(prefix_keys(tokens))))
        length = len(self._pages) * Pages.size
        self.held.update({i: (i, tokens[i]) for i in range(length)})
        return length

    def publish(self, tokens: Sequence[int], pictures: Sequence[Any] = (), salt: bytes = b"") -> None:
        self._target.pages.remember(tokens, self._pages, pictures, salt)

    def release(self) -> None:
        super().release()
        self._target.pages.drop(self._pages)
        self._pages = []


class PagedTarget(StubTarget):
    """looked_up: for each session, how many keys were looked for among the known prefixes; taken: how many pages."""

    def __init__(self) -> None:
        super().__init__(HashModel())
        self.pages = Pages(4096)
        self.looked_up: list[int] = []
        self.taken: list[int] = []

    def open_cache(self, capacity: int) -> SlotMemory:
        return PagedMemory(self)


def ask(peer: RawPeer, target: PagedTarget, channel: int, prompt: list[int]) -> Counts:
    """One token behind a prompt: what came back, but times and tokens, and what the server did for it."""
    before = len(target.forwards)
    peer.send(opening(channel, secrets.token_bytes(16), prompt, max_new_tokens=1))
    verdict = peer.until(raw_peer.VERDICT, raw_peer.HINT, raw_peer.ERROR)
    assert verdict is not None and verdict.kind == raw_peer.VERDICT
    base, forwards, _, _, rows, turn, count, finish, flags = struct.unpack_from("<IIIIHHHBB", verdict.payload)
    peer.send(raw_peer.frame(raw_peer.CLOSE, bytes(8), channel=channel, sequence=2))
    told = (base, forwards, rows, turn, count, finish, flags, len(verdict.payload))
    return *told, target.looked_up[-1], target.taken[-1], *target.forwards[before:]


def test_right_and_wrong_guesses_of_a_prompt_get_the_same_counts(tmp_path: Path) -> None:
    tokens, draw, target = tmp_path / "tokens", random.Random(3), PagedTarget()
    shown = {
        device: hello(VOCABULARY_HASH, credential(add_token(tokens, device))) for device in ("alice", "bob")
    }
    counts = {True: Counter[Counts](), False: Counter[Counts]()}
    with (
        server_with(tokens, target=target) as server,
        welcomed(server, shown["alice"]) as alice,
        welcomed(server, shown["bob"]) as bob,
    ):
        for channel in range(1, GUESSES // 2 + 1):
            asked, other = ([draw.randrange(VOCABULARY) for _ in range(PREFIX)] for _ in range(2))
            first = ask(alice, target, channel, [*asked, 1])
            for right in random.Random(channel).sample((True, False), 2):
                guess = [*(asked if right else other), 2]
                counts[right][ask(bob, target, 2 * channel + right - 1, guess)] += 1
        again = ask(alice, target, 255, [*asked, 3])
    assert counts[True] == counts[False]
    assert again != first and again not in counts[True], (
        "what she asked herself is found: there is something to see"
    )
