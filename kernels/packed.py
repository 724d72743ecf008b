"""Named tensors in one buffer of a device, with twins in the host's memory, so that one copy moves all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch

from edgespec.kernels import arguments

ALIGNMENT = 256
"""Bytes: of each field in the buffer, as CUDA allocates."""

Field = tuple[tuple[int, ...], torch.dtype]


class PackedFields:
    """Named tensors, `device`, which hold anything until a copy, and their twins `host`, of zeros (pinned where there
    is a GPU)."""

    def __init__(self, fields: Mapping[str, Field], device: torch.device) -> None:
        starts, end = {}, 0
        for name, (shape, dtype) in fields.items():
            starts[name] = end
            end += -(-prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self._on_device = torch.empty(end, dtype=torch.uint8, device=device)
        self.copied: Any = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        """Passed when the last copy is done with the host's twins; None: copies end before they return."""

        self._fields, self._starts = fields, starts
        self.device = self._views(self._on_device)

    @cached_property
    def _on_host(self) -> torch.Tensor:
        """Made when it is needed: a capture may not take pinned memory."""
        device = self._on_device.device.type
        return torch.zeros(len(self._on_device), dtype=torch.uint8, pin_memory=device == "cuda")

    @cached_property
    def host(self) -> dict[str, torch.Tensor]:
        return self._views(self._on_host)

    def _views(self, buffer: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            name: buffer[self._starts[name] :][: prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for name, (shape, dtype) in self._fields.items()
        }

    def upload(self) -> None:
        """Copy all fields from the host's twins, in the order of the current stream, without waiting for it."""
        self._on_device.copy_(self._on_host, non_blocking=True)
        if self.copied is not None:
            self.copied.record()

    def download(self) -> dict[str, torch.Tensor]:
        """Copy all fields to the host's twins, and wait for them."""
        self._on_host.copy_(self._on_device, non_blocking=True)
        if self.copied is not None:
            self.copied.record()
        self.wait()
        return self.host

    def wait(self) -> None:
        """Until the host's twins may be written: an upload may still be waiting for the forward before it."""
        if self.copied is not None:
            self.copied.synchronize()


def on_device(columns: Sequence[tuple[Any, torch.dtype]], device: torch.device) -> list[Any]:
    """Each column, an array or a tensor, as a tensor of its dtype on `device`; what lies on the host goes there
    by one copy. uint64 keeps its bits as int64."""
    found: list[Any] = [one for one, _ in columns]
    moved = {}
    for place, (values, dtype) in enumerate(columns):
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.view(np.int64) if values.dtype == np.uint64 else values)
        if device.type == "cpu" or values.device.type == device.type:
            found[place] = arguments.on_device(values, device, dtype)
        else:
            moved[str(place)] = (values, dtype)
    if moved:
        packed = PackedFields(
            {name: (tuple(one.shape), dtype) for name, (one, dtype) in moved.items()}, device
        )
        for name, (values, _) in moved.items():
            packed.host[name].copy_(values)
            found[int(name)] = packed.device[name]
        packed.upload()
    return found
