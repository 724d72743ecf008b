"""An exit's guesses by the exit_head kernel: the LM head is read once, and no logits are written.

For exit heads of the target's own dtype and an LM head without bias. Where the native decoder holds the head, it reads
its own copy. Elsewhere `Target` guesses in torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.kernels import arguments
from edgespec.kernels.data import Cells, Curves, HeadSettings, Trees
from edgespec.kernels.exit_head import MAX_ROWS, exit_head
from edgespec.kernels.exit_hint import exit_hint
from edgespec.kernels.narrow_head import narrowed
from edgespec.kernels.side_stream import SideStream
from edgespec.model.backends import backend_on
from edgespec.model.decoder import NativeDecoder
from edgespec.model.exits import ExitHeads
from edgespec.model.hints import ListenedRows
from edgespec.model.quantised import is_whole
from edgespec.model.static_inputs import StaticInputs

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class KernelGuesses:
    """The guesses of `exits` through the LM head `weight` [V, D]. `wanted` makes one where the kernel fits. narrow: a
    head of halves is read as int8."""

    def __init__(
        self,
        exits: ExitHeads,
        weight: torch.Tensor,
        config: Any,
        backend: str,
        decoder: NativeDecoder | None,
        narrow: bool = False,
    ) -> None:
        self._exits = exits
        self._decoder = decoder
        self._weight = weight.detach()
        self._scales: torch.Tensor | None = None
        if narrow and weight.dtype != torch.float32 and backend != "cpu":
            self._weight, self._scales = narrowed(self._weight)
        self._backend = backend
        self._settings = HeadSettings(
            exits.norm_epsilon,
            (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0),
            getattr(config, "final_logit_softcapping", None) or 0.0,
        )

    @classmethod
    def wanted(
        cls,
        exits: object,
        head: torch.nn.Module,
        config: Any,
        decoder: NativeDecoder | None = None,
        narrow: bool = False,
    ) -> KernelGuesses | None:
        """None where the kernel does not fit. decoder: one that holds the head already."""
        if not isinstance(exits, ExitHeads) or not is_whole(head) or head.bias is not None:
            return None
        weight: Any = head.weight
        alike = all(exits.heads[layer].norm.dtype == weight.dtype for layer in exits.layers)
        backend = backend_on(weight.device)
        if backend is None or weight.dtype not in DTYPES or not weight.is_contiguous() or not alike:
            return None
        if weight.is_cuda and (weight.shape[1] % 16 or weight.data_ptr() % 16):
            return None  # the kernel reads 16 bytes at once
        return cls(exits, weight, config, backend, decoder, narrow)

    def pay(self, rows: int) -> bool:
        """Whether the kernel takes that many rows."""
        return rows <= MAX_ROWS

    def __call__(
        self, layer: int, hidden: torch.Tensor, rows: ListenedRows
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Tokens int32 [R] and margins float32 [R] for hidden rows [R, D] read after `layer`. A row that is not finite
        guesses token -1."""
        hidden = self._exits.adapted(layer, hidden).contiguous()
        norm = self._exits.heads[layer].norm
        if self._decoder is not None:
            columns = (rows.temperatures, rows.seeds, rows.positions)
            return self._decoder.guess(hidden, norm, self._exits.norm_epsilon, *columns)
        scores = exit_head(
            hidden,
            norm,
            self._weight,
            temperatures=rows.temperatures,
            seeds=rows.seeds,
            positions=rows.positions,
            scales=self._scales,
            settings=self._settings,
            backend=self._backend,
        )
        return arguments.on_host(scores.tokens), arguments.on_host(scores.margins)

    def publish(
        self,
        layer: int,
        hidden: torch.Tensor,
        inputs: StaticInputs,
        curves: Curves,
        curve_of: torch.Tensor,
        cells: Cells,
        beside: SideStream | None = None,
    ) -> None:
        """Write the cells of hidden rows [R, D] read after `layer`, which are the rows that `inputs` select. beside: as
        in exit_hint."""
        exit_hint(
            self._exits.adapted(layer, hidden).contiguous(),
            self._exits.heads[layer].norm,
            self._weight,
            temperatures=inputs.temperatures,
            seeds=inputs.seeds,
            positions=inputs.next_positions,
            scales=self._scales,
            trees=Trees(inputs.offsets, inputs.parents, inputs.tree_tokens),
            curves=curves,
            curve_of=curve_of,
            cells=cells,
            settings=self._settings,
            backend=self._backend,
            beside=beside,
        )


def scaled(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """The LM head's logits as the model's last step scales them (Cohere, Granite) or caps them (Gemma 2)."""
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits
