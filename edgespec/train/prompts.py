"""Prompts from the standard library's held-out sources: files on which neither tokenizer nor models were trained."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from edgespec.core.tokenizer import Tokenizer
from edgespec.train.corpus import collect


def held_out_prompts(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """`count` pieces of 16 to 96 tokens each; the same in every call."""
    return list(itertools.islice(_stretches(tokenizer), count))


def _stretches(tokenizer: Tokenizer) -> Iterator[list[int]]:
    held_out = collect().held_out
    rng = random.Random(0)
    while True:
        tokens = tokenizer.encode(rng.choice(held_out).text)
        length = rng.randint(16, 96)
        if len(tokens) > length:
            start = rng.randrange(len(tokens) - length)
            yield tokens[start : start + length]
