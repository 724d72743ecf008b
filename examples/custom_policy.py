"""A policy of your own: it decides what the device drafts and when it sends. The text does not depend on it.

This one drafts a single chain of tokens for as long as the draft is confident of it, then sends the chain and waits for
the verdict. Compare the printed speed with that of `sync`, which drafts four tokens each time.

Start `edgespec serve` first, in another terminal.
"""

import sys
from collections.abc import Sequence

import edgespec
from edgespec.core.tree import ROOT
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator


class Confident(Policy):
    """`view.tree` holds the drafted nodes. ROOT stands for the last committed token."""

    name = "confident"
    drafts = True

    def __init__(self, confidence: float = 0.3) -> None:
        self.confidence = confidence

    def expand(self, view: Speculator) -> Sequence[int]:
        """Run the draft on the end of the chain, unless a verdict is due or the chain is improbable by now."""
        tip = max(view.tree, key=view.tree.depth, default=ROOT)
        if view.in_flight or not view.can_expand(tip):
            return []
        if tip != ROOT and (
            view.tree[tip].path_probability < self.confidence or view.tree.depth(tip) >= view.remaining
        ):
            return []
        return [tip]

    def send(self, view: Speculator) -> Sequence[int]:
        """The whole chain, once it is complete."""
        return [] if view.in_flight or self.expand(view) else sorted(view.tree, key=view.tree.depth)


def write(mode: str | Policy) -> str:
    server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7433"
    params = edgespec.SamplingParams(max_new_tokens=48)
    with edgespec.Session(server, edgespec.bundled_engine(), params, mode=mode) as session:
        session.prompt("def read_lines(path):\n    ")
        for _ in session:
            pass
        print(f"{session.policy.name}: {session.statistics.tokens_per_s:.1f} tokens/s")
        return session.text


texts = [write(Confident()), write("sync")]
print("the same text:", texts[0] == texts[1])
