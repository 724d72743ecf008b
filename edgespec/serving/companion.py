"""A companion: an edge's half of a session, on the server, for devices that can compute nothing (mode `colocated`).

It is the edge's own machine: speculator, drafter and a block of fixed length; its blocks go straight to the session's
verifier. Draft and target share the server's time, which is what drafting on the edge saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgespec import _native
from edgespec.edge.draft import DraftEngine, load_draft
from edgespec.edge.drafter import CacheFull, Drafter
from edgespec.errors import EdgespecError
from edgespec.pacing import DraftPace
from edgespec.speculation.policies import Sync
from edgespec.speculation.speculator import Speculator
from edgespec.speculation.verifier import Verdict, Verifier


class Companion:
    """Drafts for one session. engine: its own; pace: holds every run of it to a given time, for experiments."""

    def __init__(
        self,
        engine: DraftEngine,
        prompt: Sequence[int],
        *,
        temperature: float,
        seed: int,
        max_new_tokens: int,
        draft_tokens: int = 4,
        pace: DraftPace | None = None,
    ) -> None:
        self._speculator = Speculator(Sync(draft_tokens))
        self._speculator.extend(prompt, 0, max_new_tokens)
        self._drafter = Drafter(engine, temperature, seed)
        self._pace = pace

    def draft(self, verifier: Verifier) -> None:
        """Give the verifier its next block, if it waits for one."""
        speculator, drafter = self._speculator, self._drafter
        try:
            while nodes := speculator.expand():
                if self._pace is not None:
                    self._pace.begin()
                while drafter.prefill(speculator.text, speculator.tree):
                    pass
                for growth in drafter.grow(speculator.text, speculator.tree, nodes):
                    speculator.grew(growth.node, growth.tokens, growth.chances)
                if self._pace is not None:
                    self._pace.hold(len(nodes))
        except CacheFull:
            speculator.draft_full = True
        block = speculator.outgoing()
        if block is not None and block.tokens:
            verifier.receive(block.first_node, block.tokens, block.parents, block.chances)

    def verdict(self, verdict: Verdict, rows: int) -> None:
        """What the target committed."""
        path = self._speculator.verdict(verdict.base_length, verdict.tokens, rows)
        self._drafter.commit(path, self._speculator.tree)

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int) -> None:
        """The next turn, or a halt."""
        self._speculator.extend(tokens, keep_length, max_new_tokens)
        self._drafter.truncate(keep_length)


class Companions:
    """Makes companions, each with an engine of its own.

    folder: the engine's. vocabulary_hash: the target's. Raises EdgespecError for an engine of another vocabulary.
    """

    def __init__(
        self, folder: Path, vocabulary_hash: bytes, draft_tokens: int = 4, pace_ms: float | None = None
    ) -> None:
        self._folder = folder
        self._draft_tokens = draft_tokens
        self._pace_ms = pace_ms
        if load_draft(folder).vocabulary_hash != vocabulary_hash:
            raise EdgespecError(
                f"the draft in {folder} has another vocabulary than the target: compile one that shares it."
            )

    def __call__(self, opened: _native.Open) -> Companion:
        return Companion(
            load_draft(self._folder),
            opened.tokens.tolist(),
            temperature=opened.temperature,
            seed=opened.seed,
            max_new_tokens=opened.max_new_tokens,
            draft_tokens=self._draft_tokens,
            pace=None if self._pace_ms is None else DraftPace(self._pace_ms),
        )
