"""The verifier: one session's text on the server, what of it the next forward runs, and what that commits. Pure.

It plans the rows of a forward, and commits what the last layer decided about them. Only `conclude` commits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgespec._native import TextIndex
from edgespec.core.decided_tree import NO_PARENT, DecidedTree
from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block, Verdict
from edgespec.core.pictures import PictureSpan, whole_chunk
from edgespec.core.server_options import ServerOptions
from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.verifying.belief import Belief
from edgespec.verifying.received_tree import MAX_WAITING_NODES, ReceivedTree
from edgespec.verifying.second_thoughts import SecondThoughts
from edgespec.verifying.text_lookup import TextLookup
from edgespec.verifying.tree_search import likeliest

Finish = Literal["stop", "length"]

ENOUGH_EXPECTED = 1.0
"""Drafted tokens expected to be accepted with which a forward waits for no more."""


@dataclass(frozen=True)
class VerifierLimits:
    """context_length: tokens that the target can attend to. end_tokens: those that end a text. prefill_rows: tokens of
    the text in one forward; draft_rows: nodes in one forward; max_waiting_nodes: beyond it a block is refused. trees:
    the nodes of a forward may be a tree; otherwise they are the likeliest chain. guesses: the
    target's choices behind rejected nodes are verified too."""

    context_length: int
    end_tokens: Collection[int] = ()
    prefill_rows: int = 256
    draft_rows: int = 64
    max_waiting_nodes: int = MAX_WAITING_NODES
    trees: bool = True
    guesses: bool = True

    def slots(self, text_length: int) -> int:
        """Slots for a text that may become this long, and for the drafts that are verified behind it."""
        return min(self.context_length, text_length) + self.draft_rows + 1


@dataclass(frozen=True)
class PlannedRows:
    """One session's rows of a forward: `nodes[i]` is decided by row `decide[i]` of `piece`; ROOT by the last committed
    token. tree: which of them is whose child. A prefill chunk that does not reach the text's end decides nothing.
    drafted: nodes that a draft proposed. price, slowed: see `Grant`."""

    piece: Piece
    nodes: list[int]
    decide: NDArray[np.int64]
    tree: DecidedTree
    drafted: int = 0
    price: float = 0.0
    slowed: float = 1.0


@dataclass(frozen=True)
class Conclusion:
    """verdict: what the edge is told. picks: the decided rows of its tokens. accepted: how many of the tokens were
    drafted, by the edge or on the server."""

    verdict: Verdict
    picks: list[int]
    accepted: int


