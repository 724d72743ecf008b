"""Prompt look-up in the draft tree: nodes that the text itself suggests, verified where a forward would fill. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edgespec._native import TextIndex
from edgespec.core.prompt_lookup import PromptLookup
from edgespec.verifying.received_tree import ReceivedTree


class TextLookup:
    """Adds nodes to `received`, once for each length of the text. shared: see `PromptLookup`."""

    def __init__(self, received: ReceivedTree, shared: TextIndex | None = None) -> None:
        self._received = received
        self._lookup = PromptLookup(shared=shared)
        self._nodes: set[int] = set()
        self._done_at = -1

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: int) -> bool:
        """Whether this node was looked up, and no draft has proposed it too."""
        return node in self._nodes and self._received.edge_id(node) is None

    def extend_tree(self, text: list[int]) -> None:
        if self._done_at != len(text):
            self._done_at = len(text)
            self._lookup.read(text)
            self.suggest(self._lookup.guess(text))

    def suggest(self, chain: Sequence[tuple[int, float]]) -> None:
        """Add another guess of the server's own, each token with its probability given the one before."""
        self._nodes.update(self._received.suggest(chain))

    def committed(self) -> None:
        """The tree was re-rooted."""
        self._nodes = {node for node in self._nodes if node in self._received.tree}

    def new_turn(self) -> None:
        """The text is another one from here on."""
        self._lookup.forget()
        self.committed()
