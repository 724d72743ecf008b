"""Checks at the kernels' gate: shapes, types, layouts and values, before anything is launched.

An argument that does not fit raises EdgespecError, which names it, what was expected and what came. Torch is looked at,
never imported: an edge has none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError

BACKENDS = ("auto", "reference", "cpu", "triton")
HALVES = ("bfloat16", "float16")


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Raise EdgespecError unless `holds`."""
    if not holds:
        raise EdgespecError(f"{name} must be {expected}, not {got}: correct the call.")


def dtype_name(array: Any) -> str:
    """Such as float32 or bfloat16, of a numpy array or a torch tensor."""
    return str(array.dtype).removeprefix("torch.")


def is_tensor(array: object) -> bool:
    """A torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def device_of(array: Any) -> str:
    """ "cpu" or "cuda"."""
    return str(array.device.type) if is_tensor(array) else "cpu"


def matrix(name: str, array: Any, shape: tuple[int | str, ...], dtypes: Collection[str]) -> None:
    """Check an array's kind, type, shape and layout; a string in `shape` stands for any size of 1 and more."""
    require(
        is_tensor(array) or isinstance(array, np.ndarray),
        name,
        "a numpy array or a torch tensor",
        type(array),
    )
    require(dtype_name(array) in dtypes, name, " or ".join(dtypes), dtype_name(array))
    got = tuple(array.shape)
    fits = len(got) == len(shape) and all(
        size >= 1 if isinstance(want, str) else size == want for size, want in zip(got, shape, strict=True)
    )
    require(fits, name, "[" + ", ".join(map(str, shape)) + "]" + " with no size 0" * (0 in got), list(got))
    contiguous = array.is_contiguous() if is_tensor(array) else array.flags.c_contiguous
    require(bool(contiguous), name, "contiguous", "strided")


def vector(
    name: str, values: Any, size: int | None, dtype: Any, low: float = -np.inf, high: float = np.inf
) -> Any:
    """`values` as a numpy array [size] of `dtype` (a CUDA tensor stays one), each from `low` to `high`."""
    if device_of(values) == "cuda":
        require(values.dim() == 1 and size in (None, len(values)), name, f"[{size}]", list(values.shape))
        require(dtype_name(values) == np.dtype(dtype).name, name, np.dtype(dtype).name, dtype_name(values))
        return values
    given = np.asarray(values.numpy() if is_tensor(values) else values)
    wanted = f"[{'N' if size is None else size}]"
    require(given.ndim == 1 and size in (None, len(given)), name, wanted, list(given.shape))
    whole = np.dtype(dtype).kind in "iu"
    require(
        not whole or given.dtype.kind in "iu" or given.size == 0 or given.dtype == object,
        name,
        "whole numbers",
        given.dtype,
    )
    if given.size:
        smallest, largest = given.min(), given.max()
        inside = bool(smallest >= low and largest <= high)
        require(inside, name, f"from {low} to {high}", f"{smallest} to {largest}")
    array: NDArray[Any] = np.ascontiguousarray(given, dtype=dtype)
    return array


def seeds(name: str, values: Any, size: int) -> Any:
    """Seeds as uint64 [size]; signed 64-bit words are taken as bits, as torch keeps them."""
    if device_of(values) == "cuda":
        return vector(name, values, size, np.int64)
    given = np.asarray(values.numpy() if is_tensor(values) else values)
    if given.dtype == np.int64 and (given < 0).any():
        given = given.view(np.uint64)
    return vector(name, given, size, np.uint64, 0, 2**64 - 1)


def raw(array: Any) -> NDArray[Any]:
    """A CPU array or tensor as numpy, without a copy; bfloat16 as int16 words."""
    if is_tensor(array):
        torch = sys.modules["torch"]
        array = array.detach()
        return np.asarray(array.view(torch.int16).numpy() if array.dtype == torch.bfloat16 else array.numpy())
    given: NDArray[Any] = array.view(np.int16) if dtype_name(array) == "bfloat16" else array
    return given


def widened(array: Any) -> NDArray[Any]:
    """A CPU array or tensor as numpy float32, or float64 where it is that."""
    words, name = raw(array), dtype_name(array)
    wide: NDArray[Any]
    if name == "bfloat16":
        wide = (words.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        wide = words if name == "float64" else words.astype(np.float32)
    return wide


def rounded(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """float32 values rounded to the nearest of the type `name`, ties to even, still as float32."""
    if name == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if name == "bfloat16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        nearest = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(values), nearest.view(np.float32), values)
    return values


def on_device(values: Any, device: Any, dtype: Any) -> Any:
    """`values` as a torch tensor of `dtype` on `device`; uint64 as the bits of int64.

    Waits for nothing that runs there: what comes from the host's memory goes by pinned memory.
    """
    torch = sys.modules["torch"]
    if is_tensor(values) and values.device.type == device.type:
        return values.to(device=device, dtype=dtype)
    if not is_tensor(values):
        values = torch.from_numpy(values.view(np.int64) if values.dtype == np.uint64 else values)
    values = values.to(dtype=dtype)
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


def on_host(array: Any) -> NDArray[Any]:
    """A kernel's result as numpy; waits for the device where it was computed there."""
    return array.cpu().numpy() if is_tensor(array) else array  # type: ignore[no-any-return]


def choose_backend(backend: str, array: Any) -> str:
    """The backend that runs: "auto" is triton for CUDA tensors, cpu for others. Raises EdgespecError where the array
    is not where the backend runs."""
    require(backend in BACKENDS, "backend", " or ".join(BACKENDS), repr(backend))
    if backend != "auto":
        on_gpu = device_of(array) == "cuda" or (
            is_tensor(array) and os.environ.get("TRITON_INTERPRET") == "1"
        )
        require(
            backend != "triton" or on_gpu, "backend", "cpu or reference for arrays on the CPU", repr(backend)
        )
        return backend
    return "triton" if device_of(array) == "cuda" else "cpu"
