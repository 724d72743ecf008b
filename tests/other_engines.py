"""Plays texts on a `TargetEngine` without sockets. Plain texts are those without drafts.

Drafts come from the right text, some of them made wrong. Sessions are left out of forwards at random, and cut back.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import COMMITTED_BIT
from edgespec.model.target_engine import ForwardRequest, TargetEngine
from edgespec.verifying.constraints import Constraints
from edgespec.verifying.verifier import Verifier, VerifierLimits

PARAMS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.9},
    {"temperature": 0.7, "repetition_penalty": 1.2, "min_p": 0.02},
    {"temperature": 1.0, "frequency_penalty": 0.5, "presence_penalty": 0.3},
]


@dataclass
class Job:
    """A text to play."""

    prompt: list[int]
    params: SamplingParams
    seed: int
    guided: bool = False


class Thirds:
    """A guide that needs no tokenizer: a token's id and its place in the text leave the same remainder by three."""

    def __init__(self, vocabulary_size: int) -> None:
        self._remainders = np.arange(-(-vocabulary_size // 32) * 32) % 3

    def masks(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        places = np.array([(len(generated) + len(path)) % 3 for path in paths], dtype=int)
        allowed = self._remainders == places[:, None]
        return np.packbits(allowed, axis=1, bitorder="little").view(np.int32)


def texts_to_play(usual: int) -> int:
    """EDGESPEC_TEXTS asks for another number of texts than the usual one."""
    return int(os.environ.get("EDGESPEC_TEXTS", usual))


def jobs(prompts: Sequence[Sequence[int]]) -> list[Job]:
    """Every prompt with one of the parameters, in turns; every sixth has a guide."""
    return [
        Job(list(prompt), SamplingParams(max_new_tokens=64, **PARAMS[i % len(PARAMS)]), 100 + i, i % 6 == 3)
        for i, prompt in enumerate(prompts)
    ]


class Text:
    """One job on an engine."""

    def __init__(self, engine: TargetEngine, job: Job, tokens: int, prefill_rows: int) -> None:
        limits = VerifierLimits(engine.context_length, prefill_rows=prefill_rows, trees=engine.trees)
        self.job = job
        self.verifier = Verifier(job.prompt, tokens, ServerOptions(fill=True), limits)
        self.cache = engine.open_cache(self.verifier.slots.capacity)
        self.cache.reserve(limits.slots(len(job.prompt) + tokens))
        self._length = len(job.prompt) + tokens
        self._constraints = Constraints(
            job.params, (), Thirds(engine.vocabulary_size) if job.guided else None
        )
        self._next_node = 1

    @property
    def generated(self) -> list[int]:
        return self.verifier.text[len(self.job.prompt) :]

    def draft(self, truth: Sequence[int], draw: random.Random, vocabulary_size: int) -> None:
        """A chain of what comes, with errors, and beside each node another one."""
        parent = COMMITTED_BIT | len(self.verifier.text)
        tokens: list[int] = []
        parents: list[int] = []
        for right in truth[len(self.generated) :][: draw.choice([0, 1, 2, 4, 8])]:
            token = right if draw.random() < 0.8 else draw.randrange(vocabulary_size)
            tokens += [token, (token + 1) % vocabulary_size]
            parents += [parent, parent]
            parent = self._next_node + len(tokens) - 2
        if tokens:
            probabilities = [0.9, 0.3] * (len(tokens) // 2)
            self.verifier.receive(Block(self._next_node, tokens, parents, probabilities))
            self._next_node += len(tokens)

    def cut(self, count: int) -> None:
        """Take the last tokens back: they must come again."""
        keep = len(self.verifier.text) - min(count, len(self.generated))
        self.verifier.append(keep, [], self._length - keep)
        self.verifier.turn_start = len(self.job.prompt)

    def request(self) -> tuple[Any, ForwardRequest]:
        rows = self.verifier.plan()
        paths = [self.verifier.tree.path_tokens(end) for end in rows.nodes]
        constraints = None
        if self._constraints.depend_on_text:
            constraints = self._constraints.of_rows(self.verifier.text, self.verifier.turn_start, paths)
        job = self.job
        return rows, ForwardRequest(
            self.cache,
            rows.piece,
            rows.decide,
            job.params,
            job.seed,
            constraints=constraints,
            text=self.verifier.text,
        )


def play(
    engine: TargetEngine,
    jobs: Sequence[Job],
    tokens: int,
    truth: Sequence[Sequence[int]] | None = None,
    prefill_rows: int = 256,
) -> list[list[int]]:
    """The jobs' texts of this many tokens; truth: what they will be, to draft from. prefill_rows: of a prompt in one
    forward."""
    draw = random.Random(1)
    texts = [Text(engine, job, tokens, prefill_rows) for job in jobs]
    while running := [text for text in texts if text.verifier.finish is None]:
        batch = [text for text in running if truth is None or draw.random() < 0.8] or running[:1]
        planned = []
        for text in batch:
            if truth is not None and draw.random() < 0.05:
                text.cut(draw.randrange(1, 9))
            if truth is not None and text.generated:
                text.draft(truth[texts.index(text)], draw, engine.vocabulary_size)
            planned.append(text.request())
        decisions = engine.forward_batch([request for _, request in planned])
        for text, (rows, _), decided in zip(batch, planned, decisions, strict=True):
            text.verifier.conclude(rows, decided.tokens.tolist(), decided.path.tolist())
    for text in texts:
        text.cache.release()
    return [text.generated for text in texts]


def differing(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if list(a) != list(b)]
