"""Sampling: from the target's logits to the tokens it commits, by the `verify` kernel.

Coupled sampling (arXiv 2408.07978): after the filters, Gumbel noise that depends on seed, position and token alone is
added, and the best score wins. Greedy at temperature 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.errors import EdgespecError
from edgespec.core.guide_matcher import allowed_tokens
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.kernels.data import Ragged, Samplings, Trees
from edgespec.kernels.verify import verify
from edgespec.model.backends import backend_on
from edgespec.model.target_engine import Decisions, ForwardRequest, TopTokens

NOT_NUMBERS = (
    "the target's logits are NaN or infinite: its weights are damaged, or its dtype overflows; "
    "load it in float32 or bfloat16."
)


@dataclass(frozen=True)
class Rows:
    """One session's rows among those that are decided together.

    positions: int [D], absolute position of the token sampled behind each row (the row's own plus one). tree: which row
    is whose child. constraints: what depends on each row's text; where they have biases, sampling.logit_bias is among
    those.
    """

    sampling: SamplingParams
    seed: int
    positions: ArrayLike
    tree: DecidedTree
    constraints: RowConstraints | None = None

    @classmethod
    def of(cls, request: ForwardRequest) -> Rows:
        """A request's decided rows."""
        positions = request.piece.positions[request.decide] + 1
        return cls(request.sampling, request.seed, positions, request.tree, request.constraints)

    def __len__(self) -> int:
        return len(self.tree)


def decide_together(
    logits: torch.Tensor, parts: Sequence[Rows], placed: Trees | None = None
) -> list[Decisions]:
    """The tokens sampled for the rows of several sessions, in their order in `logits` [D, V], and the sessions' walks.

    By the `verify` kernel, on the host where the device has no kernels. placed: the parts' trees, where they are beside
    the logits already. Raises EdgespecError for logits that are not finite numbers.
    """
    for part in parts:
        seen = None if part.constraints is None else part.constraints.seen
        if part.sampling.repetition_penalty != 1 and len(part) and seen is None:
            raise EdgespecError("a repetition penalty needs each row's text so far: give `constraints`.")
    if not len(logits):
        return [Decisions.nothing() for _ in parts]
    backend = backend_on(logits.device)
    if backend is None or (backend == "triton" and logits.dtype == torch.float64):
        logits, backend, placed = logits.cpu(), "cpu", None
    allowed_logits, raw_mass = _allowed(logits, parts)
    deciding = [part for part in parts if len(part)]
    verdicts = verify(
        allowed_logits.contiguous(),
        Trees.joined([part.tree for part in deciding]),
        np.concatenate([np.asarray(part.positions, dtype=np.int32) for part in parts]),
        _samplings(deciding),
        seen=_seen(parts),
        biases=_biases(parts),
        placed=placed,
        backend=backend,
    ).on_host()
    if (verdicts.choices < 0).any():
        raise EdgespecError(NOT_NUMBERS)
    logprobs = verdicts.logprobs if raw_mass is None else verdicts.logprobs + raw_mass
    ends, walks = accumulate(len(part) for part in parts), iter(verdicts.walks())
    rows = [slice(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
    paths = [next(walks) if len(part) else np.empty(0, np.int32) for part in parts]
    return [
        Decisions(verdicts.choices[one], logprobs[one], verdicts.margins[one], path, top)
        for one, path, top in zip(rows, paths, _top_tokens(logits, parts), strict=True)
    ]


def guess_together(
    logits: torch.Tensor, parts: Sequence[Rows]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """An exit's guesses, tokens [D] and margins [D]: as `decide_together`, without filters, penalties and biases."""
    plain = [
        Rows(SamplingParams(temperature=part.sampling.temperature), part.seed, part.positions, part.tree)
        for part in parts
    ]
    decided = decide_together(logits, plain)
    return np.concatenate([one.tokens for one in decided]), np.concatenate([one.margins for one in decided])


def _samplings(parts: Sequence[Rows]) -> Samplings:
    """How each session samples."""

    def column(value: Callable[[Rows], float], dtype: type = np.float64) -> NDArray[Any]:
        return np.array([value(part) for part in parts], dtype=dtype)

    return Samplings(
        column(lambda part: part.sampling.temperature),
        column(lambda part: part.sampling.top_k, np.int32),
        column(lambda part: part.sampling.top_p),
        column(lambda part: part.sampling.min_p),
        column(lambda part: part.sampling.repetition_penalty),
        column(lambda part: part.seed, np.uint64),
    )


def _allowed(logits: torch.Tensor, parts: Sequence[Rows]) -> tuple[torch.Tensor, NDArray[np.float32] | None]:
    """The logits with what the rows' guides do not allow at -inf, and what turns a log-probability under them into one
    under the raw logits [D]; the logits themselves and None where no row has a guide."""
    if all(part.constraints is None or part.constraints.allowed is None for part in parts):
        return logits, None
    masked, starts = logits.clone(), np.cumsum([0, *(len(part) for part in parts)])
    for part, start in zip(parts, starts[:-1].tolist(), strict=True):
        if part.constraints is not None and part.constraints.allowed is not None:
            allowed = allowed_tokens(part.constraints.allowed, logits.shape[1])
            banned = torch.from_numpy(~allowed).to(logits.device)
            masked[start : start + len(part)].masked_fill_(banned, -torch.inf)
    mass = masked.double().logsumexp(-1) - logits.double().logsumexp(-1)
    return masked, mass.float().cpu().numpy()


def _top_tokens(logits: torch.Tensor, parts: Sequence[Rows]) -> list[TopTokens | None]:
    """The likeliest tokens behind the rows of each part that asks for them."""
    found: list[TopTokens | None] = []
    if not any(part.sampling.top_logprobs for part in parts):
        return [None for _ in parts]
    for part, rows in zip(parts, torch.split(logits, [len(part) for part in parts]), strict=True):
        if not part.sampling.top_logprobs:
            found.append(None)
            continue
        values, tokens = rows.topk(min(part.sampling.top_logprobs, rows.shape[1]))
        logprobs = values.double() - rows.double().logsumexp(-1, keepdim=True)
        found.append(TopTokens(tokens.int().cpu().numpy(), logprobs.float().cpu().numpy()))
    return found


def _seen(parts: Sequence[Rows]) -> Ragged | None:
    """Each row's text, where its session has a repetition penalty."""
    nothing = np.empty(0, np.int32)
    lists: list[NDArray[np.int32]] = []
    for part in parts:
        seen = None if part.constraints is None else part.constraints.seen
        lists += [nothing] * len(part) if seen is None else seen
    return Ragged(_offsets(lists), np.concatenate(lists).astype(np.int32)) if any(map(len, lists)) else None


def _biases(parts: Sequence[Rows]) -> Ragged | None:
    """What is added to each row's logits."""
    lists: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
    if not any(part.sampling.logit_bias or (part.constraints and part.constraints.biases) for part in parts):
        return None
    for part in parts:
        biases = None if part.constraints is None else part.constraints.biases
        own = part.sampling.logit_bias
        same = np.array(list(own), np.int32), np.array(list(own.values()), np.float32)
        lists += [same] * len(part) if biases is None else biases
    ids, values = (np.concatenate(column) for column in zip(*lists, strict=True))
    return Ragged(_offsets([one for one, _ in lists]), ids, values) if len(ids) else None


def _offsets(lists: Sequence[Sized]) -> NDArray[np.int32]:
    return np.cumsum([0, *(len(one) for one in lists)], dtype=np.int32)
