"""The memory as a second draft: branches of the tree from texts that this device has seen before. Pure.

A look-up takes microseconds, so every node that may be reached is looked up, whoever proposed it. How likely a branch
is follows from what its kind of guess was worth so far (core/lookup.py), and from what the draft says in its place.
"""

import heapq

from edgespec import _native
from edgespec.core.lookup import Guess, LookupRates, Stance, look_up
from edgespec.core.tree import ROOT
from edgespec.drafting.speculator import Speculator

LEAST_PROBABILITY = 0.05
"""Of a remembered node to be committed."""

DEEPEST = 32
"""Nodes on a path."""

MOST_NEW = 24
"""Nodes that are added at once."""

SURE = 0.9
"""A memory this sure overrules the draft's own probability, which knows the draw."""

LARGEST_SUM = 0.99
"""Of the probabilities of one node's children."""


class MemoryDraft:
    """index: the texts. rates: how often guesses from them came true, kept between sessions by the caller."""

    def __init__(self, index: _native.TextIndex, rates: LookupRates) -> None:
        self._index = index
        self._rates = rates
        self._guesses: dict[int, Guess | None] = {}

    def judge(self, view: Speculator, tokens: list[int]) -> None:
        """These tokens are about to be committed: was the memory right?"""
        node: int | None = ROOT
        for i, token in enumerate(tokens):
            guess = look_up(self._index, view.text, tokens[:i])
            if guess is not None:
                self._rates.observe(guess, token, _stance(view, node, guess))
            node = None if node is None else view.tree.child(node, token)

    def grow(self, view: Speculator) -> None:
        """Look up the nodes that are new, likeliest first, and add what is worth it behind them."""
        tree = view.tree
        self._guesses = {
            node: guess for node, guess in self._guesses.items() if node in tree and node != ROOT
        }
        frontier = [
            (-tree[node].path_probability, node) for node in (ROOT, *tree) if node not in self._guesses
        ]
        heapq.heapify(frontier)
        room = MOST_NEW
        while frontier and room > 0 and -frontier[0][0] >= LEAST_PROBABILITY:
            _, node = heapq.heappop(frontier)
            if tree.depth(node) >= min(DEEPEST, view.remaining):
                continue
            guess = self._guesses[node] = look_up(self._index, view.text, tree.path_tokens(node))
            if guess is not None:
                for child in self._add(view, node, guess):
                    heapq.heappush(frontier, (-tree[child].path_probability, child))
                    room -= 1

    def weigh(self, view: Speculator, node: int) -> None:
        """The draft ran on `node`: weigh what the memory had proposed behind it anew."""
        guess = self._guesses.get(node)
        if guess is not None:
            self._add(view, node, guess)

    def _add(self, view: Speculator, node: int, guess: Guess) -> list[int]:
        """Children of `node` that are new; those that are there are weighed anew."""
        tree, new = view.tree, []
        changed: dict[int, float] = {}
        for token, probability in self._rates.probabilities(guess, _stance(view, node, guess)):
            child = tree.child(node, token)
            if child is not None:
                if view.origins[child] == "memory" or probability > max(SURE, tree[child].probability):
                    changed[child] = probability
            elif tree[node].path_probability * probability >= LEAST_PROBABILITY:
                new.append(view.add(node, token, probability, "memory"))
        children = {child: tree[child].probability for child in tree[node].children.values()} | changed
        total = sum(children.values())
        if total > LARGEST_SUM:
            changed = {child: probability * LARGEST_SUM / total for child, probability in children.items()}
        if changed:
            tree.reweigh_all(changed)
        return new


def _stance(view: Speculator, node: int | None, guess: Guess) -> Stance:
    """What the draft says about a guess."""
    best = None if node is None else view.best_choice(node)
    return "silent" if best is None else "agrees" if best == guess.token else "contradicts"
