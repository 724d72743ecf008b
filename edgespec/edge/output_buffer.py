"""One turn's output: committed tokens as text, and what of it the caller has not been given yet."""

from collections.abc import Sequence

from edgespec.core.text_stream import TextPiece, TextStream
from edgespec.core.tokenizer import Tokenizer


class OutputBuffer:
    """The text of one turn behind `context`. Stop strings end it; `logprobs` are kept where the caller wants them."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], context: Sequence[int]) -> None:
        self.stream = TextStream(tokenizer.decode, stop, context=context)
        self._pieces: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._new = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def fresh(self) -> bool:
        """Whether there are tokens that the caller has not been given."""
        return bool(self._tokens)

    def add(self, tokens: list[int], logprobs: list[float]) -> TextPiece:
        """Tokens were committed, with log-probabilities for all or none of them; the text that became certain."""
        piece = self.stream.push(tokens)
        self._tokens += tokens[: piece.tokens_used]
        self._logprobs += logprobs[: piece.tokens_used]
        self._append(piece.text)
        return piece

    def flush(self) -> None:
        """The text ends here: nothing is held back any longer."""
        self._append(self.stream.flush())

    def take(self) -> tuple[list[int], str, list[float]]:
        """Tokens, text and log-probabilities since the last time."""
        taken = self._tokens, "".join(self._pieces[self._new :]), self._logprobs
        self._tokens, self._logprobs, self._new = [], [], len(self._pieces)
        return taken

    def _append(self, text: str) -> None:
        if text:
            self._pieces.append(text)
