"""What the drafting loop and the verifying loop say to each other, over the wire, in a simulation or by a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """New nodes of the draft tree: ids are first_node, first_node + 1, ...; parents are references as on the wire.

    A block without nodes asks for a plain forward. following: nodes of it that come later, in further pieces.
    """

    first_node: int
    tokens: list[int]
    parents: list[int]
    probabilities: list[float]
    following: int = 0


@dataclass(frozen=True)
class Hint:
    """What an exit guesses of the verdict: behind `base_length` committed tokens comes the path that ends at
    `reference` (as on the wire), then `token`. confidence: its calibrated probability. layer: the exit's."""

    base_length: int
    reference: int
    token: int
    confidence: float
    layer: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the target's last layer decided: `tokens` are committed at `base_length`, the last of them the correction or
    bonus.

    finish: why the text ends here, None while it goes on. logprobs: of the tokens, and top_logprobs: at each token's
    position, the likeliest tokens' ids -> theirs, if they were asked for. forwards: of the target for this session so
    far. rows: drafted nodes verified in this forward, which took `forward_ms` and ended at `ended_ms` of the server's
    clock (which wraps, see `measurements.CLOCK_MS`). row_price: the least probability with which a drafted node is
    worth a row of such a forward; 0: any is.
    """

    base_length: int
    tokens: list[int]
    finish: str | None = None
    logprobs: list[float] | None = None
    forwards: int = 0
    rows: int = 0
    forward_ms: float = 0.0
    ended_ms: float = 0.0
    row_price: float = 0.0
    top_logprobs: list[dict[int, float]] | None = None
