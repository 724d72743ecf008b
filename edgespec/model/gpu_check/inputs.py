"""What the steps of a check give to kernels: random rows, logits and samplings, the same in every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgespec.core.errors import EdgespecError
from edgespec.kernels.data import Samplings
from edgespec.model.backends import backend_on
from edgespec.model.gpu_check.place import Place

MODES = {"greedy": (0.0, 0, 1.0), "open": (0.8, 0, 1.0), "top-k + top-p": (0.8, 50, 0.95)}
"""Temperature, top-k and top-p."""


def backend_of(place: Place) -> str:
    backend = backend_on(place.device)
    if backend is None:
        raise EdgespecError("no kernel runs on this device: the log says why.")
    return backend


def exit_arguments(place: Place, rows: int, vocabulary: int, dtype: torch.dtype) -> list[torch.Tensor]:
    random = torch.Generator(place.device).manual_seed(11)
    shapes = (rows, place.width), (place.width,), (vocabulary, place.width)
    hidden, norm, head = (torch.randn(one, generator=random, device=place.device) for one in shapes)
    return [one.to(dtype) for one in (hidden, norm.abs() + 0.5, head / 8)]


def logits_of(place: Place, rows: int, vocabulary: int, dtype: torch.dtype) -> torch.Tensor:
    random = torch.Generator(place.device).manual_seed(11)
    return (3 * torch.randn(rows, vocabulary, generator=random, device=place.device)).to(dtype)


def columns(rows: int) -> dict[str, Any]:
    temperatures = np.where(np.arange(rows) % 2, 0.8, 0.0).astype(np.float32)
    positions = np.arange(rows, dtype=np.int32) + 50
    return {"temperatures": temperatures, "seeds": np.full(rows, 3, np.uint64), "positions": positions}


def columns_on(place: Place, rows: int) -> dict[str, Any]:
    """`columns` where a captured launch reads them: on a GPU, with seeds as the bits of int64."""
    if place.device.type == "cpu":
        return columns(rows)
    with_seeds = {**columns(rows), "seeds": np.full(rows, 3)}
    return {name: torch.from_numpy(column).to(place.device) for name, column in with_seeds.items()}


def samplings_of(mode: str, rows: int) -> Samplings:
    temperature, top_k, top_p = MODES[mode]
    columns = (temperature, float), (top_k, np.int32), (top_p, float), (0, float), (1, float), (3, np.uint64)
    return Samplings(*(np.full(rows, value, kind) for value, kind in columns))
