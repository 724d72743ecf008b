"""Decoding by the draft alone: its best token is taken as if a target had committed it.

Mode `device` writes its text so, and a session that has lost every server its provisional text.
"""

from edgespec.core.messages import Verdict
from edgespec.core.slots import CacheFull
from edgespec.core.tree import ROOT
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop


def decode_token(loop: DraftingLoop, drafter: Drafter) -> int | None:
    """Add one token to the text of a loop whose policy is `DeviceOnly`; None: only a piece of the text was read.

    Raises CacheFull when the draft holds no more.
    """
    if not drafter.run(loop):
        if loop.speculator.draft_full:
            raise CacheFull
        return None
    (token,) = loop.tree[ROOT].children
    nodes = loop.on_message(Verdict(len(loop.text), [token]), 0.0)
    drafter.commit(nodes, loop.tree)
    return token
