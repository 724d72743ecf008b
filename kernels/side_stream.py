"""A CUDA stream beside a forward's: what is launched there holds up no layer. In a captured graph it is a branch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SideStream:
    """One of a device; each forward that uses it ends with `join`."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._kept: list[torch.Tensor] = []

    @contextmanager
    def behind_this_one(self, *kept: torch.Tensor) -> Iterator[None]:
        """Within, launches go to the side, behind all that the current stream has been given. kept: what they read and
        write; its memory is nobody else's until `join`."""
        self._stream.wait_stream(torch.cuda.current_stream())
        self._kept += kept
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """What the current stream is given from now on runs behind all that is here."""
        torch.cuda.current_stream().wait_stream(self._stream)
        self._kept.clear()
