"""The self-check at load time: a model must compute a draft tree on permuted slots as it computes plain chains.

It decides whether a model that nobody tried before can be a target, and whether the native decoder knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.model_runner import CHECK_PAGES, ModelRunner
from edgespec.model.rounding_cache import own_cache
from edgespec.model.support import ADVICE, UnsupportedModel
from edgespec.model.target_engine import SessionRows

TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Largest difference of logits, as a share of their spread, by dtype. (transformers computes norms and rotations in
float32 whatever the model's dtype.)"""

FLOAT8_TOLERANCE = 0.25
"""The same where the pool keeps 8-bit floats, in every dtype. The model's own forward rounds keys and values likewise,
but one that lies between two 8-bit floats falls to either side by its last bit, and the layers behind it amplify a step
of 3 bits of mantissa. A wrong mask changes logits by about their spread."""

PREFIX, NODES, WINDOW = 6, 8, 4


def check_tree(runner: ModelRunner) -> None:
    """A small random tree on permuted slots must have the logits of its chains; sliding windows are narrowed
    meanwhile, so that the short text shows them. Raises UnsupportedModel."""
    check(runner, "computes a draft tree otherwise than its chains", lambda: _differences(runner))


def check(runner: ModelRunner, trouble: str, differences: Callable[[], Iterable[float]]) -> None:
    """The largest of `differences`, as a share of the logits' spread, must be within the tolerance. trouble: what is
    wrong otherwise. Raises UnsupportedModel."""
    model = runner.model
    tolerance = FLOAT8_TOLERANCE if model.float8_pool else TOLERANCE[model.dtype]
    kind = f"{model.name} ({type(model.module).__name__})"
    try:
        with _narrow_window(model.config), torch.inference_mode():
            difference = float(np.max(list(differences())))
    except EdgespecError:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"{kind} does not run on a slot cache ({type(error).__name__}: {first_line(error)}): {ADVICE}."
        ) from error
    if not difference <= tolerance:
        raise UnsupportedModel(
            f"{kind} {trouble} (they differ by {difference:.2g} of the logits' spread, and may by "
            f"{tolerance:.2g}): {ADVICE}."
        )


def check_independence(runner: ModelRunner) -> None:
    """A deterministic runner's logits must be the same bits whatever runs beside them. Raises UnsupportedModel."""
    random = np.random.default_rng(1)

    def batch() -> list[SessionRows]:
        return [SessionRows(runner.open_cache(SLOT_BUCKET), piece, np.arange(len(piece))) for piece in pieces]

    pieces = []
    for length in (PREFIX + NODES, 3, NODES):
        tokens, slots = random.integers(0, runner.model.vocabulary_size, length), _slots(random, length)
        paths = [list(range(row + 1)) for row in range(length)]
        pieces.append(_piece(tokens, paths, slots, range(length)))
    with torch.inference_mode():
        alone = torch.cat([runner.logits([one]) for one in batch()][::-1])
        together = runner.logits(batch()[::-1])
    if not torch.equal(alone, together):
        raise UnsupportedModel(
            f"{runner.model.name} in {str(runner.model.dtype).removeprefix('torch.')} does not compute the same bits "
            "in every batch on this machine: leave --deterministic off, or try another --dtype."
        )


def check_forward_size(runner: ModelRunner) -> None:
    """A forward must not take more memory, and so time, where the pool of all sessions is larger: a model that expands
    what it keeps in the cache would do that for the whole pool. Raises UnsupportedModel."""
    taken = []
    for pages in (CHECK_PAGES, 4 * CHECK_PAGES):
        runner.resize_pool(pages)
        piece = _piece(np.zeros(1, dtype=np.int64), [[0]], np.zeros(1, dtype=np.int32), range(1))
        with torch.inference_mode(), _TakenBytes() as counter:
            runner.logits([SessionRows(runner.open_cache(SLOT_BUCKET), piece, np.arange(1))])
        taken.append(counter.bytes)
    if taken[1] > taken[0]:
        raise UnsupportedModel(
            f"{runner.model.name} ({type(runner.model.module).__name__}) takes memory for the keys and values of all "
            f"sessions in every forward: {ADVICE}."
        )


