"""A draft that the server itself hosts, for one session: for devices that cannot draft (mode `colocated`), and lent to
others while the server is idle.

It turns the drafting loop of an edge, with a chain of fixed length. Draft and target share the server's time, which is
what drafting on the edge saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block, Verdict
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.pictures import PictureSpan
from edgespec.core.shares import may_take
from edgespec.core.text_biases import TextBiases
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.policies import Sync
from edgespec.engines.draft_engine import DraftEngine, load_draft

MOST_ENGINES = 16
"""Sessions that the server drafts for at once; each has an engine of its own, which is kept for the next one."""


class ServerDrafter:
    """Drafts chains of `draft_tokens` behind `text`. drafter: over an engine of its own; close: gives that engine back,
    since the session drafts elsewhere from now on, or has ended."""

    def __init__(
        self,
        drafter: Drafter,
        text: Sequence[int],
        max_new_tokens: int,
        draft_tokens: int = 4,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.close = close
        self._drafter = drafter
        self._loop = DraftingLoop(Sync(draft_tokens))
        self._loop.begin(text, 0, max_new_tokens)

    def leave_out(self, pictures: Sequence[PictureSpan]) -> None:
        """The pictures in the text, whose rows the draft does not read."""
        self._drafter.pictures.take(pictures)

    def draft(self) -> list[tuple[int, float]] | None:
        """The next chain, if the verifier waits for one: tokens, each with its probability. Empty while the draft reads
        a long text: all sessions wait for it, so each call reads one piece. None: there was nothing to do."""
        ran = False
        while self._drafter.run(self._loop) is not None:
            ran = True
            if self._drafter.is_behind(self._loop.text):
                return []
        chain = [
            pair
            for block in self._loop.outgoing(0.0)
            if isinstance(block, Block)
            for pair in zip(block.tokens, block.probabilities, strict=True)
        ]
        return chain if ran else None

    def verdict(self, base_length: int, tokens: list[int], rows: int) -> None:
        """The target committed `tokens`, having verified `rows` drafted nodes."""
        path = self._loop.on_message(Verdict(base_length, tokens, rows=rows), 0.0)
        self._drafter.commit(path, self._loop.tree)

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int) -> None:
        """The next turn, or the end of this one."""
        self._loop.begin(tokens, keep_length, max_new_tokens)
        self._drafter.truncate(keep_length)


class ServerDrafters:
    """Makes server drafters, each with an engine of its own, at most `most` at once; engines that were given back are
    used again. A holder has no more of them than its share.

    folder: the engine's. vocabulary_hash, vocabulary_size: the target's. Raises EdgespecError for an engine of another
    vocabulary.
    """

    def __init__(
        self,
        folder: Path,
        vocabulary_hash: bytes,
        vocabulary_size: int,
        draft_tokens: int = 4,
        pace_ms: float | None = None,
        most: int = MOST_ENGINES,
    ) -> None:
        self._folder = folder
        self._vocabulary_size = vocabulary_size
        self._draft_tokens = draft_tokens
        self._pace_ms = pace_ms
        self._most = most
        self._in_use: Counter[str] = Counter()
        self._idle = [load_draft(folder)]
        if self._idle[0].vocabulary_hash != vocabulary_hash:
            raise EdgespecError(
                f"the draft in {folder} has another vocabulary than the target: compile one that shares it."
            )

    def __call__(
        self, text: Sequence[int], params: SamplingParams, seed: int, max_new_tokens: int, holder: str
    ) -> ServerDrafter | None:
        if not may_take(self._in_use[holder], self._in_use.total(), self._most):
            return None
        self._in_use[holder] += 1
        engine = self._idle.pop() if self._idle else load_draft(self._folder)
        pacing = None if self._pace_ms is None else DraftPacing(self._pace_ms)
        biases = TextBiases(params, params.stop_token_ids)
        drafter = Drafter(engine, params.temperature, seed, self._vocabulary_size, pacing, biases=biases)
        close = partial(self._take_back, engine, holder)
        return ServerDrafter(drafter, text, max_new_tokens, self._draft_tokens, close)

    def _take_back(self, engine: DraftEngine, holder: str) -> None:
        self._in_use[holder] -= 1
        self._in_use += Counter()  # forgets those who have none
        self._idle.append(engine)
