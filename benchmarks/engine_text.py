"""A committed text on a target engine, for benchmarks of forwards: each one verifies a chain of drafts behind it."""

from __future__ import annotations

import numpy as np

from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import COMMITTED_BIT
from edgespec.model.target_engine import Decisions, ForwardRequest, TargetEngine
from edgespec.verifying.verifier import Verifier, VerifierLimits


class EngineText:
    """A text of this many tokens; each forward commits one or more. number: texts of different numbers differ."""

    def __init__(
        self,
        engine: TargetEngine,
        tokens: int,
        number: int = 0,
        temperature: float = 0.0,
        forwards: int = 512,
    ) -> None:
        self._engine = engine
        self._sampling = SamplingParams(temperature=temperature)
        limits = VerifierLimits(engine.context_length, trees=False)
        prompt = [10 + (7 * i + 101 * number) % 2000 for i in range(tokens)]
        self._verifier = Verifier(
            prompt, engine.context_length - tokens - 1, ServerOptions(fill=True), limits
        )
        self.cache = engine.open_cache(self._verifier.slots.capacity)
        self.cache.reserve(limits.slots(min(2 * tokens + forwards, engine.context_length - 1)))
        self._next_node = 1
        while self._verifier.pending > 1:
            self.run()

    def draft(self, rows: int) -> None:
        """The next forward has the last committed token and a chain of `rows` - 1 drafted ones, whatever they are."""
        parent = COMMITTED_BIT | len(self._verifier.text)
        for token in range(11, 10 + rows):
            self._verifier.receive(Block(self._next_node, [token], [parent], [0.99]))
            parent = self._next_node
            self._next_node += 1

    def run(self) -> None:
        """A forward of this text alone."""
        request = self.request()
        (decided,) = self._engine.forward_batch([request])
        self.conclude(decided)

    def request(self) -> ForwardRequest:
        self._planned = self._verifier.plan()
        piece, decide = self._planned.piece, self._planned.decide
        return ForwardRequest(self.cache, piece, decide, self._sampling, 1, text=self._verifier.text)

    def conclude(self, decided: Decisions) -> None:
        self._verifier.conclude(
            self._planned, np.asarray(decided.tokens).tolist(), np.asarray(decided.path).tolist()
        )
