"""What the kernels ask of their arguments: type, shape, layout, device; and arrays as a backend reads them.

An argument that does not fit raises EdgespecError: which one, what was expected, what came, what to do. Torch is looked
at and never imported: an edge has none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError

BACKENDS = ("auto", "reference", "cpu", "triton")
HALVES = ("bfloat16", "float16")
INT32, UINT64 = np.dtype(np.int32), np.dtype(np.uint64)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

FLOAT8 = "float8_e4m3fn"
"""A type that keys and values may have in the pool: 4 bits of exponent, 3 of mantissa, no infinity."""

FLOAT8_MOST, FLOAT8_LEAST = 448.0, 2.0**-6
"""Its largest number, and the least with all bits of the mantissa."""


def require(holds: bool, name: str, expected: str, got: object, todo: str = "correct the call") -> None:
    """Raise EdgespecError unless `holds`."""
    if not holds:
        raise EdgespecError(f"{name} must be {expected}, not {got}: {todo}.")


def dtype_name(array: Any) -> str:
    """Such as float32 or bfloat16, of a numpy array or a torch tensor."""
    return str(array.dtype).removeprefix("torch.")


def is_tensor(array: object) -> bool:
    """A torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def device_of(array: Any) -> str:
    """The device's type, such as "cpu" or "cuda"."""
    return str(array.device.type) if is_tensor(array) else "cpu"


def matrix(name: str, array: Any, shape: tuple[int | str | None, ...], dtypes: Collection[str]) -> None:
    """Check an array's kind, type, shape and layout; a string in `shape` stands for any size of 1 and more, None for
    any size."""
    known = is_tensor(array) or isinstance(array, np.ndarray)
    require(known, name, "a numpy array or a torch tensor", type(array).__name__)
    how = (
        f"convert it with .astype(np.{next(iter(dtypes))})" if isinstance(array, np.ndarray) else "convert it"
    )
    require(dtype_name(array) in dtypes, name, " or ".join(dtypes), dtype_name(array), how)
    got = tuple(array.shape)
    fits = len(got) == len(shape) and all(
        want is None or (size >= 1 if isinstance(want, str) else size == want)
        for size, want in zip(got, shape, strict=True)
    )
    wanted = ", ".join("N" if want is None else str(want) for want in shape)
    require(fits, name, f"[{wanted}]" + " with no size 0" * (0 in got), list(got))
    contiguous = array.is_contiguous() if is_tensor(array) else array.flags.c_contiguous
    require(bool(contiguous), name, "contiguous", "strided", "make it contiguous")


def column(name: str, array: Any, dtype: np.dtype[Any], size: int | None) -> Any:
    """`array`, checked to be [size] (None: any size) of `dtype` and contiguous; a tensor in the host's memory as numpy.

    uint64 is int64 in a tensor, with the same bits.
    """
    seeds = dtype is UINT64 and is_tensor(array) and dtype_name(array) == "int64"
    if is_tensor(array) and array.device.type == "cpu":
        array = array.numpy().view(np.uint64) if seeds else array.numpy()
    if (
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.shape == (len(array) if size is None else size,)
        and array.flags.c_contiguous
    ):
        return array  # the usual case, at once
    matrix(name, array, (size,), ("int64",) if seeds and is_tensor(array) else (dtype.name,))
    return array


def in_range(name: str, array: Any, low: float, high: float) -> None:
    """Check that a numpy array's values lie from `low` to `high`; what is on a GPU is not read."""
    if isinstance(array, np.ndarray) and array.size:
        smallest, largest = array.min(), array.max()
        inside = bool(smallest >= low and largest <= high)
        require(inside, name, f"from {low} to {high}", f"{smallest} to {largest}")


def raw(array: Any) -> NDArray[Any]:
    """An array or a tensor in the host's memory as numpy, without a copy; bfloat16 as int16 words, 8-bit
    floats as bytes."""
    if is_tensor(array):
        torch = sys.modules["torch"]
        words = {torch.bfloat16: torch.int16, torch.float8_e4m3fn: torch.uint8}.get(array.dtype)
        array = array.detach()
        return np.asarray(array.numpy() if words is None else array.view(words).numpy())
    given: NDArray[Any] = array.view(np.int16) if dtype_name(array) == "bfloat16" else array
    return given


def widened(array: Any) -> NDArray[Any]:
    """An array or a tensor in the host's memory as numpy float32, or float64 where it is that."""
    words, name = raw(array), dtype_name(array)
    wide: NDArray[Any]
    if name == "bfloat16":
        wide = (words.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif name == FLOAT8:
        wide = _float8_numbers()[words]
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
    if name == FLOAT8:
        kept = np.clip(values, -FLOAT8_MOST, FLOAT8_MOST)
        powers = np.ldexp(np.float32(1), np.frexp(kept)[1] - 1)
        steps = np.maximum(powers, np.float32(FLOAT8_LEAST)) / np.float32(8)
        return np.asarray(np.rint(kept / steps) * steps, np.float32)
    return values


@lru_cache
def _float8_numbers() -> NDArray[np.float32]:
    """Of each byte."""
    codes = np.arange(256)
    exponents, mantissas = codes >> 3 & 15, codes & 7
    sizes = np.where(exponents == 0, mantissas * 2.0**-9, (8 + mantissas) * 2.0 ** (exponents - 10))
    sizes[[0x7F, 0xFF]] = np.nan
    return np.where(codes < 128, sizes, -sizes).astype(np.float32)


def on_device(values: Any, device: Any, dtype: Any) -> Any:
    """`values` as a torch tensor of `dtype` on `device`; uint64 as the bits of int64.

    Does not wait for the device: what comes from the host's memory goes by pinned memory.
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
    """The backend to run; "auto" is triton for CUDA tensors and cpu for others. Raises EdgespecError where it cannot
    read the array."""
    require(backend in BACKENDS, "backend", " or ".join(BACKENDS), repr(backend))
    on_gpu = device_of(array) == "cuda"
    if backend == "auto":
        return "triton" if on_gpu else "cpu"
    if backend == "triton":
        interpreted = is_tensor(array) and os.environ.get("TRITON_INTERPRET") == "1"
        require(on_gpu or interpreted, "backend", "cpu or reference for arrays on the CPU", repr(backend))
    else:
        require(device_of(array) == "cpu", "the rows", f"on the CPU for {backend}", f"on {device_of(array)}")
    return backend
