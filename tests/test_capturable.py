"""Captured forwards use nothing that a CUDA graph cannot hold: operators that read results back to the host, have
shapes that depend on them, or make a tensor from Python's numbers. Looked for on the CPU, in every family of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_target_batch import Text
from tiny_models import FAMILIES, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "lift_fresh"}
"""So do an index by booleans, and repetitions by a tensor."""


class CaptureRules(TorchDispatchMode):
    """Remembers which operators a GPU could not capture."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, tensors = function.overloadpacket.__name__, tree_leaves(args[1:])
        by_tensor = "Tensor" in function._overloadname
        by_booleans = any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in tensors)
        if (
            name in WAITS
            or (name.startswith("index") and by_booleans)
            or (name == "repeat_interleave" and by_tensor)
        ):
            self.broken.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_captured_forward_reads_nothing_back(family: str) -> None:
    model = tiny(family, torch.float32)
    target = Target(LoadedModel(model, "tiny", bytes(32)), kv_memory="16MiB", native=False)
    rules = CaptureRules()

    def capture(function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        function()
        with rules:
            return lambda: None, function()

    target.use_graphs(capture)
    text = Text(target, 9, 1)
    target.forward_batch([text.part(6)])
    target.forward_batch([text.part(9, 3)])
    assert rules.broken == set()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: bool(x.any()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
        (lambda x: x + torch.tensor([1.0, 2.0]), "lift_fresh"),
    ],
)
def test_what_cannot_be_captured_is_noticed(function: Callable[[torch.Tensor], Any], name: str) -> None:
    with CaptureRules() as rules:
        function(torch.ones(2))
    assert name in rules.broken