class Verifier:
    """options: what the edge asks for, at any time anew. generated: the last tokens of `prompt` that this turn has
    generated already, where a session goes on at another server. shared: other texts to look up (`PromptLookup`).
    belief: in its drafts; None: nothing is known."""

    def __init__(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        options: ServerOptions,
        limits: VerifierLimits,
        generated: int = 0,
        shared: TextIndex | None = None,
        belief: Belief | None = None,
    ) -> None:
        self.text = list(prompt)
        self.options = options
        self.limits = limits
        self.slots = SlotMap(limits.slots(limits.context_length))
        self.finish: Finish | None = None
        self.whole_pictures: Sequence[PictureSpan] = ()
        """Those whose rows must all run in one forward."""
        self.forwards = 0
        self.received = ReceivedTree(self.text, limits.max_waiting_nodes)
        self._lookup = TextLookup(self.received, shared)
        self._second_thoughts = SecondThoughts()
        self._last_length = self.turn_start = 0
        self._requested = False
        self._belief = belief or Belief()
        self._begin_turn(max_new_tokens)
        self.turn_start -= generated

    @property
    def tree(self) -> DraftTree:
        return self.received.tree

    # What arrives

    def receive(self, block: Block) -> None:
        """One without nodes asks for a plain forward. Raises BadBlock, with nothing changed."""
        self.received.receive(block)
        self._requested = self._requested or not block.tokens

    def append(self, keep_length: int, tokens: Sequence[int], max_new_tokens: int) -> None:
        """The next turn: keep that much of the text, then these tokens. Nothing to add and no room: halt there."""
        del self.text[keep_length:]
        self.text.extend(tokens)
        self.slots.truncate(min(keep_length, self.slots.cached_length, len(self.text) - 1))
        self.received.clear()
        self._lookup.new_turn()
        self.finish = None if max_new_tokens else "length"
        self._begin_turn(max_new_tokens)

    def _begin_turn(self, max_new_tokens: int) -> None:
        self.turn_start = len(self.text)
        self._last_length = min(self.turn_start + max_new_tokens, self.limits.context_length)
        self._new_text = True
        self._requested = False

    # The next forward

    @property
    def ready(self) -> bool:
        """There are rows to run: of a prompt, of a live node, or of a forward that fills or was asked for."""
        return self.finish is None and (
            self._new_text or self._requested or self.options.fill or len(self.tree) > 0
        )

    @property
    def asked(self) -> bool:
        """The edge waits for a forward; otherwise one would fill."""
        return self._new_text or self._requested or len(self.tree) > len(self._lookup)

    @property
    def can_wait(self) -> bool:
        """The forward would fill, few drafts are at hand, and more are worth `max_wait_ms`."""
        return (
            self.options.max_wait_ms > 0
            and self.options.fill
            and not (self._new_text or self._requested)
            and self.tree.expected < ENOUGH_EXPECTED
        )

    @property
    def remaining(self) -> int:
        """Tokens that may still be committed."""
        return max(0, self._last_length - len(self.text))

    @property
    def pending(self) -> int:
        """Tokens of the text that must run before anything is decided."""
        return len(self.text) - self.slots.cached_length

    def probabilities(self) -> list[float]:
        """Of the nodes that the next forward could run to be committed, the likeliest first. Who promises far more than
        comes true is believed as much as comes true: nobody gets others' rows by claiming to be sure."""
        believed = self._belief.factor
        return [believed * reach for _, reach in self._likeliest(self.limits.draft_rows)]

    def plan(
        self, rows: int | None = None, nodes: int | None = None, price: float = 0.0, slowed: float = 1.0
    ) -> PlannedRows:
        """The rows of the next forward; their slots are taken.

        rows: of the text, at most; nodes: how many, the likeliest first. None: up to the limits.
        price, slowed: see `Grant`.
        """
        rows = rows or self.limits.prefill_rows
        chunk_end = whole_chunk(self.whole_pictures, self.slots.cached_length, rows)
        if chunk_end < len(self.text):
            piece = self.slots.plan(self.text, chunk_end, self.tree, [])
            return PlannedRows(piece, [], np.zeros(0, dtype=np.int64), DecidedTree.nothing())
        nodes = self.limits.draft_rows if nodes is None else nodes
        chosen = [node for node, _ in self._likeliest(nodes)]
        first = self.pending - 1
        piece = self.slots.plan(self.text, len(self.text), self.tree, chosen)
        row_of = {node: row for row, node in enumerate([ROOT, *chosen])}
        parents = [NO_PARENT, *(row_of[self.tree[node].parent] for node in chosen)]
        tree = DecidedTree(np.array(parents, np.int32), piece.tokens[first:])
        drafted = sum(node not in self._lookup for node in chosen)
        return PlannedRows(piece, [ROOT, *chosen], np.arange(first, len(piece)), tree, drafted, price, slowed)

    # What the forward decided

    def conclude(
        self,
        rows: PlannedRows,
        tokens: Sequence[int],
        walk: Sequence[int],
        forward_ms: float = 0.0,
        ended_ms: float = 0.0,
    ) -> Conclusion | None:
        """Commit what the last layer decided, one token a decided row, along the decided rows `walk`; None after a
        prefill chunk. Raises EdgespecError, with nothing changed, for a walk that does not follow the tokens.

        The forward took `forward_ms`, and ended at `ended_ms` of the server's clock.
        """
        if not rows.nodes:
            return None
        path = _followed(self.tree, rows.nodes, tokens, walk)
        self.forwards += 1
        promised = sum(self.tree[node].path_probability for node in rows.nodes[1:])
        base_length = len(self.text)
        picks = [0, *walk]
        decided = [int(tokens[pick]) for pick in picks]
        committed, self.finish = _until_end(decided, self._last_length - base_length, self.limits.end_tokens)
        path = path[: len(committed)]
        self._belief.observe(promised, len(path))
        accepted = sum(node not in self._lookup for node in path)
        guess = self._guess(rows, tokens, path, committed)
        self.text.extend(committed)
        self.received.commit(committed)
        self.slots.commit(path, self.tree)
        self._lookup.committed()
        self._lookup.suggest(guess)
        self._new_text = self._requested = False
        verdict = Verdict(
            base_length,
            committed,
            self.finish,
            forwards=self.forwards,
            rows=len(rows.nodes) - 1,
            forward_ms=forward_ms,
            ended_ms=ended_ms,
            row_price=rows.price,
        )
        return Conclusion(verdict, picks[: len(committed)], accepted)

    def _guess(
        self, rows: PlannedRows, tokens: Sequence[int], path: Sequence[int], committed: Sequence[int]
    ) -> list[tuple[int, float]]:
        """What the target thought behind a rejected node, for a forward that would fill otherwise."""
        self._second_thoughts.judge(committed)
        if not (self.limits.guesses and self.options.prompt_lookup and self.options.fill) or self.finish:
            return []
        return self._second_thoughts.guess(self.tree, rows.nodes, tokens, path)

    def _likeliest(self, count: int) -> Iterator[tuple[int, float]]:
        """Nodes for the next forward, those of the text's own look-up among them."""
        if self.options.prompt_lookup and self.options.fill:
            self._lookup.extend_tree(self.text)
        return likeliest(self.tree, count, self._last_length - 1, self.limits.trees)


def _until_end(tokens: list[int], room: int, end_tokens: Collection[int]) -> tuple[list[int], Finish | None]:
    """Cut behind an end-of-sequence token, and after `room` tokens."""
    for i, token in enumerate(tokens[:room]):
        if token in end_tokens:
            return tokens[: i + 1], "stop"
    return tokens[:room], "length" if len(tokens) >= room else None


def _followed(tree: DraftTree, nodes: Sequence[int], tokens: Sequence[int], walk: Sequence[int]) -> list[int]:
    """The nodes of a walk over rows, each of which must be what was decided behind the one before."""
    path, row = [ROOT], 0
    for following in walk:
        node = tree.child(path[-1], int(tokens[row]))
        if node is None or not 0 < following < len(nodes) or nodes[following] != node:
            break
        path.append(node)
        row = following
    if len(path) <= len(walk) or tokens[row] < 0:
        raise EdgespecError(
            "the target named a path that does not follow its own tokens: restart the server."
        )
    return path[1:]
