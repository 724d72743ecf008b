"""Token ids -> streamed text: what is certain is handed out at once, what may still change is held back.

Held back are a cut-off UTF-8 sequence and the beginning of a possible stop string. Detokenisation is incremental, as
in vLLM and in transformers' streamers: each step decodes a short window whose beginning is text already handed out
(decoders treat the first token of a text differently), so a text takes time linear in its length. Pure.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
HELD_TOKENS = 8
"""A window holds at most this many tokens of unfinished text (UTF-8 takes four bytes a character)."""

FIRST_MARK, MOST_MARKS = 0xD800, 0x800
_MARKS = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TextPiece:
    """text: newly certain text. tokens_used: how many of the pushed tokens belong to it (fewer only at a stop string,
    up to and including the token that completed it). stopped: the stop string that ended the text, before which it
    was cut."""

    text: str
    tokens_used: int
    stopped: str | None = None


class TextStream:
    """Text of a stream of tokens; however the stream is cut into pushes, the text is the same.

    decode: ids -> text, U+FFFD for broken UTF-8. stop: strings that end the text; the one completed first counts.
    context: the tokens before the stream (a few suffice), so that its first token is not taken for a text's first.
    special: texts of tokens that `decode` leaves out; a stop string may hold them.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        stop: Sequence[str] = (),
        context: Sequence[int] = (),
        special: Mapping[int, str] | None = None,
    ) -> None:
        self._decode = decode
        self._marks, self._stop = _marked(stop, special or {})
        self._window = list(context)[-HELD_TOKENS:]
        self._known = len(self._window)
        self._shown = len(decode(self._window)) if self._window else 0
        self._held = ""
        self.stopped: str | None = None

    def fork(self) -> TextStream:
        """Another stream that stands where this one does."""
        other = copy.copy(self)
        other._window = list(self._window)
        return other

    def push(self, tokens: Sequence[int]) -> TextPiece:
        """Take the next tokens. After a stop string nothing more is taken."""
        text = []
        used = 0
        for token in tokens:
            if self.stopped is not None:
                break
            text.append(self._release(self._next(int(token)) + self._marks.get(int(token), "")))
            used += 1
        return TextPiece("".join(text), used, self.stopped)

    def flush(self) -> str:
        """The text ends here: what was held back."""
        rest = (
            ""
            if self.stopped is not None
            else self._decode(self._window)[self._shown :]
            if self._window
            else ""
        )
        released = self._release(rest)
        held, self._held = _MARKS.sub("", self._held), ""
        self._window, self._known, self._shown = [], 0, 0
        return released + held

    def _next(self, token: int) -> str:
        """The text that became certain with one more token."""
        self._window.append(token)
        text = self._decode(self._window)
        certain = len(text.rstrip(REPLACEMENT))
        fresh = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if certain == len(text) and fresh:
            self._slide(self._known, len(self._window) - self._known)
        elif len(self._window) - self._known >= HELD_TOKENS:
            fresh += self._give_up(text)
        return fresh

    def _slide(self, start: int, known: int) -> None:
        """Drop the window's tokens before `start`; of the rest, `known` were shown and only lead the next ones."""
        self._window = self._window[start:]
        self._known = known
        self._shown = len(self._decode(self._window[:known]))

    def _give_up(self, text: str) -> str:
        """The window is full of tokens without (whole) characters: show all but its end, broken as it is."""
        end = len(self._window)
        for split in range(end - 1, self._known, -1):
            head = self._decode(self._window[:split])
            if head + self._decode(self._window[split:]) == text:
                break
        else:
            split, head = end, text
        fresh = head[self._shown :]
        if len(head) > len(self._decode(self._window[: self._known])):
            ahead = max(0, self._shown - len(head))
            self._slide(self._known, split - self._known)
            self._shown += ahead
        else:
            del self._window[self._known : split]
        return fresh

    def _release(self, fresh: str) -> str:
        """What of the held text and `fresh` is no beginning of a stop string; cut, for good, before a whole one."""
        if not self._stop or self.stopped is not None:
            return fresh if self.stopped is None else ""
        text = self._held + fresh
        ends = [
            (start + len(marked), start, stop)
            for marked, stop in self._stop.items()
            if (start := text.find(marked)) >= 0
        ]
        if ends:
            _, start, self.stopped = min(ends)
            self._held = ""
            return _MARKS.sub("", text[:start])
        keep = max(_overlap(text, marked) for marked in self._stop)
        self._held = text[len(text) - keep :]
        return _MARKS.sub("", text[: len(text) - keep])


def _marked(stop: Sequence[str], special: Mapping[int, str]) -> tuple[dict[int, str], dict[str, str]]:
    """The marks, by id, of the special tokens that stop strings hold: a lone surrogate each, which no decoded text
    holds; and the stop strings by what they are with these marks."""
    texts = sorted({text for text in special.values() if text and any(text in one for one in stop)})
    marks = {text: chr(FIRST_MARK + number) for number, text in enumerate(texts[:MOST_MARKS])}
    marked = {}
    for one in stop:
        with_marks = one
        for text in sorted(marks, key=len, reverse=True):
            with_marks = with_marks.replace(text, marks[text])
        marked[with_marks] = one
    return {token: marks[text] for token, text in special.items() if text in marks}, marked


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
