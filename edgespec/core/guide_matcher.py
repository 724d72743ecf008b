"""What guides allow: JSON schemas, regular expressions and grammars, followed along a text by llguidance.

A matcher follows one turn's text. For a draft tree it goes down each path and back again, so that every row has the
tokens that are allowed behind its own path.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.guide import Guide
from edgespec.core.guide_limits import GuideBudget, GuideFailed, parser_limits

CHUNK = 16
"""Tokens of a text that are followed between two looks at the clock."""

COMPACT: Any = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
"""JSON without white space, as small models may write white space without end. A schema's `x-guidance` goes first."""


class Matcher(Protocol):
    """A guide's state behind one turn's text so far."""

    def masks(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        """The tokens allowed behind `generated` and each path, as bits: int32 [paths, ceil(V / 32)]. All bits are set
        behind a path that the guide does not allow itself."""


def allowed_tokens(masks: NDArray[np.int32], vocabulary_size: int) -> NDArray[np.bool_]:
    """bool [paths, V]: what a matcher's masks allow."""
    bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
    return bits[:, :vocabulary_size].view(np.bool_)


class Guides:
    """Makes matchers for one target. tokenizer_path: its tokenizer.json. end_tokens: which end a text. clock_s: where
    a guide's time is bounded, seconds of this thread's processor."""

    def __init__(
        self,
        tokenizer_path: Path | None,
        vocabulary_size: int,
        end_tokens: Collection[int],
        clock_s: Callable[[], float] | None = None,
    ) -> None:
        self._tokenizer_path = tokenizer_path
        self._vocabulary_size = vocabulary_size
        self._end_tokens = list(end_tokens)
        self._clock_s = clock_s
        self._tokenizer: Any = None

    def matcher(self, guide: Guide, spend: Callable[[float], None] | None = None) -> TextMatcher:
        """Raises EdgespecError for a guide that cannot be followed, with what is wrong with it. spend: is told how long
        the guide takes, from here on."""
        if importlib.util.find_spec("llguidance") is None:
            raise EdgespecError(
                "llguidance is not installed here, so no guide can be followed: pip install llguidance."
            )
        if self._tokenizer_path is None or not self._tokenizer_path.is_file():
            raise EdgespecError(
                "this target has no tokenizer.json, which guides need: save it beside its weights."
            )
        if not self._end_tokens:
            raise EdgespecError("this target has no end-of-sequence token, so no guide can end its text.")
        from llguidance import LLMatcher, LLTokenizer

        if self._tokenizer is None:
            content = self._tokenizer_path.read_text(encoding="utf-8")
            self._tokenizer = LLTokenizer(content, self._vocabulary_size, self._end_tokens)
        makers: dict[str, Callable[[str], str]] = {
            "json_schema": lambda schema: LLMatcher.grammar_from_json_schema(schema, COMPACT),
            "regex": LLMatcher.grammar_from_regex,
            "lark": LLMatcher.grammar_from_lark,
        }
        budget = None if self._clock_s is None else GuideBudget(self._clock_s, spend)
        if budget is not None:
            budget.begin()
        try:
            grammar = makers[guide.kind](guide.text)
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=parser_limits())
        except ValueError as error:
            raise EdgespecError(f"the {guide.kind} cannot be used: {error}") from None
        finally:
            if budget is not None:
                budget.compiled()
        if matcher.is_error():
            raise EdgespecError(f"the {guide.kind} cannot be used: {first_line(matcher.get_error())}")
        text_matcher = TextMatcher(matcher, self._vocabulary_size, self._end_tokens, budget)
        text_matcher.check()
        return text_matcher


class TextMatcher:
    """llguidance's matcher behind one turn's text, which it follows by itself. budget: None where its time is free."""

    def __init__(
        self,
        matcher: Any,
        vocabulary_size: int,
        end_tokens: Sequence[int],
        budget: GuideBudget | None = None,
    ) -> None:
        self._beginning = matcher
        self._matcher = matcher.deep_copy()
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens
        self._budget = budget
        self._text: list[int] = []

    def check(self) -> None:
        """Look at the first token and the one behind it: a parser shows only there that a guide is too much for it."""
        [first] = allowed_tokens(self.masks([], [[]]), self._vocabulary_size)
        first[self._end_tokens] = False
        if first.any():
            self.masks([], [[int(first.argmax())]])

    def masks(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        """See `Matcher`. Raises GuideFailed."""
        if self._budget is not None:
            self._budget.begin()
        self._follow(generated)
        allowed = np.full((len(paths), -(-self._vocabulary_size // 32)), -1, dtype=np.int32)
        for row, path in enumerate(paths):
            taken = self._matcher.try_consume_tokens(list(path)) if path else 0
            if taken == len(path):
                self._fill(allowed[row])
            self._check_step(1 + taken)
            if taken:
                self._matcher.rollback(taken)
        return allowed

    def _follow(self, generated: Sequence[int]) -> None:
        """Come to be behind `generated`: by what is new of it, or from its beginning in another turn."""
        known = len(self._text)
        if list(generated[:known]) != self._text:
            self._matcher = self._beginning.deep_copy()
            known = 0
        for start in range(known, len(generated), CHUNK):
            tokens = list(generated[start : start + CHUNK])
            self._matcher.consume_tokens(tokens)
            self._check_step(len(tokens))
        self._text = list(generated)

    def _check_step(self, tokens: int) -> None:
        """A matcher that has failed allows only the end tokens from then on."""
        if self._matcher.is_error():
            reason = first_line(self._matcher.get_error())
            if "satisfy the grammar" in reason:
                raise GuideFailed(f"the text does not match its guide: {reason}")
            raise GuideFailed(
                f"the guide is too large or too ambiguous to follow: make it smaller or less ambiguous ({reason})."
            )
        if self._budget is not None:
            self._budget.charge(tokens)

    def _fill(self, row: NDArray[np.int32]) -> None:
        if self._matcher.is_stopped():
            row[:] = 0
            bits = row.view(np.uint32)
            for token in self._end_tokens:
                bits[token // 32] |= np.uint32(1 << token % 32)
            return
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
