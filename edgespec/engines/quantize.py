"""int8 weights for ONNX Runtime: matrices in blocks of 8-bit integers with a scale each; all else in float32.

By onnxruntime's weight-only quantizer. A run rounds a product's input to 8 bits too, so an int8 engine is close to its
model but not equal; docs/engines.md has what that costs in acceptance.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import (  # type: ignore[import-untyped]
    MatMulNBitsQuantizer,
)
from onnxruntime.quantization.onnx_model import ONNXModel  # type: ignore[import-untyped]

from edgespec.engines.export import EXTERNAL_DATA_BYTES
from edgespec.engines.quiet import quiet

BITS = 8

BLOCK_SIZE = 128
"""Weights that share a scale. Blocks of 32 were slower and no closer to the model."""

MULTIPLY_AS_INT8 = 4
"""onnxruntime's accuracy level for integer products."""


def quantize(graph_file: Path) -> None:
    """Replace the graph's float32 matrices by integers, in the same file."""
    with quiet():
        graph = ONNXModel(onnx.load(str(graph_file)))
        graph.replace_gemm_with_matmul()
        quantizer = MatMulNBitsQuantizer(
            graph.model, bits=BITS, block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=MULTIPLY_AS_INT8
        )
        quantizer.process()
    quantized = quantizer.model
    quantized.remove_unused_constant()
    for left in (graph_file, Path(f"{graph_file}.data")):
        left.unlink(missing_ok=True)
    quantized.save_model_to_file(str(graph_file), quantized.model.ByteSize() > EXTERNAL_DATA_BYTES)
