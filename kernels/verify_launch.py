"""Launches verify on CUDA; its checks have passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
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


@dataclass(frozen=True)
class Columns:
    """What a verification is given beside its logits, on the device. lists: offsets and ids of `seen`; offsets, ids and
    values of `biases`."""

    offsets: torch.Tensor
    parents: torch.Tensor
    tree_tokens: torch.Tensor
    positions: torch.Tensor
    temperatures: torch.Tensor
    top_ks: torch.Tensor
    top_ps: torch.Tensor
    min_ps: torch.Tensor
    penalties: torch.Tensor
    seeds: torch.Tensor
    lists: Sequence[torch.Tensor]

    @classmethod
    def on(
        cls, device: torch.device, trees: Trees, positions: Any, samplings: Samplings, seen: Ragged | None,
        biases: Ragged | None, rows: int,
    ) -> Columns:  # fmt: skip
        """By one copy."""
        whole = (trees.offsets, trees.parents, trees.tokens, positions)
        columns = [
            *((one, torch.int32) for one in whole),
            *zip(vars(samplings).values(), SAMPLING_TYPES, strict=True),
        ]
        lists = [*_list_columns(seen, rows, device)[:2], *_list_columns(biases, rows, device)]
        there = on_device([*columns, *lists], device)
        named = zip((one.name for one in fields(cls)), there[: len(columns)], strict=False)
        return cls(**dict(named), lists=there[len(columns) :])


def verify(
    logits: torch.Tensor,
    trees: Trees,
    positions: Any,
    samplings: Samplings,
    seen: Ragged | None,
    biases: Ragged | None,
    placed: Trees | None = None,
) -> Verdicts:
    """As edgespec.kernels.verify: what is not there goes to the device by one copy, verdicts come back by one."""
    device, (rows, vocabulary) = logits.device, logits.shape
    sessions, largest = trees.sessions, _largest(trees, rows)
    lists = seen is not None or biases is not None
    rounds = Rounds.of(samplings, vocabulary)
    given = Columns.on(device, placed or trees, positions, samplings, seen, biases, rows)
    block = min(VERIFY_BLOCK, max(16, power_of_2(vocabulary)))
    parts = -(-vocabulary // (block * VERIFY_BLOCKS))
    joined = {"BLOCK": block, "PARTS": power_of_2(parts)}
    scratch = _scratch(rows, sessions, parts, bool(rounds.numbers()), vocabulary, device)
    row_sessions, tops, sums, highs = scratch["row_sessions"], *scratch["scanned"]
    launch(
        "verify_scan",
        rows * parts,
        [logits, scratch["scores"], given.offsets, given.temperatures, given.penalties, *given.lists, row_sessions,
         tops, sums, highs, sessions, vocabulary, parts],
        {"BLOCK": block, "LISTS": lists},
        device,
    )  # fmt: skip
    bins, states = scratch["bins"], scratch["states"]
    for number in rounds.numbers():
        launch(
            "verify_round",
            rows * parts,
            [scratch["scores"], given.temperatures, given.top_ks, given.top_ps, row_sessions, highs, bins, states,
             vocabulary, parts, int(rounds.top_k)],
            {**joined, "ROUND": number},
            device,
        )  # fmt: skip
    out = _verdicts(rows, sessions, largest, device)
    launch(
        "verify_choose",
        rows * parts,
        [logits, scratch["scores"], given.offsets, given.parents, given.tree_tokens, given.positions,
         given.temperatures, given.min_ps, given.seeds, row_sessions, tops, sums, highs, bins, states,
         *scratch["found"], scratch["part_tokens"], scratch["rows_ended"], scratch["sessions_ended"],
         *out.device.values(), vocabulary, largest, parts, int(rounds.top_k), int(rounds.top_p)],
        joined,
        device,
    )  # fmt: skip
    return Verdicts(**out.device, packed=out)


def _largest(trees: Trees, rows: int) -> int:
    """Rows of the largest tree."""
    if isinstance(trees.offsets, np.ndarray):
        return int(np.diff(trees.offsets).max())
    return trees.largest or rows


def _list_columns(given: Ragged | None, count: int, device: torch.device) -> list[tuple[Any, torch.dtype]]:
    """Offsets, ids and values; empty lists where none are given."""
    if given is None:
        nothing = _nothing(count, device)
        given = Ragged(nothing, nothing[:0], nothing[:0].view(torch.float32))
    return [(given.offsets, torch.int32), (given.ids, torch.int32), (given.values, torch.float32)]


@lru_cache
def _nothing(count: int, device: torch.device) -> torch.Tensor:
    """Offsets of empty lists."""
    return torch.zeros(count + 1, dtype=torch.int32, device=device)


def _scratch(
    rows: int, sessions: int, parts: int, filtered: bool, vocabulary: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """What the launches leave for one another."""
    bins = rows * VERIFY_ROUNDS * BINS if filtered else 0
    zeros = torch.zeros(2 * bins + rows + sessions, dtype=torch.int32, device=device)
    whole = torch.empty(rows + rows * parts, dtype=torch.int32, device=device)
    return {
        "scores": torch.empty(rows, vocabulary, device=device),
        "bins": zeros[: 2 * bins].view(torch.int64),
        "rows_ended": zeros[2 * bins :][:rows],
        "sessions_ended": zeros[2 * bins + rows :],
        "states": torch.empty(rows, VERIFY_ROUNDS, STATE_WORDS, dtype=torch.int64, device=device),
        "row_sessions": whole[:rows],
        "part_tokens": whole[rows:],
        "scanned": torch.empty(3, rows, parts, device=device),
        "found": torch.empty(2, rows, parts, device=device),
    }


def _verdicts(rows: int, sessions: int, largest: int, device: torch.device) -> PackedFields:
    fields = {
        "lengths": ((sessions,), torch.int32),
        "paths": ((sessions, max(1, largest - 1)), torch.int32),
        "choices": ((rows,), torch.int32),
        "logprobs": ((rows,), torch.float32),
        "margins": ((rows,), torch.float32),
    }
    return PackedFields(fields, device)
