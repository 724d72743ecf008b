"""What a stage learns from: its data in the target's tokens, on disk, and held-out prompts.

The tokens are written once into the work folder and mapped from there: a run that goes on does not read the data
again, and memory does not grow with the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgespec.core.errors import EdgespecError
from edgespec.core.json_files import read_object
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.whole_files import save_json
from edgespec.train.answers import Answer
from edgespec.train.data import HELD_OUT_SHARE, Record, Row, is_held_out, row
from edgespec.train.packing import Stream

TOKENS, LEARNT = "tokens.bin", "learnt.bin"
OPENING = 64
LEAST_TOKENS = 256
MOST_HELD_OUT_TOKENS = 1 << 20
_JUDGED_CHARACTERS = 1 << 18
_MOST_TOKENS_A_BYTE = 0.6
_LEAST_KEPT_CHARACTERS = 0.7


@dataclass
class Material:
    """folder: where the tokens lie. prompts: held-out ones, token ids; held_out: token ids of held-out text without
    prompts. asked: the prompts of the rows to train on, where those were wanted."""

    folder: Path
    prompts: list[list[int]] = field(default_factory=list)
    held_out: list[int] = field(default_factory=list)
    asked: list[list[int]] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        """The tokens to train on, mapped."""
        tokens, learnt = (self.folder / name for name in (TOKENS, LEARNT))
        return Stream(np.memmap(tokens, np.int32, "r"), np.memmap(learnt, np.bool_, "r"))

    def windows(self, count: int, length: int, seed: int) -> list[list[int]]:
        """`count` prompts: held-out ones, or else windows of `length` tokens of held-out text."""
        if self.prompts:
            return self.prompts[:count]
        room = max(1, len(self.held_out) - length)
        first = int(np.random.default_rng(seed).integers(max(1, room // count)))
        starts = (first + np.arange(count) * max(1, room // count)) % room
        return [self.held_out[start : start + length] for start in starts.tolist()]


def gather(
    source: Iterable[Record], tokenizer: Tokenizer, folder: Path, most_tokens: int, most_prompts: int = 0
) -> Material:
    """Split the rows and write those to train on into `folder`, or take what an earlier run wrote there. most_prompts:
    end after this number of prompts to train on. Raises EdgespecError where there is nothing to train on or the
    tokenizer is of another language."""
    kept = folder / "material.json"
    if kept.is_file():
        return Material(folder, **read_object(kept, f"delete {folder} to begin anew"))
    material, judge = Material(folder), _Judge(tokenizer)
    written = read = 0
    with (folder / TOKENS).open("wb") as tokens, (folder / LEARNT).open("wb") as learnt:
        for name, fields in source:
            read += 1
            found = row(fields, tokenizer)
            if found is None:
                continue
            judge.see(found)
            if is_held_out(name) or (found.prompt and not material.prompts):
                _hold_out(found, material)
                continue
            if most_prompts:
                material.asked += [found.prompt] if found.prompt else _openings(found.answer)
            else:
                written += _write(found, tokens, learnt)
            if written >= most_tokens or 0 < most_prompts <= len(material.asked):
                break
        if material.held_out and not (written or material.asked):  # chance held everything out
            text, material.held_out = material.held_out, []
            if most_prompts:
                material.asked += _openings(text)
            else:
                written += _write(Row([], text), tokens, learnt)
    judge.check()
    if not (material.asked if most_prompts else written >= LEAST_TOKENS):
        raise EdgespecError(
            f"the data holds too little to train on ({read} rows, {written} tokens that can be used): give more text, "
            "or JSONL or parquet rows with `text`, `prompt` and `completion`, or `messages`."
        )
    if not material.prompts and not material.held_out:
        _hold_out_the_end(material)
    save_json({name: getattr(material, name) for name in ("prompts", "held_out", "asked")}, kept)
    return material


def write_answers(material: Material, answers: Iterable[Answer]) -> None:
    """Let these answers be what is trained on."""
    with (material.folder / TOKENS).open("wb") as tokens, (material.folder / LEARNT).open("wb") as learnt:
        for answer in answers:
            _write(Row(answer.prompt, answer.tokens), tokens, learnt)


def _openings(text: list[int]) -> list[list[int]]:
    """Plain text as prompts: a few tokens of every thousand."""
    return [text[start : start + OPENING] for start in range(0, len(text) - OPENING // 2, 1024)]


def _write(found: Row, tokens: BinaryIO, learnt: BinaryIO) -> int:
    """Rows without an answer bring nothing to learn."""
    if not found.answer:
        return 0
    whole = [*found.prompt, *found.answer]
    tokens.write(np.array(whole, dtype=np.int32).tobytes())
    learnt.write(bytes(len(found.prompt)) + b"\1" * len(found.answer))
    return len(whole)


def _hold_out(found: Row, material: Material) -> None:
    if found.prompt:
        material.prompts.append(found.prompt)
    elif len(material.held_out) < MOST_HELD_OUT_TOKENS:
        material.held_out += found.answer


def _hold_out_the_end(material: Material) -> None:
    """Where chance held nothing out: the last prompts, or the last tokens."""
    if material.asked:
        last = max(1, len(material.asked) // HELD_OUT_SHARE)
        material.prompts, material.asked = material.asked[-last:], material.asked[:-last] or material.asked
        return
    stream = material.stream
    keep = len(stream) - max(LEAST_TOKENS // 4, len(stream) // HELD_OUT_SHARE)
    material.held_out = stream.tokens[keep:].tolist()
    for name, size in ((TOKENS, 4), (LEARNT, 1)):
        with (material.folder / name).open("r+b") as file:
            file.truncate(keep * size)


class _Judge:
    """Whether the tokenizer is made for the text: judged on its first characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._characters = self._kept = self._bytes = self._tokens = 0

    def see(self, found: Row) -> None:
        if not found.text or self._characters >= _JUDGED_CHARACTERS:
            return
        ids = self._tokenizer.encode(found.text, add_special_tokens=False)
        self._characters += len(found.text)
        self._bytes += len(found.text.encode("utf-8", errors="replace"))
        self._tokens += len(ids)
        self._kept += sum((Counter(found.text) & Counter(self._tokenizer.decode(ids))).values())

    def check(self) -> None:
        if not self._characters:
            return
        kept, a_byte = self._kept / self._characters, self._tokens / self._bytes
        if kept < _LEAST_KEPT_CHARACTERS or a_byte > _MOST_TOKENS_A_BYTE:
            raise EdgespecError(
                f"the tokenizer is of another language than the data: it keeps {kept:.0%} of the characters and needs "
                f"{a_byte:.2f} tokens a byte; give data in a language that the target knows."
            )
