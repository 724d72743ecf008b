"""What a policy is: it says what the edge drafts next, what it sends, and what it asks of the server.

Every mode is a policy over one draft tree, not a loop of its own. A policy looks at the session's speculation and
answers a few questions; it holds no state of the text. The policies themselves are in policies.py.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edgespec.core.measurements import Measurements
from edgespec.core.server_options import ServerOptions
from edgespec.drafting.speculator import Speculator


class Policy:
    """How an edge speculates. A mode overrides what it does differently; this one drafts nothing.

    drafts: it needs a draft engine. remembers: it also proposes what the device's memory knows. options: what it asks
    of the server; a policy that adapts replaces them. reasons: why it adapted as it did, in words, by what was chosen.
    """

    name = ""
    drafts = False
    remembers = False
    options = ServerOptions()
    reasons: Mapping[str, str] = MappingProxyType({})

    def expand(self, view: Speculator) -> Sequence[int]:
        """The nodes (or ROOT) to run the draft on now; empty: nothing to draft."""
        return ()

    def width(self, view: Speculator, node: int, probabilities: Sequence[float]) -> int:
        """How many of the draft's choices behind `node`, best first, become nodes."""
        return 1

    def send(self, view: Speculator) -> Sequence[int]:
        """The nodes to send now, parents first; those already sent are ignored."""
        return ()

    def hold_ms(self, view: Speculator, nodes: Sequence[int]) -> float:
        """How long these, not sent yet, may wait for more to go with them; 0: they go now.

        Infinite: until there are others or a verdict comes, so only while one is due (`Speculator.in_flight`).
        """
        return 0.0

    def adapt(self, view: Speculator, measurements: Measurements) -> None:
        """Choose anew from what was measured, after a verdict."""
