"""Guesses from rejected nodes: what the target chose behind a wrong token often comes behind the right one too. Pure.

The forward has decided the rows of rejected nodes as well. Those choices are nobody's text. As guesses of the tokens
behind the correction they cost no bytes and no draft, and the next forward verifies them in rows that it has to spare.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgespec.core.tree import ROOT, DraftTree

LONGEST = 4
"""Tokens of one guess."""

DECAY, PRIOR, AT_FIRST = 0.98, 8.0, (0.2, 0.4)
"""How often the first token of a guess is right, and a further one whose predecessor was right, until that is measured;
PRIOR is the number of observations for which AT_FIRST counts."""

LEAST_PROBABILITY = 0.04
"""Of a guess that is worth a row."""


class SecondThoughts:
    """One session's guesses, and how often they came true."""

    def __init__(self) -> None:
        self._right = [PRIOR * share for share in AT_FIRST]
        self._offered = [PRIOR] * len(AT_FIRST)
        self._guess: list[int] = []

    def judge(self, committed: Sequence[int]) -> None:
        """These tokens came where the last guess was made."""
        for i, (guessed, token) in enumerate(zip(self._guess, committed, strict=False)):
            kind = min(i, 1)
            self._offered[kind] = self._offered[kind] * DECAY + 1
            self._right[kind] = self._right[kind] * DECAY + (guessed == token)
            if guessed != token:
                break
        self._guess = []

    def guess(
        self, tree: DraftTree, nodes: Sequence[int], tokens: Sequence[int], path: Sequence[int]
    ) -> list[tuple[int, float]]:
        """What may follow the token behind `path`, each token with its probability given the one before.

        The forward decided tokens[i] behind nodes[i] of the tree, and accepted the nodes of `path`.
        """
        rows = {node: i for i, node in enumerate(nodes)}
        siblings = [node for node in tree[path[-1] if path else ROOT].children.values() if node in rows]
        if not siblings:
            return []
        node: int | None = max(siblings, key=lambda one: tree[one].probability)
        while node is not None and node in rows and len(self._guess) < LONGEST:
            token = int(tokens[rows[node]])
            if token < 0:
                break  # an engine of chains decides nothing behind the first node that it rejects
            self._guess.append(token)
            node = tree.child(node, token)
        shares = [right / offered for right, offered in zip(self._right, self._offered, strict=True)]
        if shares[0] < LEAST_PROBABILITY:
            return []
        return [(token, shares[min(i, 1)]) for i, token in enumerate(self._guess)]
