"""What benchmarks/fleet.py says of the texts that its devices wrote: pure functions of their outcomes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from benchmarks.devices import Outcome
from edgespec.cli.demo.figures import OVERRUN

HORIZON_S = 600


def gap_s(text: Outcome) -> float:
    """The longest time between tokens."""
    times_s = [one.at_s for one in text.arrivals]
    return max((after - before for before, after in itertools.pairwise(times_s)), default=0.0)


def first_s(text: Outcome) -> float:
    """From the opening of the session to the first token."""
    return text.arrivals[0].at_s - text.began_s if text.arrivals else 0.0


def token_ms(texts: Sequence[Outcome]) -> float:
    """A token's share of the time from before its session was opened to its text's end."""
    spent_s = sum(text.arrivals[-1].at_s - text.began_s for text in texts)
    return 1e3 * spent_s / sum(len(text.tokens) for text in texts)


def runs_at(text: Outcome, at_s: float) -> bool:
    """Whether it has tokens and waits for more."""
    return bool(text.arrivals) and text.arrivals[0].at_s <= at_s < text.arrivals[-1].at_s


def tokens_between(texts: Sequence[Outcome], began_s: float, ended_s: float) -> int:
    return sum(one.tokens for text in texts for one in text.arrivals if began_s <= one.at_s < ended_s)


def overrun_share(texts: Sequence[Outcome], forward_ms: float) -> float:
    """Of the forwards, those that took longer than their pace. Those that read a text's own prompt are left out."""
    forwards = [one.forward_ms for text in texts for one in text.arrivals[1:]]
    return sum(one > forward_ms * OVERRUN for one in forwards) / max(1, len(forwards))


def spread_s(texts: Sequence[Outcome], after_s: float, lost: str, servers: int, each: float) -> float | None:
    """Seconds from `after_s` until `servers` servers, the lost one left out, have at least `each` running texts; None:
    never."""
    for seconds in range(1, HORIZON_S):
        at_s = after_s + seconds
        there = Counter(_server_at(text, at_s) for text in texts if runs_at(text, at_s))
        if sum(count >= each for server, count in there.items() if server != lost) >= servers:
            return float(seconds)
    return None


def _server_at(text: Outcome, at_s: float) -> str:
    return next(one.server for one in reversed(text.arrivals) if one.at_s <= at_s)
