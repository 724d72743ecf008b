"""Going on without a server: the draft alone writes provisional text, which the target confirms or replaces later.

Provisional tokens are the draft's own choices under the session's noise: the best guess of what the target will say at
the same positions. None of them is committed. Once a server is back the text is decoded as ever; what is committed is
compared with them, and from the first that differs on they are taken back.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgespec.core.text_stream import TextStream
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.drafter import CacheFull, Drafter


class Offline:
    """One session's provisional tokens. `writing`: there is no server, and more may be written."""

    def __init__(self) -> None:
        self.active = False
        self.writing = False
        self._tokens: list[int] = []
        self._pieces: list[str] = []
        self._fresh: list[str] = []
        self._revised = 0
        self._most = 0
        self._ends: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """What is shown behind the committed text and not verified."""
        return "".join(self._pieces)

    @property
    def news(self) -> bool:
        return bool(self._fresh or self._revised)

    def begin(self, stream: TextStream, most: int, end_tokens: Sequence[int]) -> None:
        """There is no server. stream: where the committed text stands; most: tokens that may still come."""
        self._stream = stream.fork()
        self._most, self._ends = most, frozenset(end_tokens)
        earlier, self._tokens, self._pieces = self._tokens, [], []
        self.active = self.writing = True
        for token in earlier:
            self._add(token)

    def write(self, drafter: Drafter, committed: Sequence[int]) -> None:
        """One more token, or a piece of the text that the draft has not read yet."""
        text = [*committed, *self._tokens]
        try:
            if drafter.prefill(text, DraftTree(len(text))):
                return
            (growth,) = drafter.grow(text, DraftTree(len(text)), [ROOT])
        except CacheFull:
            self.writing = False
            return
        if growth.tokens[0] in self._ends:
            self.writing = False
        else:
            self._fresh.append(self._add(growth.tokens[0]))

    def end(self) -> None:
        """A server is there again."""
        self.active = self.writing = False

    def committed(self, tokens: Sequence[int]) -> None:
        """The target said these."""
        for token in tokens:
            if self._tokens and self._tokens[0] == token:
                del self._tokens[0], self._pieces[0]
            else:
                self.drop()

    def drop(self) -> None:
        """Nothing of what is left holds."""
        self._revised += len(self._tokens)
        self._tokens, self._pieces = [], []

    def take(self) -> tuple[str, int]:
        """The text that is new, and how many tokens were taken back, since the last time."""
        fresh, revised = "".join(self._fresh), self._revised
        self._fresh, self._revised = [], 0
        return fresh, revised

    def _add(self, token: int) -> str:
        piece = self._stream.push([token])
        self._tokens.append(token)
        self._pieces.append(piece.text)
        self.writing = piece.stopped is None and len(self._tokens) < self._most
        return piece.text
