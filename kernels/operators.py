"""The kernels as torch operators, `torch.ops.edgespec.*`: for CPU and CUDA, with fakes for tracing.

So torch.compile and CUDA graphs take them into a graph as one node. Import this module to register them; arguments are
tensors and numbers alone, as torch wants them. What the operators mean is said where the kernels are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgespec.kernels import arguments
from edgespec.kernels import exit_head as _exit_head
from edgespec.kernels import exit_verdict as _exit_verdict
from edgespec.kernels import verify as _verify
from edgespec.kernels.exit_verdict import Curves, Trees


@torch.library.custom_op("edgespec::exit_head", mutates_args=(), device_types=("cpu", "cuda"))
def exit_head(
    hidden: Tensor,
    norm: Tensor,
    head: Tensor,
    temperatures: Tensor,
    seeds: Tensor,
    positions: Tensor,
    draft_tokens: Tensor,
    epsilon: float,
    logit_scale: float,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`exit_head` of exit_head.py: tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound."""
    scores = _exit_head.exit_head(
        hidden,
        norm,
        head,
        temperatures=temperatures,
        seeds=seeds,
        positions=positions,
        draft_tokens=draft_tokens,
        settings=_exit_head.HeadSettings(epsilon, logit_scale, softcap),
    )
    columns = (
        scores.tokens,
        scores.margins,
        scores.probabilities,
        scores.logsumexps,
        scores.draft_scores,
        scores.agrees,
        scores.sound,
    )
    tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound = map(torch.as_tensor, columns)
    return tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound


@exit_head.register_fake
def _(
    hidden: Tensor,
    norm: Tensor,
    head: Tensor,
    temperatures: Tensor,
    seeds: Tensor,
    positions: Tensor,
    draft_tokens: Tensor,
    epsilon: float,
    logit_scale: float,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = hidden.shape[0]
    tokens = hidden.new_empty(rows, dtype=torch.int32)
    margins, probabilities, logsumexps, draft_scores = (
        hidden.new_empty(rows, dtype=torch.float32) for _ in range(4)
    )
    agrees, sound = (hidden.new_empty(rows, dtype=torch.bool) for _ in range(2))
    return tokens, margins, probabilities, logsumexps, draft_scores, agrees, sound


@torch.library.custom_op("edgespec::verify", mutates_args=(), device_types=("cpu", "cuda"))
def verify(
    logits: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    positions: Tensor,
    temperatures: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`verify` of verify.py without lists: lengths, paths, tokens, logprobs, margins, sound.

    largest: rows of the largest session, which the shapes of what is returned follow from.
    """
    sessions = temperatures.shape[0]
    ones = torch.ones(sessions, dtype=torch.float64, device=logits.device)
    rejection = torch.zeros(sessions, dtype=torch.bool, device=logits.device)
    samplings = _verify.Samplings(temperatures, top_k, top_p, min_p, ones, seeds, rejection)
    return _verdicts(logits, Trees(offsets, parents, tree_tokens, largest), positions, samplings, largest)


@verify.register_fake
def _(
    logits: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    positions: Tensor,
    temperatures: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seeds: Tensor,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_verdicts(logits, temperatures.shape[0], largest)


@torch.library.custom_op("edgespec::verify_lists", mutates_args=(), device_types=("cpu", "cuda"))
def verify_lists(
    logits: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    positions: Tensor,
    temperatures: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    penalties: Tensor,
    seeds: Tensor,
    rejection: Tensor,
    seen_offsets: Tensor | None,
    seen_ids: Tensor | None,
    bias_offsets: Tensor | None,
    bias_ids: Tensor | None,
    bias_values: Tensor | None,
    drafted_offsets: Tensor | None,
    drafted_ids: Tensor | None,
    drafted_values: Tensor | None,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`verify` of verify.py with all that it takes; of the lists, None for those that hold nothing."""
    samplings = _verify.Samplings(temperatures, top_k, top_p, min_p, penalties, seeds, rejection)
    return _verdicts(
        logits,
        Trees(offsets, parents, tree_tokens, largest),
        positions,
        samplings,
        largest,
        seen=None if seen_offsets is None else _verify.Ragged(seen_offsets, seen_ids),
        biases=None if bias_offsets is None else _verify.Ragged(bias_offsets, bias_ids, bias_values),
        drafted=None
        if drafted_offsets is None
        else _verify.Ragged(drafted_offsets, drafted_ids, drafted_values),
    )


@verify_lists.register_fake
def _(
    logits: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    positions: Tensor,
    temperatures: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    penalties: Tensor,
    seeds: Tensor,
    rejection: Tensor,
    seen_offsets: Tensor | None,
    seen_ids: Tensor | None,
    bias_offsets: Tensor | None,
    bias_ids: Tensor | None,
    bias_values: Tensor | None,
    drafted_offsets: Tensor | None,
    drafted_ids: Tensor | None,
    drafted_values: Tensor | None,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_verdicts(logits, temperatures.shape[0], largest)


def _verdicts(
    logits: Tensor,
    trees: Trees,
    positions: Tensor,
    samplings: _verify.Samplings,
    largest: int,
    **lists: _verify.Ragged | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    verdicts = _verify.verify(logits, trees, positions, samplings, **lists)  # type: ignore[arg-type]
    _require_largest(verdicts.paths, largest)
    lengths, paths, tokens, logprobs, margins, sound = map(torch.as_tensor, vars(verdicts).values())
    return lengths, paths, tokens, logprobs, margins, sound


def _empty_verdicts(
    logits: Tensor, sessions: int, largest: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    lengths, tokens = (logits.new_empty(sessions, dtype=torch.int32) for _ in range(2))
    paths = logits.new_empty((sessions, max(1, largest - 1)), dtype=torch.int32)
    logprobs, margins = (logits.new_empty((sessions, largest), dtype=torch.float32) for _ in range(2))
    return lengths, paths, tokens, logprobs, margins, logits.new_empty(sessions, dtype=torch.bool)


def _require_largest(paths: Any, largest: int) -> None:
    arguments.require(
        paths.shape[1] == max(1, largest - 1), "largest", "the rows of the largest session", largest
    )


@torch.library.custom_op("edgespec::exit_verdict", mutates_args=(), device_types=("cpu", "cuda"))
def exit_verdict(
    tokens: Tensor,
    margins: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    curve_margins: Tensor,
    curve_probabilities: Tensor,
    curve_of: Tensor,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`exit_verdict` of exit_verdict.py: lengths, paths, tokens, confidences. largest: as in `verify`."""
    curves = Curves(curve_margins, curve_probabilities, ())
    if tokens.device.type == "cpu":
        curves = Curves(curve_margins.numpy(), curve_probabilities.numpy(), ())
    trees = Trees(offsets, parents, tree_tokens, largest)
    hints = _exit_verdict.exit_verdict(tokens, margins, trees, curves, curve_of)
    _require_largest(hints.paths, largest)
    lengths, paths, next_tokens, confidences = map(torch.as_tensor, vars(hints).values())
    return lengths, paths, next_tokens, confidences


@exit_verdict.register_fake
def _(
    tokens: Tensor,
    margins: Tensor,
    offsets: Tensor,
    parents: Tensor,
    tree_tokens: Tensor,
    curve_margins: Tensor,
    curve_probabilities: Tensor,
    curve_of: Tensor,
    largest: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sessions = offsets.shape[0] - 1
    lengths, next_tokens = (tokens.new_empty(sessions) for _ in range(2))
    paths = tokens.new_empty((sessions, max(1, largest - 1)))
    return lengths, paths, next_tokens, margins.new_empty(sessions)
