"""What a policy is: it says what the edge drafts next, what it sends, and whether the server fills.

Every mode is a policy over one draft tree and one speculator, not a loop of its own. A policy sees the speculator's
tree and answers a few questions; it holds no state of the text. The policies themselves are in policies.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgespec.core.measurements import Measurements
from edgespec.core.tree import DraftTree


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

    @property
    def slack_ms(self) -> float:
        """How long sending may wait and still be in time for the same forward; 0 when that is not known."""
        ...

    def sent(self, node: int) -> bool:
        """The node was sent; so, in a way, was ROOT."""
        ...

    def can_grow(self, node: int) -> bool:
        """The draft has not been run on this node (ROOT: on the last committed token) yet, and has room for it."""
        ...


class Policy(Protocol):
    """How an edge speculates; `drafts`: it needs a draft engine. What it asks of the server: `fill`, `prompt_lookup`
    (in what it fills: guesses from the text itself), `colocated` (a draft of the server's, or nothing), `borrows` (the
    same for now, where the server hosts one), `hints` (of which confidence at least), and `max_wait_ms`, how long a
    plain forward may wait for drafts that are on their way."""

    name: str
    drafts: bool
    fill: bool
    prompt_lookup: bool
    colocated: bool
    borrows: bool
    hints: bool
    hint_threshold: float
    max_wait_ms: float

    def expand(self, view: View) -> Sequence[int]:
        """The nodes (or ROOT) to run the draft on now; empty: nothing to draft."""
        ...

    def width(self, view: View, node: int, probabilities: Sequence[float]) -> int:
        """How many of the draft's choices behind `node`, best first, become nodes."""
        ...

    def adapt(self, view: View, measurements: Measurements) -> None:
        """Choose anew from what was measured, after a verdict."""
        ...

    def send(self, view: View) -> Sequence[int]:
        """The nodes to send now, parents first; those already sent are passed over."""
        ...

    def hold_ms(self, view: View, nodes: Sequence[int]) -> float:
        """How long these, not sent yet, may wait for more to go with them; 0: they go now.

        Infinite: until there are others, or a verdict came, so only while one is due (`View.in_flight`).
        """
        ...
