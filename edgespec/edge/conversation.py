"""A conversation as tokens: each turn is what the chat template adds to the text that is already committed.

The first turn is a rendered prompt. A later one is what follows in the tokens of the whole rendered conversation, so
that draft and target read nothing twice and the text is what the template makes of all messages at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.prompt import Chat, Prompt

ANSWER = "edgespec-answer-7f3a"
"""Stands for an answer whose tokens are not those that its text has: then only what comes behind it is taken."""

NOT_KNOWN = -1
"""Stands for the tokens of a turn with pictures: how many rows these take is known to the session alone."""


class Conversation:
    """The user's turns of one conversation; a model without a chat template continues the plain lines.

    variables: given to the chat template, such as enable_thinking or tools.
    """

    def __init__(
        self, tokenizer: Tokenizer, system: str | None = None, variables: Mapping[str, Any] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._messages = [] if system is None else [{"role": "system", "content": system}]
        self._variables = dict(variables or {})
        self._committed: list[int] = []

    def first_turn(self, line: str, pictures: Sequence[object]) -> Prompt:
        """A first turn that begins with pictures (see `Session.prompt`). Later ones follow by `next_turn`."""
        question = {"role": "user", "content": line}
        if self._tokenizer.chat_template is None:
            self._committed = [NOT_KNOWN]
            return [*pictures, f"{line}\n"]
        content = [
            *({"type": "image", "image": picture} for picture in pictures),
            {"type": "text", "text": line},
        ]
        messages: list[Mapping[str, Any]] = [*self._messages, {"role": "user", "content": content}]
        self._messages.append(question)
        self._committed = [NOT_KNOWN]
        return Chat(messages)

    def next_turn(self, line: str, answer: Sequence[int]) -> list[int]:
        """The tokens to prompt (first) or append with. answer: the tokens committed since the turn before.

        Raises EdgespecError where the template refuses the conversation.
        """
        tokens = self._turn(line, answer)
        self._committed += [*answer, *tokens]
        return tokens

    def _turn(self, line: str, answer: Sequence[int]) -> list[int]:
        tokenizer = self._tokenizer
        if tokenizer.chat_template is None:
            return tokenizer.encode(f"{line}\n", add_special_tokens=not self._committed)
        question = {"role": "user", "content": line}
        if not self._committed:
            self._messages.append(question)
            return tokenizer.encode(self._render(self._messages), add_special_tokens=False)
        earlier, text = self._messages, tokenizer.decode(answer).strip()
        self._messages = [*earlier, {"role": "assistant", "content": text}, question]
        committed = [*self._committed, *answer]
        whole = tokenizer.encode(self._render(self._messages), add_special_tokens=False)
        if whole[: len(committed)] == committed and len(whole) > len(committed):
            return whole[len(committed) :]
        return self._behind([*earlier, {"role": "assistant", "content": ANSWER}, question], answer)

    def _behind(self, messages: Sequence[Mapping[str, str]], answer: Sequence[int]) -> list[int]:
        """What the template puts behind ANSWER; from its end token on, where the answer has that already."""
        rendered = self._render(messages)
        start = rendered.rfind(ANSWER)
        if start < 0:
            raise EdgespecError(
                "the chat template leaves earlier answers out, so a next turn cannot follow: use /reset."
            )
        tokens = self._tokenizer.encode_behind(rendered, start + len(ANSWER))
        ended = answer and answer[-1] in self._tokenizer.end_tokens and answer[-1] in tokens
        return tokens[tokens.index(answer[-1]) + 1 :] if ended else tokens

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._tokenizer.chat(messages, **self._variables)
