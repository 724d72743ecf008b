"""What a target's memory and weights allow, said before a session finds out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import save, tiny

from edgespec.cli.serve import fitting
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.model import loading, memory, tensor_parallel
from edgespec.model.decoder import NativeDecoder
from edgespec.model.loaded_model import LoadedModel

GIB = 1 << 30
LLAMA_7B_PAGE_BYTES = 2 * 2 * 32 * 32 * 128 * SLOT_BUCKET


def of(count: int) -> Any:
    return SimpleNamespace(count=count, size=SLOT_BUCKET)


def test_a_gpu_of_24_gb_holds_three_whole_contexts_of_llama_2_7b(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 24e9 - 2 * 6.74e9 - 0.6e9  # its weights in 16 bits, and what CUDA itself takes
    monkeypatch.setattr(memory, "available_bytes", lambda device: free)
    pages = memory.kv_pages(None, LLAMA_7B_PAGE_BYTES, torch.device("cuda"), "llama")
    sessions = int(fitting(of(pages), 4096).split()[1])
    assert sessions >= 3
    on_cpu = memory.kv_pages(None, LLAMA_7B_PAGE_BYTES, torch.device("cpu"), "llama")
    assert on_cpu < pages / 3


def test_a_memory_that_holds_no_whole_context_says_what_it_does_hold() -> None:
    assert fitting(of(65 + 2), 4096) == "edgespec: 1 sessions of 4096 tokens fit"
    assert "texts of 1983 tokens do; raise --kv-memory" in fitting(of(32), 4096)


def test_llm_int8_is_refused_by_name(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EdgespecError, match=r"LLM\.int8.*nf4") as caught:
        loading.load_model(folder, "tiny", torch.float32, torch.device("cpu"))
    assert "\n" not in str(caught.value)


class Quantised(torch.Tensor):
    """A tensor that holds its numbers in its own way, as torchao's do."""


def test_weights_of_another_kind_run_on_the_models_own_modules() -> None:
    model = LoadedModel(tiny(dtype=torch.float32), "tiny", b"")
    assert NativeDecoder.wanted(model) is not None
    linear = model.module.model.layers[0].mlp.up_proj
    linear.weight = torch.nn.Parameter(linear.weight.detach().as_subclass(Quantised), requires_grad=False)
    assert NativeDecoder.wanted(model) is None


def test_heads_that_processes_cannot_share_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_parallel.dist, "get_world_size", lambda: 4)
    tensor_parallel.check_divides(SimpleNamespace(num_key_value_heads=8, num_attention_heads=32), "llama")
    with pytest.raises(EdgespecError, match=r"6 key-value heads, which 4 processes .* 1 or 2 or 3 or 6"):
        tensor_parallel.check_divides(SimpleNamespace(num_key_value_heads=6), "llama")
