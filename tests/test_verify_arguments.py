"""What verify refuses: every argument that does not fit is named, in every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, same_samplings
from numpy.typing import ArrayLike
from test_verify import positions, ragged

from edgespec.core.errors import EdgespecError
from edgespec.kernels.data import Trees
from edgespec.kernels.verify import verify


def trees_unchecked(offsets: ArrayLike, parents: ArrayLike, tokens: ArrayLike) -> Trees:
    return Trees(*(np.asarray(part, np.int32) for part in (offsets, parents, tokens)))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": [[0.0] * 9] * 3}, "logits must be a numpy array or a torch tensor, not list"),
        ({"logits": torch.zeros(9)}, "logits must be"),
        ({"logits": torch.zeros(0, 9)}, "logits must be"),
        ({"logits": torch.zeros(3, 0)}, "logits must be"),
        ({"logits": torch.zeros(3, 9, dtype=torch.int32)}, "logits must be float32 .* not int32: convert it"),
        ({"logits": torch.zeros(9, 3).T}, "logits must be contiguous"),
        ({"trees": trees_unchecked([0, 2], [-1, 0, 1], [-1, 2, 3])}, "offsets must rise"),
        ({"trees": trees_unchecked([1, 3], [-1, 0, 1], [-1, 2, 3])}, "offsets must rise"),
        ({"trees": trees_unchecked([0, 3], [-1, 1, 0], [-1, 2, 3])}, "parents must be an earlier row"),
        ({"trees": trees_unchecked([0, 3], [-1, 0, 1], [-1, -1, 3])}, "tokens must be ids .* not -1"),
        ({"trees": trees_unchecked([0, 3], [-1, 0, 1], [-1, 2, 9])}, "tokens must be ids .* not 9"),
        (
            {"positions": np.zeros(3)},
            r"positions must be int32, not float64: convert it with .astype\(np.int32",
        ),
        ({"positions": [1, 2, 3]}, "positions must be a numpy array or a torch tensor"),
        ({"positions": positions(2)}, r"positions must be \[3\]"),
        ({"positions": -positions(3)}, "positions must be 0 or more"),
        ({"samplings": same_samplings(2)}, r"temperatures must be \[1\]"),
        ({"samplings": same_samplings(1, temperature=-1.0)}, "temperatures must be"),
        ({"samplings": same_samplings(1, temperature=float("nan"))}, "temperatures must be"),
        ({"samplings": same_samplings(1, top_k=-1)}, "top_k must be 0 or more, not -1"),
        ({"samplings": same_samplings(1, top_p=0.0)}, "top_p must be"),
        ({"samplings": same_samplings(1, top_p=1.5)}, "top_p must be above 0 and at most 1, not 1.5"),
        ({"samplings": same_samplings(1, min_p=float("nan"))}, "min_p must be"),
        ({"samplings": same_samplings(1, repetition_penalty=0.0)}, "penalties must be"),
        ({"seen": ragged([0, 1], [3])}, r"seen.offsets must be \[4\]"),
        ({"biases": ragged([0, 1], [3], [1.0])}, r"biases.offsets must be \[4\]"),
        ({"seen": ragged([0, 2, 1, 2], [3, 4])}, "seen.offsets must be rising"),
        ({"seen": ragged([0, 1, 1, 1], [9])}, "seen.ids must be ids .* not 9"),
        ({"seen": ragged([0, 2, 2, 2], [3, 3])}, "seen.ids must be different"),
        ({"biases": ragged([0, 1, 1, 1], [-1], [1.0])}, "biases.ids must be ids"),
        ({"biases": ragged([0, 1, 1, 1], [3], [1.0, 2.0])}, r"biases.values must be \[1\]"),
        ({"biases": ragged([0, 1, 1, 1], [3], [np.inf])}, "biases.values must be finite"),
        ({"backend": "fast"}, "backend must be auto or reference or cpu or triton, not 'fast'"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str, backend: str) -> None:
    given = {
        "logits": torch.zeros(3, 9),
        "trees": Trees.of([0, 3], [-1, 0, 1], [-1, 2, 3]),
        "positions": positions(3),
        "samplings": same_samplings(1),
        "backend": backend,
        **changes,
    }
    with pytest.raises(EdgespecError, match=message):
        verify(**given)


def test_logits_on_another_device_are_named() -> None:
    logits = torch.zeros(1, 9, device="meta")
    with pytest.raises(EdgespecError, match="the rows must be on the CPU for cpu, not on meta"):
        verify(logits, Trees.single_rows(1), positions(1), same_samplings(1), backend="cpu")
