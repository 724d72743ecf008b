"""A conversation as tokens: each turn is what the chat template adds to the text that is already committed.

The first turn is a rendered prompt. A later one is only what stands, in the rendered conversation, behind the last
answer: so the session appends it, and neither draft nor target reads the conversation again.
"""

from collections.abc import Sequence

from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer

ANSWER = "edgespec-answer-7f3a"
"""Stands for an answer while a conversation is rendered, to find what comes behind it."""


class Conversation:
    """The user's turns of one conversation; a model without a chat template continues the plain lines."""

    def __init__(self, tokenizer: Tokenizer, system: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._messages = [] if system is None else [{"role": "system", "content": system}]
        self._begun = False

    def next_turn(self, line: str, answer: Sequence[int]) -> list[int]:
        """The tokens to prompt (first) or append with. answer: the tokens committed since the turn before.

        Raises EdgespecError where the template refuses the conversation.
        """
        first, self._begun = not self._begun, True
        if self._tokenizer.chat_template is None:
            return self._tokenizer.encode(f"{line}\n", add_special_tokens=first)
        if not first:
            self._messages.append({"role": "assistant", "content": ANSWER})
        self._messages.append({"role": "user", "content": line})
        rendered = self._tokenizer.chat(self._messages)
        if first:
            return self._tokenizer.encode(rendered, add_special_tokens=False)
        _, found, behind = rendered.rpartition(ANSWER)
        if not found:
            raise EdgespecError(
                "the chat template leaves earlier answers out, so a next turn cannot follow: use /reset."
            )
        tokens = self._tokenizer.encode(behind, add_special_tokens=False)
        ended = bool(answer) and answer[-1] in self._tokenizer.end_tokens
        return tokens[1:] if ended and tokens and tokens[0] == answer[-1] else tokens
