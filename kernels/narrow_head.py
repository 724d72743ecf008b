"""An LM head of 8 bits, for exits: they only guess, and reading the head is nearly all that they take.

Token v's numbers are round(w / scale), and the scale is the largest of them over 127. A product with int8 is that with
the numbers themselves, since halves hold them exactly; the scale comes behind the sum.
"""

from __future__ import annotations

import torch

LARGEST = 127

TOKENS_AT_ONCE = 8192
"""So that the whole head never lies in float32."""


def narrowed(head: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(int8 [V, D], float32 scales [V]) of a head [V, D]."""
    narrow = torch.empty(head.shape, dtype=torch.int8, device=head.device)
    scales = torch.empty(len(head), device=head.device)
    for first in range(0, len(head), TOKENS_AT_ONCE):
        some = slice(first, first + TOKENS_AT_ONCE)
        wide = head[some].float()
        scales[some] = wide.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        narrow[some] = (wide / scales[some, None]).round_().to(torch.int8)
    return narrow, scales
