"""What one forward asks of vLLM for each session, and what vLLM has answered so far. Pure.

vLLM decides the rows of a chain while they agree, and commits what it decided to its request. A request that is new
reads its prompt first and decides one row; then the rest of the chain is verified in the next step. A long prompt is
read over several forwards, in the pieces that were planned for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.model.target_engine import Decisions, ForwardRequest, TopTokens


@dataclass(frozen=True)
class Share:
    """What vLLM's workers, which may be other processes, must know of a request to decide its rows in one step."""

    sampling: SamplingParams
    seed: int
    constraints: RowConstraints | None

    def rows(self, count: int) -> RowConstraints | None:
        """Of the first `count` rows."""
        return None if self.constraints is None else self.constraints.rows(slice(count))


@dataclass
class Job:
    """A session's share of a forward. chain: the drafted tokens behind its text. tokens int32, logprobs, margins
    float32 [D]: of the decided rows; -1 where none was decided, which is behind the first that disagrees."""

    request: ForwardRequest
    chain: list[int]
    tokens: NDArray[np.int32] = field(init=False)
    logprobs: NDArray[np.float32] = field(init=False)
    margins: NDArray[np.float32] = field(init=False)
    done: bool = False
    _decided: int = 0
    _top: list[TopTokens] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = len(self.chain) + 1
        self.tokens = np.full(rows, -1, dtype=np.int32)
        self.logprobs = np.zeros(rows, dtype=np.float32)
        self.margins = np.zeros(rows, dtype=np.float32)

    @property
    def left(self) -> list[int]:
        """Drafted tokens that the next step verifies."""
        return self.chain[self._decided :]

    @property
    def share(self) -> Share:
        """For the next step."""
        request, whole = self.request, self.request.constraints
        left = None if whole is None else whole.rows(slice(self._decided, None))
        return Share(request.sampling, request.seed, left)

    def rows(self, computed: int, most: int) -> int:
        """Of the next step, where vLLM has computed so many tokens of the text and would run `most` rows."""
        return most

    def take(self, decided: Decisions, count: int) -> None:
        """A step committed the first `count` of the rows that it decided."""
        first, last = self._decided, self._decided + count
        self.tokens[first:last] = decided.tokens[:count]
        self.logprobs[first:last] = decided.logprobs[:count]
        self.margins[first:last] = decided.margins[:count]
        if decided.top is not None:
            self._top.append(decided.top.rows(slice(count)))
        self._decided = last
        agrees = last <= len(self.chain) and int(self.tokens[last - 1]) == self.chain[last - 1]
        self.done = not agrees

    @property
    def decisions(self) -> Decisions:
        path = DecidedTree.chain(self.chain).walk(self.tokens.tolist())
        return Decisions(self.tokens, self.logprobs, self.margins, np.array(path, np.int32), self.top)

    @property
    def top(self) -> TopTokens | None:
        """Of the rows that were decided."""
        if not self._top:
            return None
        columns = zip(*((one.tokens, one.logprobs) for one in self._top), strict=True)
        return TopTokens(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class Reading:
    """A session's share of a forward that only reads a piece of its prompt. request: vLLM's; end: the length of the
    text that it must have computed."""

    request: Any
    end: int

    @property
    def done(self) -> bool:
        return int(self.request.num_computed_tokens) >= self.end

    @property
    def left(self) -> list[int]:
        return []

    @property
    def share(self) -> Share:
        """vLLM's sampler sees a row of each request, and drops this one's."""
        return Share(SamplingParams(temperature=0.0), 0, None)

    def rows(self, computed: int, most: int) -> int:
        """Not beyond the piece. Where vLLM's prefix cache has brought it further already, it runs a row all the same:
        so the request takes hold of the cache's blocks."""
        return min(most, max(1, self.end - computed))

    @property
    def decisions(self) -> Decisions:
        return Decisions.nothing()


jobs: dict[str, Job | Reading] = {}
"""Of the forward that runs, by vLLM's request id. The process's one vLLM finds them here."""

decided: dict[str, Decisions] = {}
"""What the last step decided, by request id."""


def chain_of(tokens: Sequence[int], decide: Sequence[int]) -> list[int]:
    """The drafted tokens of a piece whose rows are one chain."""
    return [int(tokens[row]) for row in decide[1:]]
