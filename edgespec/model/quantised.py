"""Quantised weights: those that a model's folder holds, and those that are quantised while they are loaded.

The texts of such a target are exactly those of the quantised model: what a draft is verified against is quantised too.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from edgespec.core.errors import EdgespecError

LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "torchao": ("torchao", "accelerate"),
    "gptq": ("gptqmodel", "optimum", "accelerate"),
    "awq": ("gptqmodel", "accelerate"),
    "compressed-tensors": ("compressed_tensors", "accelerate"),
}
"""What transformers reads quantised weights with, by the method that the config names."""

NF4, INT8, FP8 = "nf4", "int8", "fp8"
METHODS = (NF4, INT8, FP8)
"""What `quantiser` knows: 4 bits by bitsandbytes, 8 by torchao. All of them keep activations in the model's type."""


def check_quantised(config: Any, name: str) -> bool:
    """Whether the folder's weights are quantised. Raises EdgespecError where they would give no exact text, or the
    libraries that read them are not installed."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return False
    named: dict[str, Any] = settings if isinstance(settings, dict) else vars(settings)
    method = str(getattr(named.get("quant_method", ""), "value", named.get("quant_method", "")))
    if method == "bitsandbytes" and (named.get("load_in_8bit") or named.get("_load_in_8bit")):
        raise EdgespecError(
            f"{name} is quantised by LLM.int8, whose results depend on what else a forward runs, so no text would be "
            "exact: quantise it to nf4 (load_in_4bit), or by GPTQ or AWQ."
        )
    _check_installed(method, f"{name} is quantised ({method})")
    return True


def is_whole(linear: Any) -> bool:
    """Whether a linear layer multiplies by its weights as they are. torchao swaps them in place, compressed-tensors
    takes them away or adds a scale, and both leave the layer a `torch.nn.Linear`."""
    if type(linear) is not torch.nn.Linear or "forward" in vars(linear):
        return False
    weight = getattr(linear, "weight", None)
    return weight is not None and type(weight.data) is torch.Tensor and weight.is_floating_point()


def quantiser(method: str, dtype: torch.dtype, quantised_already: bool, name: str) -> Any:
    """What transformers' `quantization_config` takes. Raises EdgespecError."""
    if method not in METHODS:
        raise EdgespecError(f"--quantize takes {', '.join(METHODS)}, not {method!r}.")
    if quantised_already:
        raise EdgespecError(f"{name} is quantised already: leave --quantize out.")
    if dtype == torch.float64:
        raise EdgespecError("quantised weights have no float64: give --dtype float32 or bfloat16.")
    _check_installed("bitsandbytes" if method == NF4 else "torchao", f"--quantize {method}")
    import transformers

    configs: Any = transformers
    if method == NF4:
        return configs.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    return configs.TorchAoConfig(Int8WeightOnlyConfig() if method == INT8 else Float8WeightOnlyConfig())


def keep_activations(model: Any) -> None:
    """Have bitsandbytes compute in the model's type on every CPU. Where a CPU has AVX512-BF16, its layers round
    activations and results to bfloat16 otherwise, and a row's result depends on the rows beside it."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _check_installed(method: str, what: str) -> None:
    missing = [library for library in LIBRARIES.get(method, ("accelerate",)) if find_spec(library) is None]
    if missing:
        names = [library.replace("_", "-") for library in missing]
        raise EdgespecError(f"{what}, which needs {' and '.join(names)}: pip install {' '.join(names)}.")
