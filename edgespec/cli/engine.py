"""What `edgespec serve` runs its target with: the options of the target, and the engine that they choose.

Whatever runs it is a `TargetEngine` to the rest of the server. Options that an engine does not have are refused by
name.
"""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

ENGINES = ("auto", "own", "vllm", "llamacpp")

OWN_ONLY = (
    "exits",
    "device",
    "deterministic",
    "tensor_parallel",
    "trust_remote_code",
    "quantize",
    "exit_bits",
    "kv_dtype",
)
"""Options of edgespec's own engine, and --dtype for GGUF files; another one has `--engine-args`."""


@dataclass(frozen=True)
class Model:
    """The target and how it computes."""

    target: str | None = option(
        "Folder or Hugging Face id of the target, a causal language model.", show_default="the bundled target"
    )
    engine: str = option(
        "What runs the target. auto: edgespec's own engine; llamacpp: llama.cpp, for GGUF files; vllm: vLLM.",
        "auto",
        type=click.Choice(ENGINES),
    )
    engine_args: str | None = option(
        "Arguments of another engine, such as 'n_gpu_layers=20' or 'quantization=awq max_model_len=4096'.",
        metavar="'NAME=VALUE ...'",
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
    quantize: str | None = option(
        "Quantise the weights while they are loaded: nf4 needs bitsandbytes, int8 and fp8 need torchao. Texts are "
        "exactly those of the quantised target.",
        show_default="as the files hold them",
        type=click.Choice(["nf4", "int8", "fp8"]),
    )
    exit_bits: str = option(
        "Bits of the LM head that exits read on a GPU. 8 halves what they add to a forward; they only guess, so texts "
        "are the same.",
        "8",
        type=click.Choice(["8", "16"]),
    )
    kv_memory: str | None = option(
        "Memory for the keys and values of all sessions, such as 2GiB or 40%.",
        show_default="20% of what is free, on a GPU 75%",
    )
    kv_dtype: str = option(
        "Type of the keys and values that are kept. auto: that of the weights; fp8: 8-bit floats, half the memory of "
        "16 bits. Texts are exactly those of the target with such keys. On a GPU it needs compute capability 8.9; on a "
        "CPU it is slower.",
        "auto",
        type=click.Choice(["auto", "fp8"]),
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
        folder = Path(self.generation_config) if named else self.folder()
        if named and not (folder / FILE).is_file():
            raise EdgespecError(f"--generation-config: {folder} holds no {FILE}.")
        return sampling_defaults(folder)

    def folder(self) -> Path:
        """What lies beside the weights; of a GGUF file for llama.cpp, its tokenizer alone. Raises EdgespecError."""
        if self.engine == "llamacpp":
            from edgespec.model.llamacpp.gguf_files import gguf_file, tokenizer_folder

            return tokenizer_folder(gguf_file(self.target))
        return find_folder(self.target)

    def check(self) -> None:
        """Raises EdgespecError for options that the engine does not have."""
        if self.engine in ("auto", "own"):
            if self.engine_args is not None:
                raise EdgespecError(
                    "--engine-args are those of another engine: give --engine vllm or llamacpp."
                )
            split = ["--quantize"] * bool(self.quantize) + ["--kv-dtype"] * (self.kv_dtype != "auto")
            if split and self.tensor_parallel:
                raise EdgespecError(f"{split[0]} is not split over processes: leave --tensor-parallel out.")
            return
        self.arguments()
        accepted = {field.name: {field.default} for field in fields(self)} | {"exits": {"auto", "none"}}
        own_only = OWN_ONLY if self.engine == "vllm" else (*OWN_ONLY, "dtype")
        given = [name for name in own_only if getattr(self, name) not in accepted[name]]
        if given:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            raise EdgespecError(
                f"--engine {self.engine} does not have {names}: leave it out, or give --engine own."
            )

    def arguments(self) -> dict[str, Any]:
        """`engine_args`, by name; values are JSON where they can be read as such, else text. Raises EdgespecError."""
        try:
            items = shlex.split(self.engine_args or "")
        except ValueError as error:
            raise EdgespecError(f"--engine-args cannot be read ({error}): give 'NAME=VALUE ...'.") from None
        found = {}
        for item in items:
            name, equals, value = item.partition("=")
            if not name.isidentifier() or not equals:
                raise EdgespecError(f"--engine-args takes 'NAME=VALUE ...', not {item!r}.")
            try:
                found[name] = json.loads(value)
            except ValueError:
                found[name] = value
        return found


def load_target(model: Model, pace: ForwardPacing | None) -> tuple[TargetEngine | None, Leader | None]:
    """The engine with its target loaded, and the leader where this process leads others. No engine: this process
    followed another one to its end. Raises EdgespecError."""
    if model.engine == "llamacpp":
        return _load_llamacpp(model, pace), None
    if model.engine == "vllm":
        return _load_vllm(model, pace), None
    with needs("server"):
        from edgespec.model.target import Target

        leader = _join_processes(model) if model.tensor_parallel else None
        if model.tensor_parallel and leader is None:
            return None, None
        target = Target.load(
            model.target,
            exits=None if model.exits == "none" else model.exits,
            dtype=model.dtype,
            device=model.device,
            threads=model.threads,
            pace=pace,
            kv_memory=model.kv_memory,
            deterministic=model.deterministic,
            leader=leader,
            trust_remote_code=model.trust_remote_code,
            quantize=model.quantize,
            exit_bits=int(model.exit_bits),
            kv_dtype=model.kv_dtype,
        )
        return target, leader


def load_engine(model: Model, pace: ForwardPacing | None) -> TargetEngine:
    """`load_target`, in one process."""
    engine, _ = load_target(model, pace)
    assert engine is not None
    return engine


def _load_llamacpp(model: Model, pace: ForwardPacing | None) -> TargetEngine:
    with needs("llamacpp"):
        import llama_cpp  # noqa: F401
    with needs("server"):
        from edgespec.model.llamacpp.engine import LlamaCppEngine

        return LlamaCppEngine.load(
            model.target, model.threads, model.kv_memory, pace=pace, arguments=model.arguments()
        )


def _load_vllm(model: Model, pace: ForwardPacing | None) -> TargetEngine:
    if find_spec("vllm") is None:  # it is imported when its environment is set
        raise EdgespecError("this needs vllm: pip install 'edgespec[vllm]'.")
    with needs("server"):
        from edgespec.model.vllm.engine import VllmEngine

        return VllmEngine.load(
            model.target, model.dtype, model.threads, model.kv_memory, pace=pace, arguments=model.arguments()
        )


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
