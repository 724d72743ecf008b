"""A target sharded over processes by transformers' tensor parallelism: rank 0 serves, the others follow.

Sessions, pages and sampling are rank 0's alone. Before each of the model's forwards it broadcasts what goes in, and it
broadcasts what is done to the key-value pool; a follower does the same to its shard. Started by torchrun; gloo on
CPUs, NCCL on GPUs."""

from __future__ import annotations

import os
from contextlib import nullcontext
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist

from edgespec.core.errors import EdgespecError
from edgespec.model.attention import Layout, attending, current_layout
from edgespec.model.cache_argument import NAMES, cache_argument
from edgespec.model.kv_cache import KvPool

IDLE_TIMEOUT = timedelta(days=365)
"""A follower waits for the next forward however long no session needs one."""


def join(device: torch.device) -> int:
    """Join the other processes; this one's rank. Raises EdgespecError outside torchrun, or without accelerate."""
    if "RANK" not in os.environ:
        raise EdgespecError(
            "--tensor-parallel needs a process a shard: torchrun --nproc-per-node 2 --no-python edgespec serve ..."
        )
    if find_spec("accelerate") is None:
        raise EdgespecError("a sharded target needs accelerate: pip install accelerate.")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=IDLE_TIMEOUT)
    return dist.get_rank()


def sharded_placement() -> dict[str, Any]:
    """How transformers loads this process's shard: by the model's own plan."""
    try:
        from transformers.distributed.configuration_utils import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    except (ImportError, TypeError):  # transformers 5.0 to 5.15
        return {"tp_plan": "auto"}


def check_divides(
    config: Any, name: str, processes: int | None = None, option: str = "--nproc-per-node"
) -> None:
    """Raises EdgespecError where the attention heads cannot be shared out among the processes, whose number `option`
    gives; None: those that have joined."""
    processes = processes or dist.get_world_size()
    for kind in ("num_key_value_heads", "num_attention_heads"):
        heads = getattr(config, kind, None)
        if isinstance(heads, int) and heads % processes:
            words = kind.removeprefix("num_").replace("_", "-").replace("-heads", " heads")
            fitting = [str(n) for n in range(1, heads + 1) if heads % n == 0]
            raise EdgespecError(
                f"{name} has {heads} {words}, which {processes} processes cannot share evenly: give {option} "
                f"{' or '.join(fitting)}."
            )


class Leader:
    """Rank 0, which tells the followers what runs. `pool_changed` is for `KvPool`; `lead` hooks it onto the model."""

    def __init__(self) -> None:
        self._inside = False
        self._config: Any = None

    def lead(self, model: Any) -> None:
        """From now on, broadcast the inputs of every forward of `model`, or of its decoder alone."""
        self._config = model.config.get_text_config()
        for name, module in (("model", model), ("decoder", model.base_model)):
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: self._begins(name, kwargs), with_kwargs=True
            )
        model.register_forward_hook(lambda *_: self._ends(), always_call=True)

    def pool_changed(self, what: str, *arguments: Any) -> None:
        _broadcast((what, *arguments))

    def end(self) -> None:
        """End the followers."""
        _broadcast(("end",))
        dist.destroy_process_group()

    def _begins(self, name: str, inputs: dict[str, Any]) -> None:
        if self._inside:
            return
        self._inside = name == "model"
        plain = {key: value for key, value in inputs.items() if key not in NAMES}
        pool = next((inputs[name] for name in NAMES if inputs.get(name) is not None), None)
        placed = None if pool is None else pool.placed
        window = getattr(self._config, "sliding_window", None)  # the self-check narrows it
        _broadcast(("forward", name, plain, placed, current_layout(), window))

    def _ends(self) -> None:
        self._inside = False


def follow(model: Any) -> None:
    """Run a follower: forwards of its shard, as rank 0 tells them, until rank 0 ends."""
    pool: KvPool | None = None
    while True:
        what, *arguments = _receive()
        if what == "end":
            dist.destroy_process_group()
            return
        if what == "pool":
            layers, pages, first = arguments
            pool = KvPool(layers, pages, like=None if first else pool)
        elif what == "forward":
            _forward(model, pool, *arguments)
        else:
            getattr(pool, what)(*arguments)


def _forward(
    model: Any,
    pool: KvPool | None,
    name: str,
    inputs: dict[str, Any],
    placed: Any,
    layout: Layout | None,
    window: int | None,
) -> None:
    if window is not None:
        model.config.get_text_config().sliding_window = window
    module = model if name == "model" else model.base_model
    if placed is not None:
        assert pool is not None
        pool.place(*placed)
        inputs[cache_argument(module)] = pool
    with torch.inference_mode(), nullcontext() if layout is None else attending(layout):
        module(**inputs)


def _broadcast(message: tuple[Any, ...]) -> None:
    dist.broadcast_object_list([message], src=0)


def _receive() -> tuple[Any, ...]:
    box: list[Any] = [None]
    dist.broadcast_object_list(box, src=0)
    message: tuple[Any, ...] = box[0]
    return message
