"""Launches verify on CUDA; its checks have passed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgespec.kernels import arguments
from edgespec.kernels.data import Ragged, Samplings, Trees, Verdicts
from edgespec.kernels.launching import launch, power_of_2

LARGEST_BLOCK = 4096
"""Tokens of a row that a program holds at once."""

SAMPLING_TYPES = (torch.float64, torch.int32, torch.float64, torch.float64, torch.float64, torch.int64)


def verify(
    logits: torch.Tensor,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    seen: Ragged | None,
    biases: Ragged | None,
) -> Verdicts:
    """As edgespec.kernels.verify."""
    device = logits.device
    rows, vocabulary = logits.shape
    sessions, lists = trees.sessions, seen is not None or biases is not None
    largest = trees.largest or rows
    if isinstance(trees.offsets, np.ndarray):
        largest = int(np.diff(trees.offsets).max())
    score = torch.float64 if logits.dtype == torch.float64 else torch.float32

    def put(values: Any, dtype: torch.dtype = torch.int32) -> Any:
        return arguments.on_device(values, device, dtype)

    def put_lists(given: Ragged | None, count: int) -> tuple[Any, Any, Any]:
        if given is None:
            nothing = torch.zeros(count + 1, dtype=torch.int32, device=device)
            return nothing, nothing[:0], nothing[:0].view(torch.float32)
        values = None if given.values is None else put(given.values, torch.float32)
        return put(given.offsets), put(given.ids), values

    row_margins, row_logprobs = torch.empty(2, rows, device=device)
    logprobs, margins = torch.full((2, sessions, largest), float("nan"), device=device)
    paths = torch.full((sessions, max(1, largest - 1)), -1, dtype=torch.int32, device=device)
    ended, lengths, tokens, row_tokens = (
        torch.zeros(count, dtype=torch.int32, device=device) for count in (sessions, sessions, sessions, rows)
    )
    launch(
        "verify_rows",
        rows,
        [logits, torch.empty((rows, vocabulary) if lists else 1, dtype=score, device=device),
         *map(put, (trees.offsets, trees.parents, trees.tokens, positions)),
         *map(put, vars(samplings).values(), SAMPLING_TYPES),
         *put_lists(seen, rows)[:2], *put_lists(biases, sessions),
         row_tokens, row_margins, row_logprobs, ended, lengths, paths, tokens, logprobs, margins,
         sessions, vocabulary, largest],
        {"ROWS": power_of_2(largest), "BLOCK": min(LARGEST_BLOCK, max(16, power_of_2(vocabulary))), "LISTS": lists},
        device,
    )  # fmt: skip
    return Verdicts(lengths, paths, tokens, logprobs, margins, tokens >= 0)
