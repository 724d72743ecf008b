"""Traces of a pair: what draft and exits answered along the target's own texts, kept in a small file and replayed.

A trace holds, for each recorded prompt, the target's text and at every position of it the draft's ranked alternatives
and the exits' guesses, with their calibrated probabilities. `edgespec.train.recording` makes one from a real pair;
`TraceModel` answers from it. numpy only.
"""

from __future__ import annotations

import zipfile
import zlib
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
    "temperature": np.dtype(np.float64),
    "exits": np.dtype(np.float64),
}

PER_TOKEN = ("tokens", "draft_tokens", "draft_probabilities", "exit_tokens", "exit_probabilities")


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
        tokens = np.concatenate([one.tokens for one in self.texts])
        guesses = np.concatenate([one.exit_tokens for one in self.texts])
        right = (guesses == tokens[:, None]).mean(axis=0)
        return {layer: float(share) for (layer, _), share in zip(self.exits, right, strict=True)}

    def save(self, file: Path) -> None:
        """Write it. Raises EdgespecError where that cannot be done."""
        columns: dict[str, Any] = {
            "prompt_lengths": [len(one.prompt) for one in self.texts],
            "lengths": [len(one.tokens) for one in self.texts],
            "prompt_tokens": np.concatenate([one.prompt for one in self.texts]),
            **{name: np.concatenate([getattr(one, name) for one in self.texts]) for name in PER_TOKEN},
            "temperature": self.temperature,
            "exits": np.reshape(self.exits, (-1, 2)),
        }
        stored: dict[str, Any] = {name: np.asarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
        try:
            with file.open("wb") as out:
                np.savez_compressed(out, version=FORMAT_VERSION, target=self.target, **stored)
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
    columns = zip(*(np.split(fields[name], ends) for name in PER_TOKEN), strict=True)
    return [
        RecordedText(prompt.tolist(), tokens.tolist(), *rest)
        for prompt, (tokens, *rest) in zip(prompts, columns, strict=True)
    ]


def _sound(fields: dict[str, NDArray[Any]]) -> bool:
    """Every column is there, of its type and shape, and every probability lies between 0 and 1."""
    if "target" not in fields or any(
        name not in fields or fields[name].dtype != dtype for name, dtype in COLUMNS.items()
    ):
        return False
    texts, exits = len(fields["lengths"]), len(np.atleast_1d(fields["exits"]))
    count, ranks = int(fields["lengths"].sum()), fields["draft_tokens"].shape[-1]
    shapes = {
        "prompt_lengths": (texts,),
        "lengths": (texts,),
        "prompt_tokens": (fields["prompt_lengths"].sum(),),
        "tokens": (count,),
        "draft_tokens": (count, ranks),
        "draft_probabilities": (count, ranks),
        "exit_tokens": (count, exits),
        "exit_probabilities": (count, exits),
        "temperature": (),
        "exits": (exits, 2),
    }
    return bool(
        all(fields[name].shape == shape for name, shape in shapes.items())
        and texts > 0
        and ranks > 0
        and fields["temperature"] >= 0
        and (fields["exits"] > 0).all()
        and (fields["exits"][:, 1] < 1).all()
        and all((fields[name] > 0).all() for name in ("lengths", "prompt_lengths"))
        and all(((one >= 0) & (one <= 1)).all() for name, one in fields.items() if name.endswith("abilities"))
    )


def _damaged(file: Path) -> EdgespecError:
    return EdgespecError(
        f"{file} is no trace, or a damaged one: record it with `edgespec plan --record FILE`."
    )
