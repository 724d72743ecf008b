"""What torch does around verify's launches, counted on a stand-in for a GPU that holds no numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import same_samplings
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgespec.kernels import verify_launch
from edgespec.kernels.costs import GPUS, VERIFY_COPIES, VERIFY_OF_TORCH, verify_cost
from edgespec.kernels.data import Trees

THERE = torch.device("meta")


class OnDevice(TorchDispatchMode):
    """Counts what runs on the stand-in: no views, no empty memory."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        made = [one for one in tree_leaves(result) if torch.is_tensor(one)]
        there = any(one.device == THERE for one in made)
        if there and not function.is_view and not name.startswith("empty"):
            self.ran[name] += 1
        return result


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (50, 1.0), (0, 0.9), (50, 0.9)])
def test_verify_is_counted_with_what_torch_does_around_it(
    top_k: int, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, vocabulary = 8, 32_000
    counter = OnDevice()
    launched: list[str] = []
    monkeypatch.setattr(verify_launch, "launch", lambda kernel, *_: launched.append(kernel))
    logits = torch.empty(rows, vocabulary, device=THERE)
    given = Trees.single_rows(rows), np.arange(rows, dtype=np.int32)
    samplings = same_samplings(rows, temperature=0.8, top_k=top_k, top_p=top_p)
    verify_launch._nothing.cache_clear()
    verify_launch.verify(logits, *given, samplings, None, None)  # makes what is made once
    launched.clear()
    with counter:
        verify_launch.verify(logits, *given, samplings, None, None)
    up = counter.ran.pop("copy_")
    counted = verify_cost(GPUS[0], rows, vocabulary, 2, top_k > 0, top_p < 1)
    assert counter.ran.total() == VERIFY_OF_TORCH, counter.ran
    assert up == VERIFY_COPIES - 1  # verdicts come down behind the last launch
    assert len(launched) + counter.ran.total() == counted.launches
