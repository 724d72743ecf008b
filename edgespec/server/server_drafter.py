"""A server drafter: an edge's half of a session, on the server: for devices that can compute nothing (mode `colocated`), and
lent to others where the link is long and the server idle.

It is the edge's own machine: speculator, drafter and a block of fixed length; its blocks go straight to the session's
verifier. Draft and target share the server's time, which is what drafting on the edge saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPace
from edgespec.core.params import SamplingParams
from edgespec.drafting.drafter import CacheFull, Drafter
from edgespec.drafting.policies import Sync
from edgespec.drafting.speculator import Speculator
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.verifying.verifier import Verdict

IDLE_ENGINES = 4
"""Engines that are kept open for the next session that wants one."""


class ServerDrafter:
    """Drafts for one session, from its text as it stands. engine: its own; pace: holds every run of it to a given time,
    for experiments; give_back: takes the engine when the server drafter is no longer needed."""

    def __init__(
        self,
        engine: DraftEngine,
        text: Sequence[int],
        *,
        temperature: float,
        seed: int,
        max_new_tokens: int,
        draft_tokens: int = 4,
        pace: DraftPace | None = None,
        give_back: Callable[[DraftEngine], None] | None = None,
    ) -> None:
        self._engine = engine
        self._speculator = Speculator(Sync(draft_tokens))
        self._speculator.extend(text, 0, max_new_tokens)
        self._drafter = Drafter(engine, temperature, seed)
        self._pace = pace
        self._give_back = give_back

    def draft(self) -> list[tuple[int, float]]:
        """The next chain, if the verifier waits for one: tokens, each with its probability."""
        speculator, drafter = self._speculator, self._drafter
        try:
            while nodes := speculator.expand():
                if self._pace is not None:
                    self._pace.begin()
                while drafter.prefill(speculator.text, speculator.tree):
                    pass
                for growth in drafter.grow(speculator.text, speculator.tree, nodes):
                    speculator.grew(growth.node, growth.tokens, growth.probabilities)
                if self._pace is not None:
                    self._pace.hold(len(nodes))
        except CacheFull:
            speculator.draft_full = True
        chain = speculator.outgoing()
        return [] if chain is None else list(zip(chain.tokens, chain.probabilities, strict=True))

    def verdict(self, verdict: Verdict, rows: int) -> None:
        """What the target committed."""
        path = self._speculator.verdict(verdict.base_length, verdict.tokens, rows)
        self._drafter.commit(path, self._speculator.tree)

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int) -> None:
        """The next turn, or a halt."""
        self._speculator.extend(tokens, keep_length, max_new_tokens)
        self._drafter.truncate(keep_length)

    def close(self) -> None:
        """The session drafts elsewhere from now on, or has ended."""
        if self._give_back is not None:
            self._give_back(self._engine)
            self._give_back = None


class ServerDrafters:
    """Makes server drafters, each with an engine of its own; engines that were given back are used again.

    folder: the engine's. vocabulary_hash: the target's. Raises EdgespecError for an engine of another vocabulary.
    """

    def __init__(
        self, folder: Path, vocabulary_hash: bytes, draft_tokens: int = 4, pace_ms: float | None = None
    ) -> None:
        self._folder = folder
        self._draft_tokens = draft_tokens
        self._pace_ms = pace_ms
        self._idle = [load_draft(folder)]
        if self._idle[0].vocabulary_hash != vocabulary_hash:
            raise EdgespecError(
                f"the draft in {folder} has another vocabulary than the target: compile one that shares it."
            )

    def __call__(
        self, text: Sequence[int], params: SamplingParams, seed: int, max_new_tokens: int
    ) -> ServerDrafter:
        return ServerDrafter(
            self._idle.pop() if self._idle else load_draft(self._folder),
            text,
            temperature=params.temperature,
            seed=seed,
            max_new_tokens=max_new_tokens,
            draft_tokens=self._draft_tokens,
            pace=None if self._pace_ms is None else DraftPace(self._pace_ms),
            give_back=self._take_back,
        )

    def _take_back(self, engine: DraftEngine) -> None:
        if len(self._idle) < IDLE_ENGINES:
            self._idle.append(engine)
