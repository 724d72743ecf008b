"""A transformers model -> the draft's graph -> ONNX. Needs torch and transformers: a workstation runs it.

The numbers of rows, slots, deciding rows and noise rows are open in the file; all other sizes are fixed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from edgespec.core.errors import EdgespecError, first_line
from edgespec.engines.draft_graph import DraftGraph, UnlikeLlama
from edgespec.engines.parity import graph_difference
from edgespec.engines.quiet import quiet

OPSET = 18
"""TensorRT 10.0, the oldest that opens our plans, reads up to opset 20."""

STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.float32}
"""By precision: the type in which the graph keeps matrices. On a GPU they multiply in that type too; on a CPU, which
multiplies halves slowly, as float32. quantize.py makes int8 of float32 matrices."""

EXTERNAL_DATA_BYTES = 1 << 30
"""Larger weights go into a separate file, because an ONNX file is limited to 2 GiB."""

SUPPORTED = "Llama, Mistral, Qwen2 and Qwen3"


def usable_length(config: Any, max_len: int) -> int:
    """Positions that an engine serves: at most max_len, the model's context, its window, its rotary range. Raises
    EdgespecError."""
    rope = getattr(config, "rope_parameters", None) or {}
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int):
        raise EdgespecError(
            f"the config of this {config.model_type} draft does not say how long its context is "
            "(max_position_embeddings): take a draft of the Llama family."
        )
    limits = [max_len, context]
    if rope.get("rope_type") in ("dynamic", "longrope"):
        limits.append(rope.get("original_max_position_embeddings") or context)
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if windowed and getattr(config, "sliding_window", None):
        limits.append(config.sliding_window)
    return int(min(limits))


def make_graph(model: Any, capacity: int, precision: str, for_gpu: bool = False) -> DraftGraph:
    """The draft's graph of `model`, checked to compute the same. Rounds the model's own weights to the stored type.

    for_gpu: matrices multiply in the type in which they are kept. Raises EdgespecError for layers that are not Llama's.
    """
    storage = STORAGE[precision]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(storage).float())
        if precision == "int8":
            table = model.get_input_embeddings().weight
            table.copy_(table.half().float())
        try:
            embedding = torch.float16 if precision == "int8" else storage
            graph = DraftGraph(model, capacity, storage, embedding=embedding).eval()
            difference = graph_difference(model, graph, capacity)
            if for_gpu and storage != torch.float32 and difference is None:
                graph = DraftGraph(model, capacity, storage, compute=storage).eval()
                difference = graph_difference(model, graph, capacity)
            if difference is not None:
                raise UnlikeLlama(f"its layers do not compute as Llama's do: {difference}")
        except (UnlikeLlama, RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise EdgespecError(
                f"{type(model).__name__} cannot be compiled ({first_line(error)}): "
                f"use a draft of the Llama family ({SUPPORTED})."
            ) from None
    return graph


def export_graph(graph: DraftGraph, file: Path) -> None:
    """Write the graph as ONNX; large weights go beside it into `draft.onnx.data`. Raises EdgespecError."""
    rows, slots, deciding, noises = 5, 192, 4, 3
    r, w, d, p = Dim("rows"), Dim("slots"), Dim("deciding"), Dim("noises")
    inputs: dict[str, tuple[torch.Tensor, dict[int, Any] | None]] = {
        "tokens": (torch.zeros(rows, dtype=torch.int32), {0: r}),
        "positions": (torch.arange(rows, dtype=torch.int32), {0: r}),
        "cached": (torch.zeros(rows, slots, dtype=torch.bool), {0: r, 1: w}),
        "among": (torch.ones(rows, rows, dtype=torch.bool).tril(), {0: r, 1: r}),
        "decide": (torch.arange(deciding, dtype=torch.int32), {0: d}),
        "noise": (torch.zeros(noises, graph.shape.vocabulary_size), {0: p}),
        "noise_rows": (torch.zeros(deciding, dtype=torch.int32), {0: d}),
        "inverse_temperature": (torch.tensor(1.0), None),
    }
    cache = graph.empty_cache(slots)
    weights = sum(parameter.nbytes for parameter in graph.parameters())
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                (*(example for example, _ in inputs.values()), cache),
                dynamo=True,
                dynamic_shapes=(*(dims for _, dims in inputs.values()), [{0: w} for _ in cache]),
                input_names=[*inputs, *(f"cache_{index}" for index in range(len(cache)))],
                output_names=["best", "scores", "rows"],
                opset_version=OPSET,
                verbose=False,
            )
            assert program is not None
            program.save(str(file), external_data=weights > EXTERNAL_DATA_BYTES)
    except (RuntimeError, ValueError, TypeError) as error:
        raise EdgespecError(
            f"torch {torch.__version__} cannot export the draft's graph ({first_line(error)}): "
            "use the versions that `pip install 'edgespec[compile]'` gives."
        ) from None