def warm_up(runner: ModelRunner) -> None:
    """Run as many rows of one session as fill any tile of tree_attention, so that later forwards compile nothing; one
    row has run in check_forward_size."""
    rows = np.arange(SLOT_BUCKET)
    piece = _piece(
        rows % 2, [list(range(row + 1)) for row in rows.tolist()], rows.astype(np.int32), range(SLOT_BUCKET)
    )
    with torch.inference_mode():
        runner.logits([SessionRows(runner.open_cache(SLOT_BUCKET), piece, rows[:1])])


class _TakenBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors that torch's operators return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _storage(leaf) not in given:
                self.bytes += leaf.nbytes
        return result


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def _narrow_window(config: Any) -> Iterator[None]:
    """Narrow the sliding window, if there is a wider one."""
    wide = getattr(config, "sliding_window", None)
    if wide is not None and wide > WINDOW:
        config.sliding_window = WINDOW
    try:
        yield
    finally:
        if wide is not None:
            config.sliding_window = wide


def _differences(runner: ModelRunner) -> Iterator[float]:
    """For each node of a random tree: how far its logits are from those of its chain in a plain forward."""
    random = np.random.default_rng(0)
    count = PREFIX + NODES
    tokens = random.integers(0, runner.model.vocabulary_size, count)
    paths = [list(range(row + 1)) for row in range(PREFIX)]
    for row in range(PREFIX, count):
        paths.append([*paths[random.integers(PREFIX - 1, row)], row])
    slots = _slots(random, count)
    cache = runner.open_cache(SLOT_BUCKET)
    prefix = _piece(tokens, paths, slots, range(PREFIX))
    runner.logits([SessionRows(cache, prefix, np.arange(PREFIX))])
    tree = SessionRows(cache, _piece(tokens, paths, slots, range(PREFIX, count)), np.arange(NODES))
    for node, row in enumerate(runner.logits([tree]), PREFIX):
        chain = torch.from_numpy(tokens[paths[node]]).to(runner.model.device)
        yield difference(row, _own_logits(runner.model, chain))


def _own_logits(model: LoadedModel, chain: torch.Tensor) -> torch.Tensor:
    """Behind the last token of a chain, by the model's own forward."""
    logits: torch.Tensor = model.module(input_ids=chain[None], use_cache=False, **own_cache(model)).logits[
        0, -1
    ]
    return logits


def difference(row: torch.Tensor, expected: torch.Tensor) -> float:
    """How far logits [V] are from those expected, as a share of the spread of these."""
    expected = expected.double()
    return float((row.double() - expected).abs().max() / (expected.std() + 1e-9))


def _slots(random: np.random.Generator, count: int) -> NDArray[np.int32]:
    return random.permutation(SLOT_BUCKET)[:count].astype(np.int32)


def _piece(
    tokens: NDArray[np.integer[Any]], paths: Sequence[list[int]], slots: NDArray[np.int32], rows: range
) -> Piece:
    """The rows of a text whose row i has the ancestors paths[i], itself the last."""
    positions = np.array([len(path) - 1 for path in paths], dtype=np.int32)
    cached = np.zeros((len(rows), SLOT_BUCKET), dtype=np.bool_)
    among = np.zeros((len(rows), len(rows)), dtype=np.bool_)
    for i, row in enumerate(rows):
        for ancestor in paths[row]:
            if ancestor in rows:
                among[i, ancestor - rows.start] = True
            else:
                cached[i, slots[ancestor]] = True
    slot_positions = np.zeros(SLOT_BUCKET, dtype=np.int32)
    slot_positions[slots] = positions
    own = slice(rows.start, rows.stop)
    return Piece(tokens[own].astype(np.int32), positions[own], slots[own], cached, among, slot_positions)
