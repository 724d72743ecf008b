"""What exits add to a forward of a large target: one of Llama-2-7B's shape with random weights and three exits.

Forwards with hints and without take turns, on a text and a chain of drafts behind it, captured in CUDA graphs where
there is a GPU. Behind `edgespec kernels check`; it has not run on a GPU yet.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.model.exits import ExitHead, ExitHeads
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest, HintAddress

LLAMA_2_7B: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
EXIT_LAYERS, RANK = (8, 16, 24), 64
TEXT_LENGTH, ROWS, RUNS = 128, 8, 50
NEEDED_BYTES = 18 << 30


class Unread:
    """A watcher that reads nothing: what exits leave in cells is theirs to write all the same."""

    def arm(self, sequence: int, watches: Any) -> None:
        """A forward begins."""

    def retire(self, sequence: int) -> list[int]:
        """It has ended; nothing was sent."""
        return []


def large_target() -> Target:
    """Of Llama-2-7B's shape, on the GPU. Raises EdgespecError where it has not the room."""
    free_bytes, _ = torch.cuda.mem_get_info()
    if free_bytes < NEEDED_BYTES:
        raise EdgespecError(
            f"a target of 7 billion weights needs {NEEDED_BYTES >> 30} GiB on the GPU, and {free_bytes >> 30} are "
            "free: its exits were not timed."
        )
    return random_target(LLAMA_2_7B, EXIT_LAYERS, torch.device("cuda"), torch.bfloat16)


def random_target(
    shape: dict[str, Any], exit_layers: Sequence[int], device: torch.device, dtype: torch.dtype
) -> Target:
    """A Llama of this shape with random weights, and exits with random adapters after these layers."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    with torch.device(device):
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(LlamaConfig(**shape), dtype=dtype).eval()
    width = shape["hidden_size"]
    margins = np.linspace(0.0, 5.0, 50)
    heads = {
        layer: ExitHead(
            down=torch.randn(RANK, width, dtype=dtype, device=device) / width**0.5,
            up=torch.randn(width, RANK, dtype=dtype, device=device) / RANK**0.5,
            norm=torch.ones(width, dtype=dtype, device=device),
            calibration=Calibration.fit({0.8: margins}, {0.8: margins > 1.0}),
        )
        for layer in exit_layers
    }
    exits = ExitHeads(heads, 1e-5, shape["vocab_size"], "random")
    target = Target(LoadedModel(model, "random", bytes(32)), exits=exits, kv_memory="512MiB")
    if target.hint_cells is not None:
        target.hint_cells.mailbox = Unread()
    return target


def forward_ms(target: Target, runs: int = RUNS) -> tuple[float, float]:
    """Milliseconds of a forward of ROWS rows without hints and with them, medians of so many that take turns."""
    piece, decide, cache = _prepared(target)
    heard: list[ExitRows] = []
    watch = HintAddress(0, TEXT_LENGTH, 0, 0.0, np.ones(len(decide), np.uint32), lambda count: None)
    sampling = SamplingParams(temperature=0.8, seed=1)
    parts = (
        ForwardRequest(cache, piece, decide, sampling, 1),
        ForwardRequest(cache, piece, decide, sampling, 1, heard.append, hint_address=watch),
    )
    times: list[list[float]] = [[], []]
    for run in range(runs + 3):  # the first ones capture, where that is done
        for part, taken in zip(parts, times, strict=True):
            start_s = time.perf_counter()
            target.forward_batch([part])
            if run >= 3:
                taken.append((time.perf_counter() - start_s) * 1e3)
    cache.release()
    plain_ms, hinted_ms = (statistics.median(taken) for taken in times)
    return plain_ms, hinted_ms


def _prepared(target: Target) -> tuple[Any, Any, Any]:
    """A chain of drafts behind a text that is in the cache: the piece, its rows, the cache."""
    text = [1 + i % (target.vocabulary_size - 1) for i in range(TEXT_LENGTH)]
    cache, slots = target.open_cache(2 * TEXT_LENGTH), SlotMap(2 * TEXT_LENGTH)
    prompt = slots.plan(text, TEXT_LENGTH - 1, DraftTree(TEXT_LENGTH), [])
    target.forward_batch(
        [ForwardRequest(cache, prompt, np.zeros(0, np.int64), SamplingParams(temperature=0.0), 0)]
    )
    tree = DraftTree(TEXT_LENGTH)
    for node in range(1, ROWS):
        tree.add(node, ROOT if node == 1 else node - 1, 1 + node, 0.8)
    piece = slots.plan(text, TEXT_LENGTH, tree, list(tree))
    return piece, np.arange(len(piece)), cache
