"""A transformers model -> the draft's graph -> ONNX. Needs torch and transformers: a workstation runs it.

The numbers of rows, slots, deciding rows and noise rows are open in the file; all other sizes are fixed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.pixel_scale import CLIP, PixelScale, processor_settings
from edgespec.engines.draft_graph import DraftGraph, UnlikeLlama
from edgespec.engines.parity import graph_difference
from edgespec.engines.quiet import quiet
from edgespec.engines.seeing_graph import SeeingGraph
from edgespec.engines.vision_graph import VisionGraph
from edgespec.tensorrt_engines.draft_shape import EyesShape

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


def make_graph(
    model: Any, capacity: int, precision: str, for_gpu: bool = False, eyes: EyesShape | None = None
) -> DraftGraph:
    """The draft's graph of `model`, checked to compute the same. Rounds the model's own weights to the stored type.

    for_gpu: matrices multiply in the type in which they are kept. eyes: of a vision-language model. Raises
    EdgespecError for layers that are not Llama's.
    """
    storage = STORAGE[precision]
    make = DraftGraph if eyes is None else partial(SeeingGraph, eyes=eyes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(storage).float())
        if precision == "int8":
            table = model.get_input_embeddings().weight
            table.copy_(table.half().float())
        try:
            embedding = torch.float16 if precision == "int8" else storage
            graph = make(model, capacity=capacity, storage=storage, embedding=embedding).eval()
            difference = graph_difference(model, graph, capacity)
            if for_gpu and storage != torch.float32 and difference is None:
                graph = make(model, capacity=capacity, storage=storage, compute=storage).eval()
                difference = graph_difference(model, graph, capacity)
            if difference is not None:
                raise UnlikeLlama(f"its layers do not compute as Llama's do: {difference}")
        except (UnlikeLlama, RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise EdgespecError(
                f"{type(model).__name__} cannot be compiled ({first_line(error)}): "
                f"use a draft of the Llama family ({SUPPORTED})."
            ) from None
    return graph


def make_vision(
    folder: Path, model: Any, eyes: EyesShape, precision: str, for_gpu: bool = False
) -> VisionGraph:
    """The vision encoder of the `model` in `folder`, whose weights `make_graph` has rounded. Raises EdgespecError where
    it is not Qwen2-VL's."""
    scale = PixelScale.of(processor_settings(folder), CLIP)
    storage = torch.float32 if precision == "fp32" else torch.float16
    compute = storage if for_gpu else torch.float32
    try:
        with torch.no_grad():
            return VisionGraph(model.model.visual, scale, eyes, storage, compute).eval()
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise EdgespecError(
            f"the vision encoder of {type(model).__name__} cannot be compiled ({first_line(error)}): use a draft of "
            "Qwen2-VL's family, or one of text alone."
        ) from None


def export_vision(vision: VisionGraph, file: Path) -> None:
    """Write the vision encoder as ONNX. Raises EdgespecError."""
    pixels = torch.zeros(vision.shape.height, vision.shape.width, 3, dtype=torch.uint8)
    _export(vision, (pixels,), None, ["pixels"], ["features"], file)


def export_graph(graph: DraftGraph, file: Path) -> None:
    """Write the graph as ONNX. Raises EdgespecError."""
    rows, slots, deciding, noises = 5, 192, 4, 3
    r, w, d, p = Dim("rows"), Dim("slots"), Dim("deciding"), Dim("noises")
    places = torch.arange(rows, dtype=torch.int32)
    inputs: dict[str, tuple[torch.Tensor, dict[int, Any] | None]] = {
        "tokens": (torch.zeros(rows, dtype=torch.int32), {0: r}),
        "positions": (places, {0: r}),
        "cached": (torch.zeros(rows, slots, dtype=torch.bool), {0: r, 1: w}),
        "among": (torch.ones(rows, rows, dtype=torch.bool).tril(), {0: r, 1: r}),
        "decide": (torch.arange(deciding, dtype=torch.int32), {0: d}),
        "noise": (torch.zeros(noises, graph.shape.vocabulary_size), {0: p}),
        "noise_rows": (torch.zeros(deciding, dtype=torch.int32), {0: d}),
        "inverse_temperature": (torch.tensor(1.0), None),
    }
    if (eyes := graph.shape.eyes) is not None:
        inputs["positions"] = places.repeat(3, 1), {1: r}
        inputs["pictured"] = torch.zeros(rows, dtype=torch.bool), {0: r}
        inputs["features"] = torch.zeros(rows, eyes.features), {0: r}
    cache = graph.empty_cache(slots)
    _export(
        graph,
        (*(example for example, _ in inputs.values()), cache),
        (*(dims for _, dims in inputs.values()), [{0: w} for _ in cache]),
        [*inputs, *(f"cache_{index}" for index in range(len(cache)))],
        ["best", "scores", "rows"],
        file,
    )


def _export(
    graph: torch.nn.Module,
    examples: tuple[Any, ...],
    open_dimensions: Any,
    inputs: list[str],
    outputs: list[str],
    file: Path,
) -> None:
    """Large weights go beside the file into one named `.data`."""
    weights = sum(parameter.nbytes for parameter in graph.parameters())
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                examples,
                dynamo=True,
                dynamic_shapes=open_dimensions,
                input_names=inputs,
                output_names=outputs,
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
