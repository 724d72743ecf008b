"""The batches of arrays that the kernels take and return. R rows belong to S sessions; V is the vocabulary.

Arrays have exactly the types stated. Arguments are numpy arrays or tensors; results are numpy arrays, or CUDA tensors
where the rows were. Seeds are uint64 in numpy and the same bits as int64 in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.decided_tree import NO_PARENT, DecidedTree
from edgespec.kernels import arguments
from edgespec.kernels.arguments import FLOAT32, FLOAT64, INT32, UINT64

CELL_WORDS = 8


@dataclass(frozen=True)
class Trees:
    """A ragged batch of draft trees: session s owns the rows offsets[s] .. offsets[s + 1].

    offsets: int32 [S + 1], from 0 to R. parents: int32 [R], counted from the session's first row; a first row has
    NO_PARENT, and every other row is a node of the draft tree, behind its parent. tokens: int32 [R], each node's token;
    that of a first row is not read. largest: the most rows of any session, for arrays on a GPU; None: R.
    """

    offsets: Any
    parents: Any
    tokens: Any
    largest: int | None = None

    @classmethod
    def of(cls, offsets: ArrayLike, parents: ArrayLike, tokens: ArrayLike) -> Trees:
        """Trees from any integers on the host. Raises EdgespecError where they are not as described."""
        arrays = [np.ascontiguousarray(part, dtype=np.int32) for part in (offsets, parents, tokens)]
        trees = cls(arrays[0], arrays[1], arrays[2])
        rows = len(trees.parents)
        trees = trees.checked(rows)
        sizes = np.diff(trees.offsets)
        whole = trees.offsets[0] == 0 and trees.offsets[-1] == rows and bool((sizes >= 1).all())
        arguments.require(whole, "offsets", f"rising from 0 to {rows}", trees.offsets.tolist())
        own = np.arange(rows) - np.repeat(trees.offsets[:-1], sizes)
        first = own == 0
        in_order = (trees.parents < own) & np.where(first, trees.parents == NO_PARENT, trees.parents >= 0)
        wanted = "-1 in a session's first row, else an earlier row of the session"
        arguments.require(bool(in_order.all()), "parents", wanted, trees.parents.tolist())
        named = bool((first | (trees.tokens >= 0)).all())
        arguments.require(named, "tokens", "token ids in all but first rows", trees.tokens.tolist())
        return trees

    @classmethod
    def single_rows(cls, count: int) -> Trees:
        """`count` sessions of one row each."""
        roots = np.full(count, NO_PARENT, np.int32)
        return cls(np.arange(count + 1, dtype=np.int32), roots, np.zeros(count, np.int32))

    @classmethod
    def joined(cls, trees: Sequence[DecidedTree]) -> Trees:
        """One session a tree; what the trees hold is not checked."""
        offsets = np.array([0, *accumulate(map(len, trees))], dtype=np.int32)
        return cls(
            offsets,
            np.concatenate([one.parents for one in trees]),
            np.concatenate([one.tokens for one in trees]),
        )

    def of_session(self, session: int) -> DecidedTree:
        """Of arrays on the host."""
        rows = slice(self.offsets[session], self.offsets[session + 1])
        return DecidedTree(self.parents[rows], self.tokens[rows])

    @property
    def sessions(self) -> int:
        return len(self.offsets) - 1

    def checked(self, rows: int) -> Trees:
        """The same with types and sizes checked. Raises EdgespecError."""
        offsets = arguments.column("offsets", self.offsets, INT32, None)
        arguments.require(len(offsets) >= 2, "offsets", "[S + 1] with a session or more", [len(offsets)])
        parents = arguments.column("parents", self.parents, INT32, rows)
        return Trees(offsets, parents, arguments.column("tokens", self.tokens, INT32, rows), self.largest)


@dataclass(frozen=True)
class Ragged:
    """N lists of different token ids: list n is ids[offsets[n] .. offsets[n + 1]).

    offsets: int32 [N + 1]. ids: int32 [M]. values: float32 [M], where each id has one.
    """

    offsets: Any
    ids: Any
    values: Any = None

    def checked(self, name: str, lists: int, valued: bool) -> Ragged:
        """The same with types and sizes checked; `name` is what a message calls it. Raises EdgespecError."""
        offsets = arguments.column(f"{name}.offsets", self.offsets, INT32, lists + 1)
        ids = arguments.column(f"{name}.ids", self.ids, INT32, None)
        values = arguments.column(f"{name}.values", self.values, FLOAT32, len(ids)) if valued else None
        return Ragged(offsets, ids, values)


@dataclass(frozen=True)
class Samplings:
    """How each of S sessions samples; float64 [S] where nothing else is said.

    temperatures: 0 is greedy. top_k: int32, 0 keeps all. top_p: 1 keeps all. min_p: 0 keeps all. penalties: repetition
    penalty, 1 is none. seeds: uint64.
    """

    temperatures: Any
    top_k: Any
    top_p: Any
    min_p: Any
    penalties: Any
    seeds: Any

    def checked(self, sessions: int) -> Samplings:
        """The same with types and sizes checked. Raises EdgespecError."""
        types: list[np.dtype[Any]] = [FLOAT64, INT32, FLOAT64, FLOAT64, FLOAT64, UINT64]
        named = zip(vars(self).items(), types, strict=True)
        return Samplings(*(arguments.column(name, one, dtype, sessions) for (name, one), dtype in named))


@dataclass(frozen=True)
class Verdicts:
    """What is chosen behind each row, and one walk a session. P is the largest session's rows, less one.

    lengths: int32 [S], nodes on the path that the choices lead down. paths: int32 [S, max(P, 1)], their rows counted
    from the session's first, then -1. choices: int32 [R], the token behind each row; -1 where the row is not sound. The
    choices on the path are committed; that of its last row is the correction or bonus token. logprobs: float32 [R], of
    each choice under the raw logits' softmax; margins: float32 [R], its noisy score minus the second-best after all
    filters (infinite with one token); NaN where the row is not sound.
    """

    lengths: Any
    paths: Any
    choices: Any
    logprobs: Any
    margins: Any
    packed: Any = None
    """The buffer of all, where a device has them."""

    def walks(self) -> list[NDArray[np.int32]]:
        """The path of each session, of arrays on the host."""
        return [path[:length] for path, length in zip(self.paths, self.lengths.tolist(), strict=True)]

    def on_host(self) -> Verdicts:
        """The same as numpy arrays; waits for the device, and copies once."""
        if self.packed is None:
            return self
        return Verdicts(**{name: values.numpy() for name, values in self.packed.download().items()})


@dataclass(frozen=True)
class HeadSettings:
    """epsilon: of the RMS norm. logit_scale: factor on the logits (Cohere, Granite). softcap: logits become
    softcap * tanh(logits / softcap) (Gemma 2); 0 is none."""

    epsilon: float = 1e-6
    logit_scale: float = 1.0
    softcap: float = 0.0


@dataclass(frozen=True)
class ExitScores:
    """What an exit says of each of R rows. z is logit / temperature (the logit itself in greedy rows), s is z + noise.

    tokens: int32 [R], the best s, the lowest id among equals. margins: float32 [R], best minus second-best s (infinite
    with one token). Where the logits hold NaN or infinity the token is -1 and the margin NaN.
    """

    tokens: Any
    margins: Any


@dataclass(frozen=True)
class Curves:
    """C calibration curves of K knots: probability by margin, linear between knots and level outside them.

    margins, probabilities: float32 [C, K]; short curves repeat their last knot. temperatures: of each curve.
    """

    margins: Any
    probabilities: Any
    temperatures: tuple[float, ...]

    @classmethod
    def of(cls, calibration: Calibration) -> Curves:
        """The curves of rank 0, one a temperature."""
        known = sorted(calibration.curves)
        curves = [calibration.curves[temperature][0] for temperature in known]
        knots = max(len(margins) for margins, _ in curves)
        padded = [[np.pad(part, (0, knots - len(part)), mode="edge") for part in curve] for curve in curves]
        table = np.array(padded, dtype=np.float32)
        return cls(np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]), tuple(known))

    def on(self, device: Any) -> Curves:
        """The same as torch tensors on a device."""
        margins, probabilities = (
            arguments.on_device(part, device, None) for part in (self.margins, self.probabilities)
        )
        return Curves(margins, probabilities, self.temperatures)

    def index(self, temperatures: Sequence[float]) -> NDArray[np.int32]:
        """The curve of each temperature: the nearest, the lower of two as near."""
        known = np.array(self.temperatures)
        wanted = np.asarray(temperatures, dtype=np.float64)
        nearest: NDArray[np.int32] = np.abs(known[None] - wanted[:, None]).argmin(-1).astype(np.int32)
        return nearest


@dataclass(frozen=True)
class Hints:
    """One hint a session.

    lengths: int32 [S], nodes on the path. paths: int32 [S, P], their rows counted from the session's first, then -1; P
    is at least the largest session's rows less one. tokens: int32 [S], the token behind the path, -1 where a row is
    not sound. confidences: float32 [S], product of the calibrated probabilities of all rows used; 0 if not sound.
    """

    lengths: Any
    paths: Any
    tokens: Any
    confidences: Any


@dataclass(frozen=True)
class Cells:
    """Where the hints of exit number `exit` are written.

    words: int32 [2, places, exits, 8], in memory that device and host share. sequence: int32 [1], on the rows' device:
    the number of the running forward, above 0; odd and even forwards have one half of the cells each.
    """

    words: Any
    sequence: Any
    exit: int

    def check(self, sessions: int) -> None:
        """Raises EdgespecError for arrays of another type or shape, or with too few places for the sessions."""
        arguments.matrix("words", self.words, (2, "places", "exits", CELL_WORDS), ("int32",))
        places, exits = self.words.shape[1:3]
        arguments.require(sessions <= places, "words", f"for {sessions} sessions or more", places)
        arguments.require(0 <= self.exit < exits, "exit", f"from 0 to {exits - 1}", self.exit)
        arguments.matrix("sequence", self.sequence, (1,), ("int32",))
