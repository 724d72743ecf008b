"""What the drafting loop and the verifying loop say to each other, whatever carries it: the wire, a simulation, a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """New nodes of the draft tree: ids are first_node, first_node + 1, ...; parents are references as on the wire.

    A block without nodes asks for a plain forward.
    """

    first_node: int
    tokens: list[int]
    parents: list[int]
    probabilities: list[float]


@dataclass(frozen=True)
class Hint:
    """What an exit guesses of the verdict: behind the committed text of `base_length` tokens comes the path that ends at
    `reference` (as on the wire), then `token`; and the calibrated probability of all of it."""

    base_length: int
    reference: int
    token: int
    confidence: float
