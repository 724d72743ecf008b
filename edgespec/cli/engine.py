"""What `edgespec serve` runs its target with: the options of the target, and the engine that they choose.

Whatever runs it is a `TargetEngine` to the rest of the server.
"""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgespec.cli.extras import needs
from edgespec.cli.flags import option
from edgespec.core.errors import EdgespecError
from edgespec.core.generation_config import FILE, sampling_defaults
from edgespec.core.pacing import ForwardPacing
from edgespec.engines.model_folder import find_folder, name_of

if TYPE_CHECKING:
    from edgespec.model.target_engine import TargetEngine
    from edgespec.model.tensor_parallel import Leader

ENGINES = ("auto", "own")


@dataclass(frozen=True)
class Model:
    """The target and how it computes."""

    target: str | None = option(
        "Folder or Hugging Face id of the target, a causal language model.", show_default="the bundled target"
    )
    engine: str = option(
        "What runs the target. auto: edgespec's own engine, which verifies trees and sends hints.",
        "auto",
        type=click.Choice(ENGINES),
    )
    exits: str = option(
        "Folder of the target's exit heads; auto: `exits` in its folder; none: no exits.", "auto"
    )
    dtype: str = option(
        "Type of the weights. auto: float32 on a CPU, bfloat16 on a GPU.",
        "auto",
        type=click.Choice(["auto", "float64", "float32", "bfloat16", "float16"]),
    )
    device: str = option("Where torch computes, such as cpu or cuda:0.", "auto")
    threads: int | None = option("CPU threads.", show_default="torch decides", type=click.IntRange(1, 1024))
    kv_memory: str | None = option(
        "Memory for the keys and values of all sessions, such as 2GiB or 40%.",
        show_default="20% of what is free",
    )
    deterministic: bool = option(
        "Make results independent of what else the server runs, bit for bit. Slower, mostly for small batches.",
        False,
    )
    tensor_parallel: bool = option("Split the target over the processes that `torchrun` started.", False)
    generation_config: str = option(
        "Folder whose generation_config.json says how devices sample that ask for nothing else. auto: the target's; "
        "none: greedily.",
        "auto",
    )
    trust_remote_code: bool = option("Run Python code that the target's folder brings. Read it first.", False)

    def sampling_defaults(self) -> dict[str, object]:
        """What the chosen generation_config.json recommends. Raises EdgespecError."""
        if self.generation_config == "none":
            return {}
        named = self.generation_config != "auto"
        folder = Path(self.generation_config) if named else find_folder(self.target)
        if named and not (folder / FILE).is_file():
            raise EdgespecError(f"--generation-config: {folder} holds no {FILE}.")
        return sampling_defaults(folder)


def load_target(model: Model, pace: ForwardPacing | None) -> tuple[TargetEngine | None, Leader | None]:
    """The engine with its target loaded, and the leader where this process leads others. No engine: this process
    followed another one to its end. Raises EdgespecError."""
    with needs("server"):
        from edgespec.model.target import Target

        leader = _join_processes(model) if model.tensor_parallel else None
        if model.tensor_parallel and leader is None:
            return None, None
        options = asdict(model)
        exits = None if model.exits == "none" else model.exits
        for name in ("target", "exits", "tensor_parallel", "engine", "generation_config"):
            del options[name]
        return Target.load(model.target, exits, pace=pace, leader=leader, **options), leader


def load_engine(model: Model, pace: ForwardPacing | None) -> TargetEngine:
    """`load_target`, in one process."""
    engine, _ = load_target(model, pace)
    assert engine is not None
    return engine


def _join_processes(model: Model) -> Leader | None:
    """In the process that serves: the leader of the others. In each of the others: follow it to its end, then None."""
    import torch

    from edgespec.model import loading
    from edgespec.model.tensor_parallel import Leader, follow, join

    device = loading.choose_device(model.device)
    if join(device) == 0:
        return Leader()
    for number in (signal.SIGINT, signal.SIGTERM):  # a follower ends when the leader does
        signal.signal(number, signal.SIG_IGN)
    if model.threads is not None:
        torch.set_num_threads(model.threads)
    folder = find_folder(model.target)
    name = name_of(model.target, folder)
    dtype = loading.choose_dtype(model.dtype, device)
    follow(loading.load_model(folder, name, dtype, device, True, model.trust_remote_code))
    return None
