"""The target's own answers to prompts, by its batched forwards, kept as JSONL.

They are what a draft's acceptance is made of: a session with the same prompt, temperature and seed writes the same
text. A run that goes on answers only what its file lacks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET, SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest

AT_ONCE = 48
"""Answers that share the target's forwards."""


@dataclass(frozen=True)
class Answer:
    """Token ids of a prompt and of what the target continues it with at this temperature and seed."""

    prompt: list[int]
    temperature: float
    seed: int
    tokens: list[int]

    @property
    def text(self) -> list[int]:
        return [*self.prompt, *self.tokens]


def questions(
    prompts: Sequence[list[int]], count: int, temperatures: Sequence[float], seed: int
) -> list[Answer]:
    """`count` answers to be had: the prompts in turn, each time at another temperature, each with its own seed."""
    rounds = [(number, number // len(prompts)) for number in range(count)]
    return [
        Answer(
            prompts[number % len(prompts)],
            temperatures[(number % len(prompts) + again) % len(temperatures)],
            (seed << 32) + number,
            [],
        )
        for number, again in rounds
    ]


def answered(
    target: Target, wanted: Sequence[Answer], new_tokens: int, file: Path, tokenizer: Tokenizer, quiet: bool
) -> list[Answer]:
    """The answers to `wanted`, in that order, of which `file` may hold some already; all of them are in it then."""
    have = {one.seed: one for one in read_answers(file)} if file.is_file() else {}
    missing = [one for one in wanted if one.seed not in have]
    bar = tqdm(
        total=len(wanted), initial=len(wanted) - len(missing), desc=file.stem, disable=quiet, leave=False
    )
    with file.open("a", encoding="utf-8") as out, bar:
        for one in answer(target, missing, new_tokens):
            texts = {"prompt": tokenizer.decode(one.prompt), "completion": tokenizer.decode(one.tokens)}
            ids = {"prompt_tokens": one.prompt, "answer_tokens": one.tokens}
            line = json.dumps({**texts, **ids, "temperature": one.temperature, "seed": one.seed})
            out.write(line + "\n")
            out.flush()
            have[one.seed] = one
            bar.update()
    return [have[one.seed] for one in wanted]


def read_answers(file: Path) -> Iterator[Answer]:
    """What `answered` wrote; a last line that was cut off is dropped from the file."""
    lines = file.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        file.write_bytes(b"".join(lines[:-1]))
    for line in lines:
        if line.endswith(b"\n"):
            fields = json.loads(line)
            yield Answer(
                fields["prompt_tokens"], fields["temperature"], fields["seed"], fields["answer_tokens"]
            )


def answer(target: Target, wanted: Sequence[Answer], new_tokens: int) -> Iterator[Answer]:
    """Each answer as it is finished: by an end token, after `new_tokens`, or at the context's end."""
    waiting, active = list(reversed(wanted)), list[_Writing]()
    pages = target.pages.count - 1
    while waiting or active:
        while waiting and len(active) < AT_ONCE:
            one = waiting[-1]
            room = min(len(one.prompt) + new_tokens, target.context_length)
            needed = sum(other.pages for other in active) + -(-room // SLOT_BUCKET) + 1
            if active and needed > pages:
                break
            active.append(_Writing(target, waiting.pop(), room))
        decisions = target.forward_batch([one.request() for one in active], exit_layers=())
        for writing, decided in zip(active, decisions, strict=True):
            writing.tokens.append(int(decided.tokens[0]))
        for done in [other for other in active if other.finished(target.end_tokens)]:
            active.remove(done)
            done.cache.release()
            yield replace(done.question, tokens=done.tokens)


class _Writing:
    """An answer that is being written."""

    def __init__(self, target: Target, question: Answer, room: int) -> None:
        self.question = question
        self.tokens: list[int] = []
        slots = -(-room // SLOT_BUCKET) * SLOT_BUCKET
        self.pages = slots // SLOT_BUCKET + 1
        self.cache = target.open_cache(slots)
        self._room = room
        self._slots = SlotMap(slots)
        self._sampling = SamplingParams(temperature=question.temperature, seed=question.seed)

    def request(self) -> ForwardRequest:
        text = [*self.question.prompt, *self.tokens]
        piece = self._slots.plan(text, len(text), DraftTree(len(text)), [])
        return ForwardRequest(
            self.cache, piece, np.array([len(piece) - 1]), self._sampling, self.question.seed
        )

    def finished(self, end_tokens: Sequence[int]) -> bool:
        return self.tokens[-1] in end_tokens or len(self.question.prompt) + len(self.tokens) >= self._room
