"""How much a guide may cost whoever follows it: memory, steps of its parser, and time a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgespec.core.errors import EdgespecError

FREE_MS = 1.0
"""Milliseconds of the processor that a token may always take; ordinary guides take 0.2 of a vocabulary of 49,152."""
BURST_MS = 64.0
"""What a guide may take beyond that: a token of 5 ms sixteen times in a row."""

MOST_LEXER_STATES = 10_000
MATCHER_BYTES = MOST_LEXER_STATES * 2048
"""Of one text's guide, at most: a state takes 1 to 2 kB."""


class GuideFailed(EdgespecError):
    """A guide that cannot be followed any further: it is too large, too ambiguous, or its text does not match it."""


def parser_limits() -> Any:
    """llguidance's limits, a fifth or less of its own except for the items of a row. Ordinary guides stay far below:
    a schema of 200 properties needs 2,000 items a step and 800 a row; a string of up to 4,000 characters, 4,000 states.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=2000,
        initial_lexer_fuel=200_000,
        step_lexer_fuel=40_000,
        step_max_items=10_000,
        max_lexer_states=MOST_LEXER_STATES,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


class GuideBudget:
    """The time that one session's guide takes. clock_s: seconds of this thread's processor. spend: is told of all of
    it, for whoever pays."""

    def __init__(self, clock_s: Callable[[], float], spend: Callable[[float], None] | None = None) -> None:
        self._clock_s = clock_s
        self._spend = spend
        self._start_s = 0.0
        self._tokens = 0
        self._ms = 0.0

    def begin(self) -> None:
        """What comes now is for the guide."""
        self._start_s = self._clock_s()

    def compiled(self) -> None:
        """It was compiled since `begin`."""
        self._passed_s()

    def charge(self, tokens: int) -> None:
        """This many tokens were followed, or masks made, since `begin` or the last charge. Raises GuideFailed."""
        self._ms += self._passed_s() * 1e3
        self._tokens += tokens
        over_ms = self._ms - FREE_MS * self._tokens
        if over_ms > BURST_MS:
            raise GuideFailed(
                f"the guide takes {self._ms / self._tokens:.1f} ms a token to follow, and {FREE_MS:g} ms is the most: "
                "make it smaller or less ambiguous."
            )
        if over_ms <= 0:
            self._ms, self._tokens = 0.0, 0

    def _passed_s(self) -> float:
        """Since `begin`, or since this was asked last."""
        now_s = self._clock_s()
        passed_s, self._start_s = now_s - self._start_s, now_s
        if self._spend is not None:
            self._spend(passed_s)
        return passed_s
