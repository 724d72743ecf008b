"""How a session samples: `SamplingParams`, checked once, here.

A parameter is honoured or refused, never ignored: what a server cannot do yet it refuses when the session opens.
The text is a function of (target, prompt, these parameters, seed) and of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgespec.core.errors import EdgespecError, shown
from edgespec.core.guide import Guide

RANGES = {
    "temperature": (1e-7, 1e7),
    "top_p": (1e-9, 1.0),
    "min_p": (0.0, 0.999999),
    "repetition_penalty": (1e-3, 1e3),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
"""The least and the most of each number, whoever gives it. Within them all scores stay finite in float32. A temperature
may be 0 too."""

MOST_BIAS = 1e9
"""The largest logit bias, either way."""

MOST_TOP_LOGPROBS = 20

MOST_BIASES, MOST_STOP_TOKENS, MOST_BAD_TOKENS = 1024, 128, 4096
"""Every row of a forward may have to look at each of them."""


class ParameterError(EdgespecError):
    """A sampling parameter has a value that means nothing, or that the server cannot honour."""


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters of one session, named as transformers and vLLM name them.

    temperature: 0 is greedy. Above it, coupled sampling with counter-based noise. `RANGES` has all numbers' bounds.
    top_k: keep the k likeliest tokens; 0 keeps all.
    top_p: keep the smallest set of tokens whose probability reaches p; 1 keeps all.
    min_p: drop tokens less likely than min_p times the likeliest; 0 keeps all.
    repetition_penalty: divides positive and multiplies negative logits of tokens already in the text; 1 is none.
    logit_bias: token id -> value added to its logit, from -1e9 to 1e9; 1024 tokens at most.
    presence_penalty: subtracted from the logits of tokens that this turn's text has; 0 is none, -2 to 2.
    frequency_penalty: the same, once for each time that the text has the token. Both apply before repetition_penalty.
    min_tokens: no end-of-sequence or stop token before this turn's text has this many.
    stop_token_ids: tokens that end the text, which keeps them, as end-of-sequence tokens do; 128 at most.
    bad_words: strings that the text must not have, as the tokenizer writes them alone and behind a space;
        an `edgespec.Session` adds their tokens to bad_words_ids.
    bad_words_ids: sequences of tokens whose last one may not come behind the others.
    guide: a JSON schema, regular expression or grammar that this turn's text must match; None: any text.
    seed: of the noise, 0 to 2^64 - 1; None: each session draws one.
    max_new_tokens: committed after the prompt (or after each appended turn).
    stop: strings that end the text, which is cut before them.
    ignore_eos: go on after the target's end-of-sequence tokens.
    logprobs: report each committed token's log-probability under the target's raw logits.
    top_logprobs: report the likeliest tokens at each committed token's position too, this many, 20 at most; 0 is none.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    guide: Guide | None = None
    seed: int | None = None
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        object.__setattr__(self, "stop", tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        object.__setattr__(self, "bad_words", tuple(self.bad_words))
        object.__setattr__(self, "bad_words_ids", tuple(tuple(one) for one in self.bad_words_ids))
        for name, holds, expected in self._checks():
            if not holds:
                raise ParameterError(f"{name} must be {expected}, not {shown(getattr(self, name))}.")
        if self.guide is not None and self.ignore_eos:
            raise ParameterError(
                "ignore_eos contradicts a guide, which ends its text with an end-of-sequence token: leave it out."
            )
        if self.top_logprobs and not self.logprobs:
            raise ParameterError("top_logprobs come beside the tokens' own: set logprobs too.")
        if self.min_tokens > self.max_new_tokens:
            raise ParameterError(
                f"min_tokens is {self.min_tokens}, above max_new_tokens, which is {self.max_new_tokens}."
            )

    def ends(self, end_tokens: Iterable[int]) -> tuple[int, ...]:
        """The tokens that end a text. end_tokens: the model's own."""
        return (*(() if self.ignore_eos else end_tokens), *self.stop_token_ids)

    def _checks(self) -> tuple[tuple[str, bool, str], ...]:
        """Of each parameter: its name, whether it is as it must be, and what it must be."""
        biases = self.logit_bias.items()
        return (
            *((name, self._in_range(name), _expected(name)) for name in RANGES),
            ("top_k", _whole(self.top_k, 0, 2**31), "a whole number from 0 (off)"),
            ("seed", self.seed is None or _whole(self.seed, 0, 2**64), "a whole number from 0 to 2^64 - 1"),
            ("max_new_tokens", _whole(self.max_new_tokens, 1, 2**31), "a whole number from 1"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "strings that are not empty"),
            ("min_tokens", _whole(self.min_tokens, 0, 2**31), "a whole number from 0"),
            (
                "stop_token_ids",
                len(self.stop_token_ids) <= MOST_STOP_TOKENS
                and all(_whole(token, 0, 2**31) for token in self.stop_token_ids),
                f"{MOST_STOP_TOKENS} token ids at most",
            ),
            (
                "bad_words",
                all(isinstance(one, str) and one for one in self.bad_words),
                "strings that are not empty",
            ),
            (
                "bad_words_ids",
                sum(map(len, self.bad_words_ids)) <= MOST_BAD_TOKENS
                and all(map(_sequence, self.bad_words_ids)),
                f"lists of token ids that are not empty, {MOST_BAD_TOKENS} tokens in all at most",
            ),
            (
                "top_logprobs",
                _whole(self.top_logprobs, 0, MOST_TOP_LOGPROBS + 1),
                f"a whole number from 0 to {MOST_TOP_LOGPROBS}",
            ),
            ("guide", self.guide is None or isinstance(self.guide, Guide), "an edgespec.Guide"),
            (
                "logit_bias",
                len(biases) <= MOST_BIASES
                and all(_whole(t, 0) and _number(b) and abs(b) <= MOST_BIAS for t, b in biases),
                f"token id -> number from -{MOST_BIAS:g} to {MOST_BIAS:g}, {MOST_BIASES} at most",
            ),
        )

    def _in_range(self, name: str) -> bool:
        value, (least, most) = getattr(self, name), RANGES[name]
        return _number(value) and (least <= value <= most or (name == "temperature" and value == 0))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


def _sequence(value: tuple[object, ...]) -> bool:
    return bool(value) and all(_whole(token, 0, 2**31) for token in value)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _expected(name: str) -> str:
    least, most = RANGES[name]
    return f"{'0, or ' * (name == 'temperature')}from {least:g} to {most:g}"


def _whole(value: object, least: int, below: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < below
