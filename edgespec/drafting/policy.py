"""What a policy is: it says what the edge drafts next, what it sends, and what it asks of the server.

Every mode is a policy over one draft tree, not a loop of its own. A policy sees the tree through a `View` and answers
a few questions; it holds no state of the text. The policies themselves are in policies.py.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from edgespec.core.measurements import Measurements
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import DraftTree


class View(Protocol):
    """What a policy may look at: the session's speculation."""

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
        """A hint had foretold the last verdict in full."""
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
        """The node was sent; ROOT, the committed text, counts as sent."""
        ...

    def can_expand(self, node: int) -> bool:
        """The draft has not been run on this node (ROOT: on the last committed token) yet, and has room for it."""
        ...


class Policy:
    """How an edge speculates. A mode overrides what it does differently; this one drafts nothing.

    drafts: it needs a draft engine. options: what it asks of the server; a policy that adapts replaces them. reasons:
    why it adapted as it did, in words, by what was chosen.
    """

    name = ""
    drafts = False
    options = ServerOptions()
    reasons: Mapping[str, str] = MappingProxyType({})

    def expand(self, view: View) -> Sequence[int]:
        """The nodes (or ROOT) to run the draft on now; empty: nothing to draft."""
        return ()

    def width(self, view: View, node: int, probabilities: Sequence[float]) -> int:
        """How many of the draft's choices behind `node`, best first, become nodes."""
        return 1

    def send(self, view: View) -> Sequence[int]:
        """The nodes to send now, parents first; those already sent are ignored."""
        return ()

    def hold_ms(self, view: View, nodes: Sequence[int]) -> float:
        """How long these, not sent yet, may wait for more to go with them; 0: they go now.

        Infinite: until there are others or a verdict comes, so only while one is due (`View.in_flight`).
        """
        return 0.0

    def adapt(self, view: View, measurements: Measurements) -> None:
        """Choose anew from what was measured, after a verdict."""
