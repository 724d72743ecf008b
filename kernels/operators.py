"""The kernels as torch operators, `torch.ops.edgespec.*`: for CPU and CUDA, with fakes for tracing.

So torch.compile and CUDA graphs take them into a graph as one node. Import this module to register them; arguments are
tensors and numbers alone, as torch wants them. What the operators mean is said where the kernels are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgespec.kernels import exit_head as _exit_head
from edgespec.kernels import verify as _verify
from edgespec.kernels.exit_verdict import Trees


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
    samplings = _verify.Samplings(
        temperatures,
        top_k,
        top_p,
        min_p,
        torch.ones(sessions, dtype=torch.float64),
        seeds,
        torch.zeros(sessions, dtype=torch.bool),
    )
    verdicts = _verify.verify(logits, Trees(offsets, parents, tree_tokens, largest), positions, samplings)
    columns = (
        verdicts.lengths,
        verdicts.paths,
        verdicts.tokens,
        verdicts.logprobs,
        verdicts.margins,
        verdicts.sound,
    )
    lengths, paths, tokens, logprobs, margins, sound = map(torch.as_tensor, columns)
    return lengths, paths, tokens, logprobs, margins, sound


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
    sessions = temperatures.shape[0]
    lengths, tokens = (logits.new_empty(sessions, dtype=torch.int32) for _ in range(2))
    paths = logits.new_empty((sessions, max(1, largest - 1)), dtype=torch.int32)
    logprobs, margins = (logits.new_empty((sessions, largest), dtype=torch.float32) for _ in range(2))
    return lengths, paths, tokens, logprobs, margins, logits.new_empty(sessions, dtype=torch.bool)
