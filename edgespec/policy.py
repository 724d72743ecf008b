"""Policies: what the edge drafts next, what it sends, and whether the server fills.

`cloud`, `sync` and `preempt` are policies over one draft tree and one speculator, not loops of their own. A policy
sees the speculator's tree and answers two questions; it holds no state of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from edgespec.errors import EdgespecError
from edgespec.tree import ROOT, DraftTree


class View(Protocol):
    """What a policy may look at: the edge's speculator."""

    @property
    def tree(self) -> DraftTree: ...

    @property
    def in_flight(self) -> bool:
        """Nodes that were sent still wait for a verdict."""
        ...

    @property
    def hinted(self) -> int | None:
        """The node that the newest hint of the running forward names as the next committed token."""
        ...

    @property
    def preempted(self) -> bool:
        """The last verdict was one that a hint had foretold."""
        ...

    @property
    def remaining(self) -> int:
        """Tokens that may still be committed."""
        ...

    def can_grow(self, node: int) -> bool:
        """The draft has not been run on this node (ROOT: on the last committed token) yet, and has room for it."""
        ...


class Policy(Protocol):
    """How an edge speculates; `drafts`: it needs a draft engine; `fill`, `hints`, `hint_threshold`: what it asks of the server."""

    name: str
    drafts: bool
    fill: bool
    hints: bool
    hint_threshold: float

    def expand(self, view: View) -> Sequence[int]:
        """The nodes (or ROOT) to run the draft on now; empty: nothing to draft."""
        ...

    def send(self, view: View) -> Sequence[int]:
        """The nodes to send now, parents first; those already sent are passed over."""
        ...


class Cloud:
    """The target decodes on the server and streams; the edge drafts nothing."""

    name = "cloud"
    drafts = False
    fill = True
    hints = False
    hint_threshold = 1.0

    def __init__(self, draft_tokens: int = 0) -> None:
        del draft_tokens

    def expand(self, view: View) -> Sequence[int]:
        return ()

    def send(self, view: View) -> Sequence[int]:
        return ()


class Sync:
    """Draft a chain, send it, wait for its verdict."""

    name = "sync"
    drafts = True
    fill = False
    hints = False
    hint_threshold = 1.0

    def __init__(self, draft_tokens: int = 4) -> None:
        self.draft_tokens = draft_tokens

    def expand(self, view: View) -> Sequence[int]:
        return () if view.in_flight else self._lengthen(view, ROOT, self.draft_tokens)

    def send(self, view: View) -> Sequence[int]:
        return () if view.in_flight or self.expand(view) else _chain(view.tree, ROOT)

    def _lengthen(self, view: View, start: int, length: int) -> Sequence[int]:
        """The tip of the chain below `start`, until it has `length` nodes; none past the last token of the text."""
        chain = _chain(view.tree, start)
        tip = chain[-1] if chain else start
        useful = view.remaining - (0 if start == ROOT else view.tree.depth(start))
        return (tip,) if len(chain) < min(length, useful) and view.can_grow(tip) else ()


class Preempt(Sync):
    """The paper's scheme (arXiv 2505.21594): while the server verifies, a hint starts the next chain.

    The preemptive chain is sent when the verdict matches its hint. One that was cut short is first lengthened to half
    a block: shorter blocks do not earn their round trip.
    """

    name = "preempt"
    hints = True
    hint_threshold = 0.3

    def expand(self, view: View) -> Sequence[int]:
        if view.in_flight:
            return () if view.hinted is None else self._lengthen(view, view.hinted, self.draft_tokens)
        enough = (self.draft_tokens + 1) // 2 if view.preempted else self.draft_tokens
        return self._lengthen(view, ROOT, enough)


def _chain(tree: DraftTree, start: int) -> list[int]:
    """The likeliest line below `start`."""
    chain = []
    while children := tree.children(start):
        start = max(children.values(), key=tree.chance)
        chain.append(start)
    return chain


POLICIES: dict[str, Callable[[int], Policy]] = {policy.name: policy for policy in (Cloud, Sync, Preempt)}


def policy(mode: str, draft_tokens: int) -> Policy:
    """The policy that a mode's name stands for."""
    if mode not in POLICIES:
        raise EdgespecError(f"there is no mode {mode!r}: choose one of {', '.join(POLICIES)}.")
    if draft_tokens < 1:
        raise EdgespecError(f"draft_tokens must be at least 1, not {draft_tokens}.")
    return POLICIES[mode](draft_tokens)
