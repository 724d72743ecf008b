"""vLLM's engine core as edgespec starts it: its arguments, and the facts of the model that it loads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import vllm
from pydantic import ValidationError
from transformers import AutoConfig
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor
from vllm.v1.request import Request

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.target_identity import target_id
from edgespec.engines.model_folder import find_folder, name_of
from edgespec.model.exits import weights_sha256
from edgespec.model.loaded_model import token_ids
from edgespec.model.loading import tokenizer_hash
from edgespec.model.memory import available_bytes, kv_bytes, parse_memory
from edgespec.model.tensor_parallel import check_divides
from edgespec.model.vllm import environment

DRAFT_TOKENS = 16
"""The longest chain of one step."""

ENDLESS = 1 << 20

OURS = {
    "model", "tokenizer", "dtype", "speculative_config", "scheduler_cls", "worker_cls", "async_scheduling",
    "skip_tokenizer_init", "generation_config", "num_gpu_blocks_override",
}  # fmt: skip
"""Arguments that follow from edgespec's own options."""


def load_core(
    target: str | Path | None,
    dtype: str,
    threads: int | None,
    kv_memory: int | str | None,
    arguments: Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """vLLM's core and what `TargetEngine` says of the target. Raises EdgespecError."""
    folder = find_folder(target)
    _check_text_only(folder, name_of(target, folder))
    _set_memory(threads, kv_memory)
    if torch.cuda.is_available() and kv_memory is not None:
        free = available_bytes(torch.device("cuda"))
        arguments = {"kv_cache_memory_bytes": int(parse_memory(kv_memory, free)), **arguments}
    arguments = _checked(arguments)
    if (shards := int(arguments.get("tensor_parallel_size", 1))) > 1:
        config = AutoConfig.from_pretrained(folder).get_text_config()
        check_divides(config, name_of(target, folder), shards, "tensor_parallel_size")
    core = _core(folder, dtype, arguments)
    model = core.vllm_config.model_config
    kind = str(model.dtype).removeprefix("torch.")
    if model.quantization:
        kind = f"{model.quantization}-{kind}"
    text = model.hf_text_config
    ends = model.try_get_generation_config().get("eos_token_id", getattr(text, "eos_token_id", None))
    tokenizer = folder / "tokenizer.json"
    return core, {
        "target_id": target_id(
            name_of(target, folder), weights_sha256(folder), kind, f"vllm-{vllm.__version__}"
        ),
        "vocabulary_hash": tokenizer_hash(folder),
        "vocabulary_size": int(model.get_vocab_size()),
        "context_length": int(model.max_model_len),
        "end_tokens": token_ids(ends),
        "tokenizer_path": tokenizer if tokenizer.is_file() else None,
        "layers": int(text.num_hidden_layers),
    }


def request_of(core: Any, name: str, tokens: list[int], salt: bytes) -> Any:
    """A request that vLLM never ends by itself: how long a text is, the verifier says. salt: only requests of the same
    salt share prefixes."""
    params = SamplingParams(max_tokens=ENDLESS, ignore_eos=True, temperature=0.0)
    return Request(
        name, tokens, params, None, cache_salt=salt.hex() or None, block_hasher=core.request_block_hasher
    )


def _core(folder: Path, dtype: str, arguments: Mapping[str, Any]) -> Any:
    drafts = {
        "method": "custom_class",
        "model": "edgespec.model.vllm.hooks.NoProposer",
        "num_speculative_tokens": DRAFT_TOKENS,
    }
    try:
        config = EngineArgs(
            model=str(folder),
            dtype=dtype if dtype != "auto" or torch.cuda.is_available() else "float32",
            skip_tokenizer_init=True,
            generation_config="vllm",
            speculative_config=drafts,
            scheduler_cls="edgespec.model.vllm.hooks.EdgeScheduler",
            worker_cls="edgespec.model.vllm.hooks.EdgeWorker",
            async_scheduling=False,
            **{"enforce_eager": not torch.cuda.is_available(), **arguments},
        ).create_engine_config()
        if config.use_v2_model_runner:
            raise EdgespecError(environment.OTHER_RUNNER)
        return EngineCore(config, Executor.get_class(config), log_stats=False)
    except EdgespecError:
        raise
    except Exception as error:
        # A ValidationError's first line says only how many errors there are.
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise EdgespecError(f"vLLM cannot serve {folder} ({first_line(what)}).") from None


def _check_text_only(folder: Path, name: str) -> None:
    """Raises EdgespecError for a target that reads pictures or sounds."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "vision_config" in config or "audio_config" in config:
        raise EdgespecError(
            f"{name} reads more than text, which edgespec does not pass on to vLLM: serve it by --engine own."
        )


def _checked(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in arguments.items():
        if name in OURS:
            raise EdgespecError(f"--engine-args {name} follows from edgespec's own options: leave it out.")
        if name not in EngineArgs.__dataclass_fields__:
            raise EdgespecError(f"vLLM {vllm.__version__} has no argument {name}: see its EngineArgs.")
        if name in ("pipeline_parallel_size", "data_parallel_size") and value != 1:
            raise EdgespecError(
                f"--engine vllm does not offer {name}: give tensor_parallel_size for a larger model, and start "
                "another server for more devices."
            )
    return arguments


def _set_memory(threads: int | None, kv_memory: int | str | None) -> None:
    """vLLM reads the size of a CPU's key-value memory from the environment, in whole GiB; a GPU's it finds itself."""
    if threads is not None:
        torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        cpu = torch.device("cpu")
        wanted = kv_bytes(kv_memory, available_bytes(cpu), cpu)
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(wanted / 2**30)))
