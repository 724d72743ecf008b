"""Launches verify on CUDA; its checks have passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgespec.kernels.data import Ragged, Samplings, Trees, Verdicts
from edgespec.kernels.launching import launch, power_of_2
from edgespec.kernels.packed import PackedFields, on_device
from edgespec.kernels.variants import VERIFY_BLOCK, VERIFY_BLOCKS, VERIFY_ROUNDS

SAMPLING_TYPES = (torch.float64, torch.int32, torch.float64, torch.float64, torch.float64, torch.int64)

BINS, STATE_WORDS = 2048, 4
"""Of a round over a row."""

BY_MASS = 3
"""The first round over masses: those before it are top-k's, the others top-p's."""


@dataclass(frozen=True)
class Rounds:
    """Which filters some session of a launch asks for."""

    top_k: bool
    top_p: bool

    @classmethod
    def of(cls, samplings: Samplings, vocabulary: int) -> Rounds:
        """What is on a GPU is not read, and may ask for both."""
        if not isinstance(samplings.top_k, np.ndarray):
            return cls(True, True)
        sampled = samplings.temperatures > 0
        top_k = sampled & (samplings.top_k > 0) & (samplings.top_k < vocabulary)
        return cls(bool(top_k.any()), bool((sampled & (samplings.top_p < 1)).any()))

    def numbers(self) -> list[int]:
        return [*range(BY_MASS)] * self.top_k + [*range(BY_MASS, VERIFY_ROUNDS)] * self.top_p


def verify(
    logits: torch.Tensor,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    seen: Ragged | None,
    biases: Ragged | None,
) -> Verdicts:
    """As edgespec.kernels.verify: the columns go to the device by one copy, and the verdicts come back by one."""
    device = logits.device
    rows, vocabulary = logits.shape
    sessions, lists = trees.sessions, seen is not None or biases is not None
    largest = trees.largest or rows
    if isinstance(trees.offsets, np.ndarray):
        largest = int(np.diff(trees.offsets).max())
    rounds = Rounds.of(samplings, vocabulary)
    offsets, parents, tree_tokens, positions, *rest = on_device(
        [
            *((one, torch.int32) for one in (trees.offsets, trees.parents, trees.tokens, positions)),
            *zip(vars(samplings).values(), SAMPLING_TYPES, strict=True),
            *_list_columns(seen, rows, device)[:2],
            *_list_columns(biases, sessions, device),
        ],
        device,
    )
    temperatures, top_ks, top_ps, min_ps, penalties, seeds, *given_lists = rest
    block = min(VERIFY_BLOCK, max(16, power_of_2(vocabulary)))
    parts = -(-vocabulary // (block * VERIFY_BLOCKS))
    sizes: dict[str, int | bool] = {"BLOCK": block}
    joined = {**sizes, "PARTS": power_of_2(parts)}
    scratch = _scratch(rows, sessions, parts, bool(rounds.numbers()), vocabulary, device)
    row_sessions, tops, sums, highs = scratch["row_sessions"], *scratch["scanned"]
    launch(
        "verify_scan",
        rows * parts,
        [logits, scratch["scores"], offsets, temperatures, penalties, *given_lists, row_sessions, tops, sums, highs,
         sessions, vocabulary, parts],
        {**sizes, "LISTS": lists},
        device,
    )  # fmt: skip
    bins, states = scratch["bins"], scratch["states"]
    for number in rounds.numbers():
        launch(
            "verify_round",
            rows * parts,
            [scratch["scores"], temperatures, top_ks, top_ps, row_sessions, highs, bins, states, vocabulary, parts,
             int(rounds.top_k)],
            {**joined, "ROUND": number},
            device,
        )  # fmt: skip
    out = _verdicts(sessions, largest, device)
    launch(
        "verify_choose",
        rows * parts,
        [logits, scratch["scores"], offsets, parents, tree_tokens, positions, temperatures, min_ps, seeds, row_sessions,
         tops, sums, highs, bins, states, *scratch["found"], scratch["part_tokens"], scratch["row_tokens"],
         *scratch["row_values"], scratch["rows_ended"], scratch["sessions_ended"], *out.device.values(),
         vocabulary, largest, parts, int(rounds.top_k), int(rounds.top_p)],
        {**joined, "ROWS": power_of_2(largest)},
        device,
    )  # fmt: skip
    return Verdicts(**out.device, sound=out.device["tokens"] >= 0, packed=out)


def _list_columns(given: Ragged | None, count: int, device: torch.device) -> list[tuple[Any, torch.dtype]]:
    """Offsets, ids and values; empty lists where none are given."""
    if given is None:
        nothing = torch.zeros(count + 1, dtype=torch.int32, device=device)
        given = Ragged(nothing, nothing[:0], nothing[:0].view(torch.float32))
    return [(given.offsets, torch.int32), (given.ids, torch.int32), (given.values, torch.float32)]


def _scratch(
    rows: int, sessions: int, parts: int, filtered: bool, vocabulary: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """What the launches leave for one another."""
    bins = rows * VERIFY_ROUNDS * BINS if filtered else 0
    zeros = torch.zeros(2 * bins + rows + sessions, dtype=torch.int32, device=device)
    whole = torch.empty(2 * rows + rows * parts, dtype=torch.int32, device=device)
    return {
        "scores": torch.empty(rows, vocabulary, device=device),
        "bins": zeros[: 2 * bins].view(torch.int64),
        "rows_ended": zeros[2 * bins :][:rows],
        "sessions_ended": zeros[2 * bins + rows :],
        "states": torch.empty(rows, VERIFY_ROUNDS, STATE_WORDS, dtype=torch.int64, device=device),
        "row_sessions": whole[:rows],
        "row_tokens": whole[rows:][:rows],
        "part_tokens": whole[2 * rows :],
        "scanned": torch.empty(3, rows, parts, device=device),
        "found": torch.empty(2, rows, parts, device=device),
        "row_values": torch.empty(2, rows, device=device),
    }


def _verdicts(sessions: int, largest: int, device: torch.device) -> PackedFields:
    fields = {
        "lengths": ((sessions,), torch.int32),
        "paths": ((sessions, max(1, largest - 1)), torch.int32),
        "tokens": ((sessions,), torch.int32),
        "logprobs": ((sessions, largest), torch.float32),
        "margins": ((sessions, largest), torch.float32),
    }
    return PackedFields(fields, device)
