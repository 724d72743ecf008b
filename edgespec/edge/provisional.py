"""Text that the draft writes alone while no server is there; the target confirms or replaces it later.

Provisional tokens are the draft's own choices under the session's noise: the best guess of what the target will say at
the same positions. None is committed. Once a server is back the text is decoded as ever; what is committed is compared
with them, and from the first difference on they are taken back.
"""

from collections.abc import Sequence

from edgespec.core.slots import CacheFull
from edgespec.core.text_stream import TextStream
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.policies import DeviceOnly


class ProvisionalText:
    """active: there is no server. writing: and more may be written."""

    def __init__(self) -> None:
        self.active = False
        self.writing = False
        self._loop = DraftingLoop(DeviceOnly())
        self._tokens: list[int] = []
        self._pieces: list[str] = []
        self._new: list[str] = []
        self._revised = 0
        self._end_tokens: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """What stands behind the committed text and is not verified."""
        return "".join(self._pieces)

    @property
    def has_news(self) -> bool:
        return bool(self._new or self._revised)

    def begin(
        self, committed: Sequence[int], stream: TextStream, max_new_tokens: int, end_tokens: Sequence[int]
    ) -> None:
        """There is no server. stream: the committed text's; max_new_tokens: how many may still come."""
        self._stream = stream.fork()
        self._loop = DraftingLoop(DeviceOnly())
        self._loop.begin([*committed, *self._tokens], 0, max_new_tokens - len(self._tokens))
        self._end_tokens = frozenset(end_tokens)
        self._pieces = []
        self.active, self.writing = True, self._loop.remaining > 0
        for token in self._tokens:
            self._decode(token)

    def write(self, drafter: Drafter) -> bool:
        """One more token, or a piece of the text that the draft has not read yet; False: no more may be written."""
        if not self.writing:
            return False
        try:
            token = drafter.decode(self._loop)
        except CacheFull:
            self.writing = False
            return True
        if token is not None and token in self._end_tokens:
            self.writing = False
        elif token is not None:
            self._tokens.append(token)
            self._new.append(self._decode(token))
        return True

    def end(self) -> None:
        """A server is there again."""
        self.active = self.writing = False

    def committed(self, tokens: Sequence[int]) -> None:
        """The target committed these."""
        for token in tokens:
            if self._tokens and self._tokens[0] == token:
                del self._tokens[0], self._pieces[0]
            else:
                self.drop()

    def drop(self) -> None:
        """Take back what is left."""
        self._revised += len(self._tokens)
        self._tokens, self._pieces = [], []

    def take(self) -> tuple[str, int]:
        """The new text, and the number of tokens taken back, since the last time."""
        new, revised = "".join(self._new), self._revised
        self._new, self._revised = [], 0
        return new, revised

    def _decode(self, token: int) -> str:
        piece = self._stream.push([token])
        self._pieces.append(piece.text)
        self.writing = piece.stopped is None and self._loop.remaining > 0
        return piece.text
