"""What a server needs of whatever runs its target: the `TargetEngine` protocol, and what goes in and out of a forward.

Plain Python and numpy, so that a server and its tests run without torch. `Target` is edgespec's own engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.params import SamplingParams
from edgespec.core.pictures import PictureFormat, PictureSpan
from edgespec.core.row_constraints import RowConstraints
from edgespec.core.slots import Piece


class KvFull(Exception):
    """The key-value memory has too few free slots; `missing_slots` says how many more are needed, in whole pages."""

    def __init__(self, missing_slots: int) -> None:
        super().__init__(f"the key-value memory lacks {missing_slots} slots")
        self.missing_slots = missing_slots


PrefixSalt = bytes
"""Sessions share what they computed of a prefix only with those of the same salt."""


class SessionCache(Protocol):
    """One session's keys and values."""

    @property
    def bytes(self) -> int:
        """Memory held now; a page shared with other sessions counts in full."""

    @property
    def slots(self) -> int:
        """Of how many tokens it holds the memory now; what is shared with other sessions counts in full."""

    def reserve(self, slots: int) -> None:
        """Hold memory for at least `slots` tokens. Raises KvFull, with nothing changed."""

    def adopt(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> int:
        """Reuse what other sessions published of the prefix `tokens`, in which these pictures are, under the same
        salt; returns how many tokens that covers. Only an empty cache adopts; its slots
        0, 1, ... then hold those tokens."""

    def publish(
        self, tokens: Sequence[int], pictures: Sequence[PictureSpan] = (), salt: PrefixSalt = b""
    ) -> None:
        """Slots 0, 1, ... hold `tokens`, in which these pictures are: let other sessions of this salt adopt them."""

    def release(self) -> None:
        """Free all memory."""


@dataclass(frozen=True)
class PlacedPicture:
    """A picture in a session's text. features: what the engine's `encode_picture` made of it."""

    span: PictureSpan
    features: Any


@dataclass(frozen=True)
class SessionRows:
    """One session's rows in a forward: the rows of `piece` run on `cache`, a SessionCache that the same engine opened,
    and the rows `decide` int [D] are decided. pictures: those in the session's text, in order. planned: which decided
    row is whose child, where that is known; None: as the piece's masks say."""

    cache: Any
    piece: Piece
    decide: NDArray[np.integer[Any]]
    pictures: Sequence[PlacedPicture] = field(default=(), kw_only=True)
    planned: DecidedTree | None = field(default=None, kw_only=True)

    @cached_property
    def tree(self) -> DecidedTree:
        """Which decided row is whose child."""
        return DecidedTree.of(self.piece, self.decide) if self.planned is None else self.planned


@dataclass(frozen=True)
class ExitGuess:
    """What an exit foretells of the verdict: `path`, the decided rows behind the first that will be accepted, then
    `token` (-1: a row on the path has no finite scores), and the calibrated probability that all of it is right."""

    path: list[int]
    token: int
    confidence: float


@dataclass(frozen=True)
class ExitRows:
    """What an exit says of a session's decided rows: tokens int32 [D] (-1: the row has no finite scores), margins
    float32 [D], and its guess. `layer`: decoder layers that have run, 1 to layers - 1."""

    layer: int
    tokens: NDArray[np.int32]
    margins: NDArray[np.float32]
    guess: ExitGuess


OnExit = Callable[[ExitRows], None]


@dataclass(frozen=True)
class HintAddress:
    """What a hint mailbox needs to send a session's hints by itself, without Python.

    session: its number at the listener. base_length, turn: which text the hints are about. threshold: the least
    confidence that is sent. references: each decided row's node id on the wire, uint32 [D], 0 for none. sent: called
    after the forward with the number of hints sent.
    """

    session: int
    base_length: int
    turn: int
    threshold: float
    references: NDArray[np.uint32]
    sent: Callable[[int], None]


@dataclass(frozen=True)
class ForwardRequest(SessionRows):
    """One session's share of a batched forward.

    on_exit: called as soon as an exit has read this session's rows; None: no hints. constraints: of the decided rows;
    where they have biases, sampling.logit_bias is among those. hint_address: where the engine has a hint mailbox, hints
    go through it, and on_exit is not called. text: the whole committed text, for engines that keep texts and not rows.
    """

    sampling: SamplingParams
    seed: int
    on_exit: OnExit | None = None
    constraints: RowConstraints | None = None
    hint_address: HintAddress | None = None
    text: Sequence[int] = ()


@dataclass(frozen=True)
class TopTokens:
    """The likeliest tokens behind D rows, the likeliest first. tokens int32 [D, N]; logprobs float32 [D, N], of
    the raw logits' log-softmax."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]

    def rows(self, picks: Sequence[int] | slice) -> TopTokens:
        return TopTokens(self.tokens[picks], self.logprobs[picks])


@dataclass(frozen=True)
class Decisions:
    """The tokens sampled behind D rows, and the walk that they lead down the rows' tree.

    tokens int32 [D]; -1 where an engine of chains decided nothing, behind the first node that it rejects. logprobs
    float32 [D]: log-softmax of the raw logits at the token. margins float32 [D]: the best noisy score minus the
    second-best, after top-k and top-p (infinite where they left one token). path int32 [L]: the decided rows behind the
    first whose tokens are committed, in order; the token behind the last of them is committed too
    (`DecidedTree.walk`). top: where sampling.top_logprobs asks.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    margins: NDArray[np.float32]
    path: NDArray[np.int32]
    top: TopTokens | None = None

    @classmethod
    def nothing(cls) -> Decisions:
        """Of no rows."""
        integers, numbers = np.empty(0, np.int32), np.empty(0, np.float32)
        return cls(integers, numbers, numbers, integers)


class PageCounts(Protocol):
    """How full the key-value memory is, in pages of `size` slots."""

    size: int
    count: int

    @property
    def used(self) -> int:
        """Pages that sessions hold."""

    @property
    def reclaimable(self) -> int:
        """Pages that hold only a remembered prefix: they are given up when others need them."""


class Mailbox(Protocol):
    """Sends hints from cells, as `_native.HintMailbox` does."""

    def arm(
        self, sequence: int, watches: Sequence[tuple[int, int, int, int, float, NDArray[np.uint32]]]
    ) -> None: ...

    def retire(self, sequence: int) -> list[int]: ...


class HintCells(Protocol):
    """Memory in which exits leave hints while the forward still runs. The server sets `mailbox`, which sends them."""

    max_sessions: int
    mailbox: Mailbox | None

    @property
    def cells(self) -> NDArray[np.int32]:
        """int32 [2, max_sessions, exits, 8], without a copy."""


class TargetEngine(Protocol):
    """A loaded target that runs batched forwards for a server, whatever runs it: edgespec's own `Target`, or another
    engine. Nothing above it knows which.

    exit_layers: the layers with an exit, rising. hint_cells: None where hints reach `on_exit` only. forward_cost:
    milliseconds of a forward of n rows where they are set in advance; None: measure them. trees: a session's rows may
    be a draft tree; otherwise they are one chain. picture_format: how it takes pictures; None: it takes none.
    whole_pictures: all of a picture's rows must run in one forward.
    """

    target_id: str
    vocabulary_hash: bytes
    vocabulary_size: int
    context_length: int
    end_tokens: tuple[int, ...]
    tokenizer_path: Path | None
    layers: int
    exit_layers: tuple[int, ...]
    trees: bool
    picture_format: PictureFormat | None
    whole_pictures: bool

    @property
    def pages(self) -> PageCounts: ...
    @property
    def hint_cells(self) -> HintCells | None: ...
    @property
    def forward_cost(self) -> Callable[[int], float] | None: ...

    def open_cache(self, capacity: int) -> SessionCache:
        """An empty cache for one session of at most `capacity` slots."""

    def encode_picture(self, pixels: NDArray[np.uint8]) -> Any:
        """What the engine makes of a picture's pixels uint8 [H, W, 3], of a size that `picture_format` takes. It has
        `bytes`. Any thread may call this."""

    def forward_batch(
        self, requests: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Decisions]:
        """Run all requests' rows in one forward, keep their keys and values, decide each request's rows, and walk its
        tree.

        An exit calls `on_exit` before deeper layers run; an exception that it raises ends the forward. exit_layers:
        which exits to read (None: all). Raises EdgespecError, KvFull.
        """
