"""Traces of a pair: what draft and exits answered along the target's own texts, kept in a small file and replayed.

A trace holds, for each recorded prompt, the target's text and at every position of it the draft's ranked alternatives
and the exits' guesses, with their calibrated probabilities. `edgespec.train.recording` makes one from a real pair;
`TraceModel` answers from it. numpy only.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError

FORMAT_VERSION = 1

COLUMNS: dict[str, np.dtype[Any]] = {
    "prompt_lengths": np.dtype(np.int32),
    "lengths": np.dtype(np.int32),
    "prompt_tokens": np.dtype(np.int32),
    "tokens": np.dtype(np.int32),
    "draft_tokens": np.dtype(np.int32),
    "draft_probabilities": np.dtype(np.float16),
    "exit_tokens": np.dtype(np.int32),
    "exit_probabilities": np.dtype(np.float16),
}


@dataclass(frozen=True)
class RecordedText:
    """One prompt and the N tokens with which the target continued it.

    draft_tokens int32 [N, ranks], draft_probabilities float [N, ranks]: the draft's alternatives for each of them, best
    first. exit_tokens int32 [N, exits], exit_probabilities float [N, exits]: what each exit guessed.
    """

    prompt: list[int]
    tokens: list[int]
    draft_tokens: NDArray[np.int32]
    draft_probabilities: NDArray[np.floating[Any]]
    exit_tokens: NDArray[np.int32]
    exit_probabilities: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Trace:
    """Texts of one pair at one temperature. exits: layers, and the share of a forward after which each reports."""

    target: str
    temperature: float
    exits: tuple[tuple[int, float], ...]
    texts: tuple[RecordedText, ...]

    @property
    def acceptance(self) -> float:
        """How often the draft's first choice is what the target says."""
        right = [np.array(one.tokens) == one.draft_tokens[:, 0] for one in self.texts]
        return float(np.concatenate(right).mean())

    @property
    def exit_agreement(self) -> dict[int, float]:
        """How often each exit is right, by layer."""
        return {
            layer: float(
                np.concatenate([np.array(one.tokens) == one.exit_tokens[:, i] for one in self.texts]).mean()
            )
            for i, (layer, _) in enumerate(self.exits)
        }

    def save(self, file: Path) -> None:
        """Write it. Raises EdgespecError where that cannot be done."""
        columns: dict[str, Any] = {
            "prompt_lengths": [len(one.prompt) for one in self.texts],
            "lengths": [len(one.tokens) for one in self.texts],
            "prompt_tokens": [token for one in self.texts for token in one.prompt],
            "tokens": [token for one in self.texts for token in one.tokens],
            **{
                name: np.concatenate([getattr(one, name) for one in self.texts])
                for name in ("draft_tokens", "draft_probabilities", "exit_tokens", "exit_probabilities")
            },
        }
        stored: dict[str, Any] = {name: np.asarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
        try:
            with file.open("wb") as out:
                np.savez_compressed(
                    out,
                    version=np.array(FORMAT_VERSION),
                    target=np.array(self.target),
                    temperature=np.array(self.temperature),
                    exits=np.array(self.exits, dtype=np.float64).reshape(-1, 2),
                    **stored,
                )
        except OSError as error:
            raise EdgespecError(f"the trace cannot be written to {file}: {error}.") from None

    @classmethod
    def load(cls, file: Path) -> Trace:
        """Read what `save` wrote. Raises EdgespecError for a file that is damaged, or of another version."""
        try:
            with np.load(file, allow_pickle=False) as stored:
                fields = {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            raise EdgespecError(
                f"there is no trace {file}: record one with `edgespec plan --record FILE`."
            ) from None
        except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
            raise _damaged(file) from None
        version = fields.get("version")
        if version is not None and version.shape == () and version != FORMAT_VERSION:
            raise EdgespecError(
                f"{file} is a trace of version {version}, and this edgespec reads version {FORMAT_VERSION}: record it "
                "again with `edgespec plan --record FILE`."
            )
        if version is None or not _sound(fields):
            raise _damaged(file)
        return cls(
            str(fields["target"]),
            float(fields["temperature"]),
            tuple((int(layer), float(share)) for layer, share in fields["exits"]),
            tuple(_texts(fields)),
        )


def _texts(fields: dict[str, NDArray[Any]]) -> list[RecordedText]:
    ends = np.cumsum(fields["lengths"])[:-1]
    prompts = np.split(fields["prompt_tokens"], np.cumsum(fields["prompt_lengths"])[:-1])
    names = ("tokens", "draft_tokens", "draft_probabilities", "exit_tokens", "exit_probabilities")
    columns = zip(*(np.split(fields[name], ends) for name in names), strict=True)
    return [
        RecordedText(prompt.tolist(), tokens.tolist(), *rest)
        for prompt, (tokens, *rest) in zip(prompts, columns, strict=True)
    ]


def _sound(fields: dict[str, NDArray[Any]]) -> bool:
    """Every column is there, of its type and length, and every probability lies between 0 and 1."""
    if not {*COLUMNS, "target", "temperature", "exits"} <= set(fields):
        return False
    if any(fields[name].dtype != dtype for name, dtype in COLUMNS.items()):
        return False
    if fields["temperature"].dtype != np.float64 or fields["exits"].dtype != np.float64:
        return False
    exits, count = fields["exits"], len(fields["tokens"])
    lengths: Sequence[NDArray[Any]] = (fields["lengths"], fields["prompt_lengths"])
    draft, guesses = fields["draft_tokens"], fields["exit_tokens"]
    probabilities = (fields["draft_probabilities"], fields["exit_probabilities"])
    return bool(
        fields["temperature"].shape == ()
        and fields["temperature"] >= 0
        and exits.ndim == 2
        and exits.shape[1] == 2
        and ((exits > 0).all() and (exits[:, 1] < 1).all())
        and all(one.ndim == 1 and len(one) == len(lengths[0]) > 0 and (one > 0).all() for one in lengths)
        and fields["tokens"].shape == (lengths[0].sum(),)
        and fields["prompt_tokens"].shape == (lengths[1].sum(),)
        and draft.ndim == 2
        and draft.shape[1] > 0
        and draft.shape == probabilities[0].shape
        and guesses.shape == probabilities[1].shape == (count, len(exits))
        and len(draft) == count
        and all(((one >= 0) & (one <= 1)).all() for one in probabilities)
    )


def _damaged(file: Path) -> EdgespecError:
    return EdgespecError(
        f"{file} is no trace, or a damaged one: record it with `edgespec plan --record FILE`."
    )
