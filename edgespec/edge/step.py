"""What one step of a session brings its caller."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgespec.edge.statistics import Statistics


@dataclass(frozen=True)
class Step:
    """What one step brought.

    tokens: newly committed token ids; text: what they add to the text (a stop string or half a character is held
    back). logprobs: of these tokens, if asked for. finish_reason: "stop" (end of sequence or stop string), "length"
    (max_new_tokens), "context" (the target's context is full), "cancelled", or None while the text goes on.
    provisional: text that the draft wrote alone, with no server there; revised: how many tokens of such text the
    target has now replaced, or will. Both are empty online; `Session.provisional` is what of it still stands.
    events: what happened to the link since the last step, in words.
    """

    tokens: list[int]
    text: str
    logprobs: list[float] | None
    finish_reason: str | None
    statistics: Statistics
    provisional: str = ""
    revised: int = 0
    events: list[str] = field(default_factory=list)
